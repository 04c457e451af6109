"""GPUs that run out and gangs that meet, by the kubelet's own account."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from kubernetes import client as kube
from kubernetes import watch
from urllib3.exceptions import ProtocolError

from riseml.v1 import state_pb2
from tests.e2e.platform import ATTEMPT, POD_SECONDS, PodCluster, job, pod_cluster
from tests.e2e.pods import GPU, GPUS, Pods
from tests.integration.cluster import ENDED, output, submit, wait_for, wait_state

pytestmark = pytest.mark.timeout(600)
JOBS = 30


class Lives:
    """Of every pod of a namespace: what its kubelet said last."""

    def __init__(self, cluster: PodCluster) -> None:
        self._list = partial(cluster.core.list_namespaced_pod, cluster.namespace)
        self.pods: dict[str, Any] = {}
        self._watch = watch.Watch()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        version = self._list().metadata.resource_version
        # The stream ends with the namespace.
        with contextlib.suppress(OSError, ProtocolError):
            for change in self._watch.stream(self._list, resource_version=version):
                self.pods[change["object"].metadata.uid] = change["object"]

    def stop(self) -> None:
        self._watch.stop()

    def most_at_once(self) -> int:
        """Containers that ran in the same second; one that ended in it has made room."""
        events = []
        for pod in self.pods.values():
            for status in pod.status.container_statuses or ():
                ended = status.state.terminated
                if ended is not None and ended.started_at is not None:
                    events += [(ended.finished_at, -1), (ended.started_at, 1)]
        now = most = 0
        for _, change in sorted(events, key=lambda event: (event[0], event[1])):
            now += change
            most = max(most, now)
        return most


@pytest.fixture
def lives(platform: PodCluster) -> Iterator[Lives]:
    made = Lives(platform)
    yield made
    made.stop()


@pytest.mark.usefixtures("gpu_node")
def test_jobs_for_gpus_take_turns(platform: PodCluster, lives: Lives) -> None:
    client = platform.client()
    ids = [
        submit(client, job("echo $NVIDIA_VISIBLE_DEVICES; sleep 1.2", gpus=1)) for _ in range(JOBS)
    ]
    for experiment_id in ids:
        found = wait_state(client, experiment_id, *ENDED, seconds=500)
        assert found.state == state_pb2.STATE_FINISHED, found
    names = {output(client, f"{one}.train.1-1").decode().strip() for one in ids}
    assert len(names) == GPUS and all(names)
    platform.wait_no_pods()
    assert len(lives.pods) == JOBS, "none was refused and tried again"
    requested = {p.spec.containers[0].resources.limits[GPU] for p in lives.pods.values()}
    assert requested == {"1"}
    assert lives.most_at_once() == GPUS


MEET = """\
import os, socket, time
size, rank = int(os.environ["RISEML_NODES_NUM"]), int(os.environ["RISEML_NODE_RANK"])
names = [f"worker-{n + 1}.{os.environ['MASTER_ADDR'].partition('.')[2]}" for n in range(size)]
found = {}
while len(found) < size:
    for name in names:
        try:
            found[name] = socket.gethostbyname(name)
        except OSError:
            time.sleep(0.1)
assert len(set(found.values())) == size, found
place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    server = socket.create_server(("", place[1]))
    others = [server.accept()[0] for _ in range(size - 1)]
    for other in others:
        other.sendall(b"all are here")
    print("all are here")
else:
    time.sleep(3 * (rank == size - 1))
    while True:
        try:
            peer = socket.create_connection(place)
            break
        except OSError:
            time.sleep(0.1)
    print(peer.recv(100).decode())
"""


def test_a_gang_finds_its_members_by_name_and_waits_for_the_last(platform: PodCluster) -> None:
    client = platform.client()
    experiment_id = submit(client, job(f"python3 - <<'END'\n{MEET}END", count=3))
    found = wait_state(client, experiment_id, *ENDED, seconds=2 * POD_SECONDS)
    assert found.state == state_pb2.STATE_FINISHED, found
    for number in (1, 2, 3):
        assert output(client, f"{experiment_id}.worker.{number}-1") == b"all are here\n"
    platform.wait_no_pods()
    left = platform.core.list_namespaced_service(platform.namespace)
    wait_for(
        lambda: not platform.core.list_namespaced_service(platform.namespace).items,
        f"{[one.metadata.name for one in left.items]} to go with its experiment",
    )


def test_a_gang_for_which_quota_is_missing_holds_no_node(platform: PodCluster) -> None:
    """All of it waits until there is quota for all of it."""
    client = platform.client()
    platform.core.create_namespaced_resource_quota(
        platform.namespace, {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}}
    )
    try:
        experiment_id = submit(client, job("true", count=3))

        def told() -> bool:
            jobs = client.experiments.get(experiment_id).experiment.jobs
            return all("exceeded quota" in one.message for one in jobs)

        wait_for(told, "the quota to be named", POD_SECONDS)
        assert all(pod.spec.node_name is None for pod in platform.pods())
    finally:
        platform.core.delete_namespaced_resource_quota("few", platform.namespace)
    found = wait_state(client, experiment_id, *ENDED, seconds=2 * POD_SECONDS)
    assert found.state == state_pb2.STATE_FINISHED, found


def test_what_others_hold_is_not_given_out(platform: PodCluster, pods: Pods, gpu_node: str) -> None:
    client = platform.client()
    pods.create("foreign", "trap 'exit 0' TERM; sleep 600 & wait", gpus=GPUS)
    pods.bind("foreign", gpu_node)
    pods.running("foreign")
    wait_for(
        lambda: all(
            gpu.foreign_memory_bytes
            for node in client.nodes.list()
            if node.name == gpu_node
            for gpu in node.gpus
        ),
        "the GPUs to be seen as used",
    )
    experiment_id = submit(client, job("true", gpus=1))

    def why() -> str:
        return str(client.scheduler.explain(experiment_id))

    wait_for(lambda: f"pod {pods.namespace}/foreign" in why(), "the pod in the reason")
    assert not [
        p for p in platform.pods() if p.metadata.annotations[ATTEMPT].startswith(experiment_id)
    ]
    pods.core.delete_namespaced_pod("foreign", pods.namespace)
    found = wait_state(client, experiment_id, *ENDED, seconds=2 * POD_SECONDS)
    assert found.state == state_pb2.STATE_FINISHED, found


def test_kubernetes_own_scheduler_may_give_the_nodes(
    api: kube.ApiClient, request: pytest.FixtureRequest, image_prefix: str
) -> None:
    """Behind gates, a gang and jobs for GPUs go where it was planned, by another's hand."""
    host = request.config.getoption("--control-plane-host")
    core = kube.CoreV1Api(api)
    with pod_cluster(core, host, image_prefix, scheduling="gates") as gated:
        client = gated.client()
        ids = [submit(client, job("hostname", count=2)), submit(client, job("true"))]
        for experiment_id in ids:
            found = wait_state(client, experiment_id, *ENDED, seconds=2 * POD_SECONDS)
            assert found.state == state_pb2.STATE_FINISHED, found
        assert output(client, f"{ids[0]}.worker.2-1") == b"worker-2\n"
        events = core.list_namespaced_event(gated.namespace).items
        assert {
            e.source.component or e.reporting_component for e in events if e.reason == "Scheduled"
        } == {"default-scheduler"}
