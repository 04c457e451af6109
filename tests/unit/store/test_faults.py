"""Disks that are full, files that are held: a clear word, nothing lost, and on again."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.changes import Insert, Update
from controlplane.domain.errors import InvalidRequest, StoreUnavailable
from controlplane.store.connection import SqliteConnection
from controlplane.store.open import open_store
from controlplane.store.sql_store import SqlStore
from tests.contract.objects import experiment, job, spec

LARGE = 64 * 1024


def opened(path: Path) -> SqlStore:
    store = open_store(f"sqlite://{path}")
    assert isinstance(store, SqlStore)
    return store


def large_batch(first: int, count: int) -> list[Insert]:
    """Experiments with specs of 64 KiB."""
    return [
        Insert(experiment(number, spec=spec(install=("x" * LARGE,))))
        for number in range(first, first + count)
    ]


def test_a_full_database_refuses_the_batch_and_works_again_with_room(tmp_path: Path) -> None:
    store = opened(tmp_path / "store.db")
    writer = store.writer
    assert isinstance(writer, SqliteConnection)
    store.commit([Insert(experiment(1))], 1)
    writer.limit_size(1 << 20)
    with pytest.raises(StoreUnavailable, match="free some space") as raised:
        store.commit(large_batch(2, 40), 2)
    assert raised.value.reason == "STORE_FULL"
    assert [one.id for one in store.load(0.0).experiments] == ["ana.1"]
    # What needs no new page still goes through: running experiments can end.
    store.commit([Update(experiment(1, message="still here"))], 2)
    writer.limit_size(None)
    store.commit(large_batch(2, 40), 3)
    assert len(store.load(0.0).experiments) == 41
    store.close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_database_that_another_program_holds_is_named_as_locked(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = opened(path)
    store.writer.execute("PRAGMA busy_timeout = 20")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="close the other program") as raised:
            store.commit([Insert(experiment(1))], 1)
        assert raised.value.reason == "STORE_LOCKED"
        # Reading goes on meanwhile.
        assert store.load(0.0).experiments == ()
        other.execute("ROLLBACK")
    store.commit([Insert(experiment(1))], 1)
    assert store.experiment("ana.1") == experiment(1)
    store.close()


def test_a_commit_survives_a_connection_that_was_lost(tmp_path: Path) -> None:
    store = opened(tmp_path / "store.db")
    store.commit([Insert(experiment(1))], 1)
    store.writer.drop()
    store.commit([Insert(experiment(2))], 2)
    assert len(store.load(0.0).experiments) == 2
    store.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreUnavailable, match="not a database") as raised:
        open_store(f"sqlite://{path}")
    assert raised.value.reason == "STORE_DAMAGED"


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="check that its folder exists"):
        open_store(f"sqlite://{tmp_path / 'nowhere' / 'store.db'}")


@pytest.mark.parametrize("url", ["store.db", "sqlite://", "sqlite://host/x", "mysql://x/y", ""])
def test_a_url_that_names_no_database_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="sqlite:///absolute/path"):
        open_store(url)


def test_a_size_limit_in_the_url_holds(tmp_path: Path) -> None:
    store = open_store(f"sqlite://{tmp_path / 'store.db'}?size_limit_bytes=1000000")
    with pytest.raises(StoreUnavailable, match="free some space"):
        store.commit(large_batch(1, 40), 1)
    store.commit(large_batch(1, 2), 1)
    store.close()
    with pytest.raises(InvalidRequest, match="size_limit_bytes"):
        open_store(f"sqlite://{tmp_path / 'store.db'}?mode=memory")


def test_awkward_paths_are_just_paths(tmp_path: Path) -> None:
    path = tmp_path / "a ?mode=memory& #1%.db"
    store = SqlStore(SqliteConnection(path, writer=True), SqliteConnection(path, writer=False))
    store.commit([Insert(experiment(1))], 1)
    store.close()
    assert path.exists()


def test_commits_are_durable_and_readers_do_not_block(tmp_path: Path) -> None:
    store = opened(tmp_path / "store.db")

    def pragma(name: str) -> object:
        return store.writer.database.execute_sql(f"PRAGMA {name}").fetchone()[0]

    assert pragma("journal_mode") == "wal"
    assert pragma("synchronous") == 2
    assert pragma("foreign_keys") == 1
    assert pragma("busy_timeout") == 5000
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_refuses_batches_until_there_is_room(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\0" * (1 << 20))
    store = opened(small_disk / "store.db")
    store.commit([Insert(experiment(1)), Insert(job(experiment(1)))], 1)
    for _ in range(3):
        with pytest.raises(StoreUnavailable) as raised:
            store.commit(large_batch(2, 20), 2)
        assert raised.value.reason == "STORE_FULL"
        assert [one.id for one in store.load(0.0).experiments] == ["ana.1"]
    ballast.unlink()
    store.commit(large_batch(2, 4), 2)
    assert len(store.load(0.0).experiments) == 5
    store.close()
    with closing(sqlite3.connect(small_disk / "store.db")) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


class LosesTheAnswer(SqliteConnection):
    """Commits, and then fails as a broken network would, when told to."""

    lose_next = False

    def execute(self, statement: str, values: Iterable[Any] = ()) -> int:
        count = super().execute(statement, values)
        if statement == "COMMIT" and self.lose_next:
            self.lose_next = False
            raise ConnectionResetError("the answer is lost")
        return count


def test_a_commit_whose_answer_is_lost_counts_as_done(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    writer = LosesTheAnswer(path, writer=True)
    store = SqlStore(writer, SqliteConnection(path, writer=False))
    writer.lose_next = True
    store.commit([Insert(experiment(1))], 1)
    assert store.load(0.0).change_number == 1
    store.commit([Insert(experiment(2))], 2)
    assert len(store.load(0.0).experiments) == 2
    store.close()
