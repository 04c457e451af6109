"""Stores to run the contract against: memory, SQLite, and PostgreSQL where its binaries exist."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from controlplane.store.open import open_store
from controlplane.store.protocol import Store
from tests.contract import postgres

OpenStore = Callable[[], Store]


_database_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """URL of a PostgreSQL server with `{}` for a database's name."""
    binaries = postgres.find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (no initdb on PATH or in /usr/lib/postgresql)")
    with postgres.running_server(binaries) as url:
        yield url


def _new_postgresql_database(server_url: str) -> str:
    name = f"riseml_{next(_database_numbers)}"
    with psycopg.connect(server_url.format("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    return server_url.format(name)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new, empty store's URL."""
    if request.param == "sqlite":
        return f"sqlite://{quote(str(tmp_path / 'store.db'))}"
    if request.param == "postgresql":
        return _new_postgresql_database(request.getfixturevalue("postgresql_url"))
    return "memory:"


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A new, empty store of each kind."""
    opened = open_store(store_url)
    yield opened
    opened.close()


@pytest.fixture
def durable_url(store_url: str) -> str:
    """The URL of a store that outlives its process."""
    if store_url == "memory:":
        pytest.skip("the memory store keeps nothing")
    return store_url
