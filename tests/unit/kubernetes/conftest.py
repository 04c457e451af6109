"""A fake API server for each test, and our client on it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane.launch.kubernetes.http_api import KubernetesApi
from tests.unit.kubernetes.fake_api import FakeApi


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with FakeApi() as server:
        yield server


@pytest.fixture
def slept() -> list[float]:
    """The pauses that the client made, or would have made."""
    return []


@pytest.fixture
async def api(server: FakeApi, tmp_path: Path, slept: list[float]) -> AsyncIterator[KubernetesApi]:
    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with KubernetesApi(
        server.kubeconfig(tmp_path), sleep=sleep, rng=random.Random(1)
    ) as client:
        yield client
