"""What only PostgreSQL does: a server that cuts connections, and a second control plane."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from controlplane.domain.changes import Insert
from controlplane.domain.errors import StoreUnavailable
from controlplane.store.connection import PostgresqlConnection
from controlplane.store.open import open_store
from controlplane.store.protocol import Store
from tests.contract.objects import experiment


@pytest.fixture
def url(postgresql_url: str) -> Iterator[str]:
    with psycopg.connect(postgresql_url.format("postgres"), autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS only_here")
        admin.execute("CREATE DATABASE only_here")
    yield postgresql_url.format("only_here")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_store(url)
    yield opened
    opened.close()


def cut_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_server_that_cuts_connections_fails_one_call_and_serves_the_next(
    store: Store, url: str
) -> None:
    store.commit([Insert(experiment(1))], 1)
    assert len(store.load(0.0).experiments) == 1
    cut_connections(url)
    with pytest.raises(StoreUnavailable, match="Nothing was changed"):
        store.commit([Insert(experiment(2))], 2)
    with pytest.raises(StoreUnavailable):
        store.load(0.0)
    store.commit([Insert(experiment(2))], 2)
    assert [one.id for one in store.load(0.0).experiments] == ["ana.1", "ana.2"]


def test_a_second_control_plane_is_refused(
    store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresqlConnection, "lock_seconds", 0.2)
    with pytest.raises(StoreUnavailable, match="Another control plane"):
        open_store(url)
    store.commit([Insert(experiment(1))], 1)


def test_a_server_that_is_not_there_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("none")
    with pytest.raises(StoreUnavailable, match="check that the database server runs"):
        open_store(f"postgresql:///riseml?host={folder}&user=riseml")
