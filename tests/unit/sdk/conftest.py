"""A fake cluster and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from riseml.client import Client
from tests.unit.sdk.fake_cluster import FakeCluster
from tests.unit.sdk.fake_services import client_of, serving


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def address(cluster: FakeCluster) -> Iterator[str]:
    with serving(cluster) as found:
        yield found


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with client_of(address) as made:
        yield made
