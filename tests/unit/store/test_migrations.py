"""Old databases are brought up to date; newer ones are refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import peewee
import pytest

from controlplane.domain.errors import FailedPrecondition
from controlplane.domain.states import State
from controlplane.store.migrations import (
    MIGRATIONS,
    SQLITE,
    Migration,
    applied_versions,
    migrate,
)
from controlplane.store.open import open_store
from controlplane.store.tables import BY_TYPE

OLD = Path(__file__).with_name("store_schema_1.sql")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Any]:
    made: Any = peewee.SqliteDatabase(str(tmp_path / "store.db"))
    yield made
    made.close()


def adds_column(version: int) -> Migration:
    def statements(_: object) -> Sequence[str]:
        return (f"ALTER TABLE users ADD COLUMN more_{version} TEXT NOT NULL DEFAULT ''",)

    return Migration(version, f"column {version}", statements)


def test_versions_count_from_one_without_gaps() -> None:
    assert [step.version for step in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))


def test_a_database_of_the_first_schema_opens_with_everything_in_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as old:
        old.executescript(OLD.read_text())
    store = open_store(f"sqlite://{path}")
    live = store.load(0.0)
    assert live.change_number == 41
    assert [user.name for user in live.users] == ["ana"]
    assert live.nodes[0].inventory.gpus[0].model == "H100"
    assert [one.id for one in live.experiments] == ["ana.2", "ana.2.1", "ana.2.2"]
    assert live.experiments[1].state is State.RUNNING
    assert [one.id for one in live.attempts] == ["ana.2.1.train.1-1"]
    assert live.last_numbers == (("ana", 2),)
    done = store.experiment_by_request("ana", "r-1")
    assert done is not None and done.spec.priority == 70
    assert store.attempts(["ana.1"])[0].final_log_offset == 1234
    assert store.revision("ana", "f" * 64) is not None
    store.close()


def test_an_old_database_ends_up_with_the_schema_of_a_new_one(tmp_path: Path) -> None:
    def schema(path: Path) -> list[tuple[str, str]]:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name")
            return [(name, " ".join(str(sql).split()).replace('"', "")) for name, sql in rows]

    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        old.executescript(OLD.read_text())
    for name in ("old.db", "new.db"):
        open_store(f"sqlite://{tmp_path / name}").close()
    assert schema(tmp_path / "old.db") == schema(tmp_path / "new.db")


def test_steps_that_are_there_are_not_taken_again(database: Any) -> None:
    assert migrate(database, SQLITE) == [step.version for step in MIGRATIONS]
    assert migrate(database, SQLITE) == []
    more = (*MIGRATIONS, adds_column(len(MIGRATIONS) + 1))
    assert migrate(database, SQLITE, more) == [len(MIGRATIONS) + 1]


def test_a_step_that_fails_leaves_the_schema_before_it(database: Any) -> None:
    migrate(database, SQLITE)
    newest = len(MIGRATIONS)

    def broken(_: object) -> Sequence[str]:
        return ("ALTER TABLE users ADD COLUMN half TEXT", "ALTER TABLE nowhere ADD COLUMN x TEXT")

    steps = (*MIGRATIONS, adds_column(newest + 1), Migration(newest + 2, "broken", broken))
    with pytest.raises(peewee.OperationalError):
        migrate(database, SQLITE, steps)
    assert max(applied_versions(database)) == newest + 1
    columns = [column.name for column in database.get_columns("users")]
    assert "half" not in columns and f"more_{newest + 1}" in columns


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path / 'store.db'}"
    open_store(url).close()
    with closing(sqlite3.connect(tmp_path / "store.db")) as newer, newer:
        newer.execute("INSERT INTO schema_migrations VALUES (99, 'from the future', 0)")
    with pytest.raises(FailedPrecondition, match="schema version 99") as raised:
        open_store(url)
    assert raised.value.reason == "DATABASE_TOO_NEW"


def test_every_column_that_is_written_is_in_the_schema(database: Any) -> None:
    migrate(database, SQLITE)
    for table in BY_TYPE.values():
        present = {column.name for column in database.get_columns(table.name)}
        assert set(table.codec.columns) <= present
