"""kill -9 of the control plane: no experiment is lost, none runs twice, no byte of output is
missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from riseml.client import Client
from riseml.v1 import state_pb2
from tests.integration.cluster import (
    Cluster,
    output,
    running_cluster,
    spec,
    submit,
    wait_for,
)

QUEUED = 200
RUNNING = 4

# Waits for the starting signal, prints random bytes, and says in the ledger what it printed.
JOB = """
while [ ! -e {folder}/go ]; do sleep 0.05; done
head -c 6000 /dev/urandom | base64 > printed
cat printed
echo "$EXPERIMENT_ID $RISEML_ATTEMPT $(sha256sum < printed | cut -d' ' -f1)" >> {folder}/ledger
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running_cluster() as started:
        yield started


def states(client: Client) -> dict[str, int]:
    return {e.id: e.state for e in client.experiments.list()}


def read_ledger(folder: Path) -> list[list[str]]:
    path = folder / "ledger"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.timeout(240)
def test_kill_9_of_the_control_plane_loses_nothing_and_runs_nothing_twice(
    cluster: Cluster,
) -> None:
    folder = cluster.home / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    client = cluster.client()
    node = next(iter(client.nodes.list()))
    wanted = spec(JOB.format(folder=folder), cpu_milli=node.cpu_milli // RUNNING)
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: submit(client, wanted), range(QUEUED + RUNNING)))
    assert len(set(ids)) == QUEUED + RUNNING
    wait_for(
        lambda: list(states(client).values()).count(state_pb2.STATE_RUNNING) == RUNNING,
        f"{RUNNING} to run",
    )

    cluster.control_plane.kill()
    cluster.start_control_plane()
    found = states(client)
    assert set(found) == set(ids), "an acknowledged experiment is gone"
    assert list(found.values()).count(state_pb2.STATE_PENDING) == QUEUED

    # Once more in the middle of the turnover, when attempts start and end all the time.
    (folder / "go").touch()
    wait_for(lambda: len(read_ledger(folder)) > 40, "the queue to move")
    cluster.control_plane.kill()
    cluster.start_control_plane()
    wait_for(
        lambda: set(states(client).values()) == {state_pb2.STATE_FINISHED},
        "all to finish",
        seconds=180,
    )

    ledger = read_ledger(folder)
    assert sorted(line[0] for line in ledger) == sorted(ids), "one ran twice, or not at all"
    assert {line[1] for line in ledger} == {"1"}
    for experiment_id, _, sha256 in ledger:
        printed = output(client, f"{experiment_id}.train.1-1")
        assert hashlib.sha256(printed).hexdigest() == sha256
