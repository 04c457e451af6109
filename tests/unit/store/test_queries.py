"""What is asked often does not read the whole store: SQLite's own plan says how it looks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.changes import Change, Insert
from controlplane.domain.states import AttemptState, State
from controlplane.store import sql_reads
from controlplane.store.open import open_store
from controlplane.store.protocol import ExperimentQuery
from controlplane.store.sql_store import SqlStore
from tests.contract.objects import START, attempt, experiment, job, spec


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_store(f"sqlite://{tmp_path / 'store.db'}")
    assert isinstance(opened, SqlStore)
    yield opened
    opened.close()


@contextmanager
def plans(store: SqlStore) -> Iterator[list[str]]:
    """The plans of the statements that are run on the writer's connection meanwhile."""
    database = store.writer.database
    connection = database.connection()
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    found: list[str] = []
    yield found
    connection.set_trace_callback(None)
    for statement in statements:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        found.extend(str(row[-1]) for row in rows)


QUERIES: dict[str, Any] = {
    "one": lambda db: sql_reads.experiment(db, "ana.1"),
    "by request": lambda db: sql_reads.experiment_by_request(db, "ana", "r"),
    "jobs": lambda db: sql_reads.jobs(db, ["ana.1"]),
    "attempts": lambda db: sql_reads.attempts(db, ["ana.1"]),
    "attempt": lambda db: sql_reads.attempt(db, "ana.1.train.1-1"),
    "children": lambda db: sql_reads.children_by_state(db, ["ana.1"]),
    "a user's page": lambda db: sql_reads.experiment_page(db, ExperimentQuery(user_name="ana")),
    "a set's page": lambda db: sql_reads.experiment_page(db, ExperimentQuery(set_id="ana.1")),
    "what runs": lambda db: sql_reads.experiment_page(
        db, ExperimentQuery(states=(State.RUNNING, State.PENDING))
    ),
    "retention": lambda db: sql_reads.ended_between(db, 1.0, 2.0, 10),
}


@pytest.mark.parametrize("name", QUERIES)
def test_it_is_found_through_an_index(store: SqlStore, name: str) -> None:
    with plans(store) as found:
        QUERIES[name](store.writer.database)
    assert found
    scans = [step for step in found if step.startswith("SCAN") and "INDEX" not in step]
    assert scans == []


def test_starting_reads_only_what_lives(store: SqlStore) -> None:
    with plans(store) as found:
        sql_reads.live_state(store.writer.database, START)
    large = ("experiments", "jobs", "attempts", "specs")
    scans = [
        step
        for step in found
        if step.startswith("SCAN") and "INDEX" not in step and any(t in step for t in large)
    ]
    assert scans == []


_PROBE = """
import sys
from controlplane.store.open import open_store
from controlplane.store.protocol import ExperimentQuery

def resident_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

store = open_store(sys.argv[1])
before = resident_kib()
live = store.load(0.0)
store.experiments(ExperimentQuery(user_name="ana"))
assert len(live.experiments) == 1
assert "psycopg" not in sys.modules
print(resident_kib() - before)
"""


def test_finished_experiments_cost_no_memory(store: SqlStore, tmp_path: Path) -> None:
    number = 0
    for batch in range(20):
        changes: list[Change] = []
        for _ in range(500):
            number += 1
            done = experiment(number, state=State.FINISHED, end_time=START, spec=spec())
            changes += [Insert(done), Insert(job(done))]
            changes.append(Insert(attempt(job(done), state=AttemptState.EXITED)))
        store.commit(changes, batch + 1)
    store.commit([Insert(experiment(number + 1))], 21)
    if not os.path.exists("/proc/self/status"):
        pytest.skip("resident memory is read from /proc")
    grown = subprocess.run(
        [sys.executable, "-c", _PROBE, f"sqlite://{tmp_path / 'store.db'}"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(grown.stdout) < 8 * 1024
