"""What breaks around running pods, and that nothing is lost, doubled or started too early."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from kubernetes import client as kube

from riseml.spec.model import RetryPolicy
from riseml.v1 import node_pb2, state_pb2
from tests.e2e.conftest import PartsControl
from tests.e2e.platform import ATTEMPT, POD_SECONDS, PodCluster, job, pod_cluster
from tests.integration.cluster import ENDED, output, submit, wait_for, wait_state

pytestmark = pytest.mark.timeout(600)
LEASE_SECONDS = 6


@pytest.fixture(scope="module")
def platform(
    api: kube.ApiClient, request: pytest.FixtureRequest, image_prefix: str
) -> Iterator[PodCluster]:
    """With a lease that runs out while tests wait."""
    host = request.config.getoption("--control-plane-host")
    with pod_cluster(kube.CoreV1Api(api), host, image_prefix) as cluster:
        cluster.control_plane.stop()
        cluster.control_plane_options += ["--lease-seconds", str(LEASE_SECONDS)]
        cluster.start_control_plane()
        yield cluster


def pods_of(platform: PodCluster, experiment_id: str) -> list[str]:
    """Attempts of which there are pods."""
    found = [pod.metadata.annotations[ATTEMPT] for pod in platform.pods()]
    return [attempt_id for attempt_id in found if attempt_id.startswith(f"{experiment_id}.")]


def count_lines(platform: PodCluster, attempt_id: str, lines: int) -> None:
    """Each line is there once and in its place."""
    said = output(platform.client(), attempt_id).decode().splitlines()
    assert said == [f"line {number}" for number in range(lines)]


def slow(lines: int, seconds: float = 0.5) -> str:
    return f"n=0; while [ $n -lt {lines} ]; do echo line $n; n=$((n+1)); sleep {seconds}; done"


def test_a_silent_kubelet_keeps_what_it_runs(platform: PodCluster, parts: PartsControl) -> None:
    """For a minute nobody hears of the node. Although the experiment asks for another try when its
    node is lost, there is no second pod: the first runs on, and is found running or done."""
    client = platform.client()
    retry = RetryPolicy(max_retries=3, on_events=("node_lost", "error"))
    experiment_id = submit(client, job(slow(65, 1.0), retry=retry))
    wait_state(client, experiment_id, state_pb2.STATE_RUNNING, seconds=POD_SECONDS)
    (name,) = {pod.spec.node_name for pod in platform.pods() if pod.spec.node_name}
    stopped = time.monotonic()
    with parts.stopped("kubelet"):
        wait_for(
            lambda: [n for n in client.nodes.list() if n.state == node_pb2.NODE_STATE_LOST],
            "the node to be LOST",
            60,
        )
        until = stopped + 60
        while time.monotonic() < until:
            assert pods_of(platform, experiment_id) == [f"{experiment_id}.train.1-1"]
            time.sleep(1)
        found = client.experiments.get(experiment_id).experiment
        assert not state_pb2.State.Name(found.state).endswith("PENDING")
        assert name in found.message
    found = wait_state(client, experiment_id, *ENDED, seconds=2 * POD_SECONDS)
    assert found.state == state_pb2.STATE_FINISHED, found
    assert len(found.jobs[0].attempts) == 1
    count_lines(platform, f"{experiment_id}.train.1-1", 65)


def test_an_api_server_that_restarts_costs_nothing(
    platform: PodCluster, parts: PartsControl
) -> None:
    client = platform.client()
    running = [submit(client, job(slow(20))) for _ in range(3)]
    for experiment_id in running:
        wait_state(client, experiment_id, state_pb2.STATE_RUNNING, seconds=POD_SECONDS)
    with parts.stopped("kube-apiserver"):
        # Submitted while nobody can be told.
        running.append(submit(client, job(slow(3))))
        time.sleep(3)
    for experiment_id in running:
        found = wait_state(client, experiment_id, *ENDED, seconds=2 * POD_SECONDS)
        assert found.state == state_pb2.STATE_FINISHED, found
        assert len(found.jobs[0].attempts) == 1
    for experiment_id, lines in zip(running, (20, 20, 20, 3), strict=True):
        count_lines(platform, f"{experiment_id}.train.1-1", lines)


@pytest.mark.parametrize("kills", [4])
def test_a_control_plane_that_is_killed_takes_its_pods_over(
    platform: PodCluster, kills: int
) -> None:
    """Killed as soon as a new pod shows: it exists, and nothing is recorded of it yet."""
    client = platform.client()
    ids = [submit(client, job(slow(6))) for _ in range(6)]
    seen: set[str] = set()
    made: dict[str, set[str]] = {}

    def note() -> bool:
        fresh = False
        for pod in platform.pods():
            attempt_id = pod.metadata.annotations[ATTEMPT]
            made.setdefault(attempt_id, set()).add(pod.metadata.uid)
            fresh = fresh or pod.metadata.uid not in seen
            seen.add(pod.metadata.uid)
        return fresh

    for _ in range(kills):
        wait_for(note, "a new pod", POD_SECONDS)
        platform.control_plane.kill()
        platform.start_control_plane()
        ids.append(submit(platform.client(), job(slow(6))))
    client = platform.client()
    for experiment_id in ids:
        wait_for(
            lambda experiment_id=experiment_id: (
                note()  # type: ignore[misc]
                or client.experiments.get(experiment_id).experiment.state in ENDED
            ),
            f"{experiment_id} to end",
            2 * POD_SECONDS,
        )
        found = wait_state(client, experiment_id, *ENDED, seconds=2 * POD_SECONDS)
        assert found.state == state_pb2.STATE_FINISHED, found
        assert len(found.jobs[0].attempts) == 1
        count_lines(platform, f"{experiment_id}.train.1-1", 6)
    assert all(len(uids) == 1 for uids in made.values()), made
    platform.wait_no_pods()


PRINT_MUCH = """\
import sys, time
text = "x" * 80
for n in range({lines}):
    sys.stdout.write(f"{{n:07d}} {{text}}\\n")
    if n % 5000 == 4999:
        sys.stdout.flush()
        time.sleep(0.15)
"""


def test_a_log_that_is_rotated_repeats_nothing(platform: PodCluster) -> None:
    """50 MB, over five files of the kubelet, through the API. At a rotation a kubelet goes over to
    the new file although it had not read the old one to its end: on a busy node some of that is
    lost. By a daemon on the node nothing is: see test_observed.py."""
    lines = 560_000
    client = platform.client()
    script = f"python3 - <<'END'\n{PRINT_MUCH.format(lines=lines)}END"
    experiment_id = submit(client, job(script))
    found = wait_state(client, experiment_id, *ENDED, seconds=300)
    assert found.state == state_pb2.STATE_FINISHED, found
    numbers, others = [], []
    for line in output(client, f"{experiment_id}.train.1-1").splitlines():
        whole = re.fullmatch(rb"([0-9]{7}) x{80}", line)
        numbers += [int(whole[1])] if whole else []
        others += [] if whole else [line]
    assert numbers == sorted(set(numbers)), "nothing twice, and all in order"
    assert (numbers[0], numbers[-1]) == (0, lines - 1)
    # The runtime splits the line that it is at; if its beginning is lost its rest is a line.
    unknown = [one for one in others if not re.fullmatch(rb"[0-9]* ?x*|riseml: output may .*", one)]
    assert not unknown
    assert len(others) <= 10
