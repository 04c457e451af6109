"""kill -9 of noded, and a network that is cut: jobs go on, and what they did arrives later."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from riseml.client import Client
from riseml.spec.model import RetryPolicy
from riseml.v1 import job_pb2, node_pb2, state_pb2
from tests.integration.cluster import (
    Cluster,
    output,
    running_cluster,
    spec,
    submit,
    wait_for,
    wait_state,
)
from tests.integration.proxy import cuttable_proxy

LEASE_SECONDS = 2.0

# Prints until told to stop; says how often it was started, and what it printed.
JOB = """
echo started >> {folder}/starts
n=0
while [ ! -e {folder}/stop ]; do
  n=$((n+1)); echo "line $n of $EXPERIMENT_ID"; echo "line $n of $EXPERIMENT_ID" >> {folder}/printed
  sleep 0.02
done
exit 7
"""


def shared_folder(cluster: Cluster) -> Path:
    folder = cluster.home / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def lines_printed(folder: Path) -> int:
    path = folder / "printed"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def only_attempt(client: Client, experiment_id: str) -> job_pb2.Attempt:
    """The experiment's attempt; fails if it ever had a second one."""
    (job,) = client.experiments.get(experiment_id).experiment.jobs
    (attempt,) = job.attempts
    return attempt


def check_ended_with_all_its_output(client: Client, experiment_id: str, folder: Path) -> None:
    ended = wait_state(client, experiment_id, state_pb2.STATE_FAILED)
    assert "7" in ended.message
    attempt = only_attempt(client, experiment_id)
    assert attempt.exit_code == 7
    printed = output(client, attempt.id)
    assert (
        hashlib.sha256(printed).digest()
        == hashlib.sha256((folder / "printed").read_bytes()).digest()
    )
    assert (folder / "starts").read_text() == "started\n", "it was started twice"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ends", ["while noded is down", "after noded is back"])
def test_kill_9_of_noded_leaves_the_job_running_and_its_end_arrives_later(ends: str) -> None:
    with running_cluster() as cluster:
        folder = shared_folder(cluster)
        client = cluster.client()
        experiment_id = submit(client, spec(JOB.format(folder=folder)))
        wait_state(client, experiment_id, state_pb2.STATE_RUNNING)
        wait_for(lambda: lines_printed(folder) > 10, "output")

        cluster.nodes["n1"].kill()
        before = lines_printed(folder)
        wait_for(lambda: lines_printed(folder) > before + 20, "the job to go on without noded")
        if ends == "while noded is down":
            (folder / "stop").touch()
            time_of_end = lines_printed(folder)
            wait_for(lambda: lines_printed(folder) >= time_of_end, "the last line")
        cluster.start_node()
        if ends == "after noded is back":
            before = lines_printed(folder)
            wait_for(lambda: lines_printed(folder) > before + 20, "the job to go on with noded")
            (folder / "stop").touch()
        check_ended_with_all_its_output(client, experiment_id, folder)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ends", ["during the cut", "after the cut"])
def test_a_cut_network_marks_the_attempt_lost_after_the_lease_and_never_runs_it_twice(
    ends: str,
) -> None:
    options = ("--lease-seconds", str(LEASE_SECONDS), "--heartbeat-seconds", "0.3")
    with running_cluster(*options, node=False) as cluster, cuttable_proxy(cluster.address) as net:
        cluster.start_node(server=net.address)
        folder = shared_folder(cluster)
        client = cluster.client()
        experiment_id = submit(client, spec(JOB.format(folder=folder)))
        wait_state(client, experiment_id, state_pb2.STATE_RUNNING)

        net.cut()
        cut_at = time.monotonic()
        wait_for(lambda: only_attempt(client, experiment_id).node_lost, "NODE_LOST")
        # The last word may have come up to a heartbeat before the cut.
        assert time.monotonic() - cut_at > LEASE_SECONDS - 0.5, "lost before its lease ran out"
        cluster.wait_node("n1", node_pb2.NODE_STATE_LOST)
        lost = client.experiments.get(experiment_id).experiment
        assert lost.state == state_pb2.STATE_RUNNING
        assert lost.reason == "NODE_LOST"
        before = lines_printed(folder)
        wait_for(lambda: lines_printed(folder) > before + 50, "the job to go on meanwhile")
        if ends == "during the cut":
            (folder / "stop").touch()

        net.heal()
        cluster.wait_node("n1", node_pb2.NODE_STATE_READY)
        if ends == "after the cut":
            wait_for(
                lambda: not only_attempt(client, experiment_id).node_lost, "it to be found running"
            )
            (folder / "stop").touch()
        check_ended_with_all_its_output(client, experiment_id, folder)


@pytest.mark.timeout(60)
def test_a_cut_shorter_than_the_lease_is_not_even_mentioned() -> None:
    options = ("--lease-seconds", "10", "--heartbeat-seconds", "0.3")
    with running_cluster(*options, node=False) as cluster, cuttable_proxy(cluster.address) as net:
        cluster.start_node(server=net.address)
        folder = shared_folder(cluster)
        client = cluster.client()
        experiment_id = submit(client, spec(JOB.format(folder=folder)))
        wait_state(client, experiment_id, state_pb2.STATE_RUNNING)
        net.cut()
        before = lines_printed(folder)
        wait_for(lambda: lines_printed(folder) > before + 50, "a while to pass")
        assert not only_attempt(client, experiment_id).node_lost
        net.heal()
        (folder / "stop").touch()
        check_ended_with_all_its_output(client, experiment_id, folder)


@pytest.mark.timeout(120)
def test_who_opts_in_runs_elsewhere_after_its_shim_has_stopped_the_lost_attempt() -> None:
    options = ("--lease-seconds", str(LEASE_SECONDS), "--heartbeat-seconds", "0.3")
    with running_cluster(*options, node=False) as cluster, cuttable_proxy(cluster.address) as net:
        cluster.start_node(server=net.address, options=("--output-shared",))
        folder = shared_folder(cluster)
        client = cluster.client()
        # Each attempt says when it lives; two that live at once would interleave.
        job = (
            f"while true; do echo $RISEML_ATTEMPT $(date +%s%N) >> {folder}/lives; sleep 0.05; "
            f"[ ! -e {folder}/stop ] || exit 0; done"
        )
        wanted = spec(job, retry=RetryPolicy(("node_lost",), 3))
        experiment_id = submit(client, wanted)
        wait_state(client, experiment_id, state_pb2.STATE_RUNNING)
        cluster.start_node("n2", options=("--output-shared",))

        net.cut()

        def second_attempt_lives() -> bool:
            return "\n2 " in (folder / "lives").read_text()

        wait_for(second_attempt_lives, "a second attempt", seconds=60)
        (folder / "stop").touch()
        wait_state(client, experiment_id, state_pb2.STATE_FINISHED)
        lives = [line.split() for line in (folder / "lives").read_text().splitlines()]
        attempts = [int(attempt) for attempt, _ in lives]
        assert attempts == sorted(attempts), "two attempts lived at once"
        net.heal()
        cluster.wait_node("n1", node_pb2.NODE_STATE_READY)
