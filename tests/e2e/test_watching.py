"""What the Kubernetes launcher leans on: calls, lists, watches and logs of a real API server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from controlplane.launch.kubernetes.api import ApiError, Conflict, Kind, NotFound, Refused
from controlplane.launch.kubernetes.http_api import KubernetesApi
from controlplane.launch.kubernetes.log_position import read_tail
from controlplane.launch.kubernetes.log_sources import ApiLogs, ContainerLog
from controlplane.launch.kubernetes.pod_logs import LogEnd, PodLogFollower
from controlplane.launch.kubernetes.reflector import Added, Change, Deleted, Reflector, Synced
from riseml import cri
from tests.e2e.pods import WAIT_SECONDS, Pods

pytestmark = pytest.mark.timeout(3 * WAIT_SECONDS)


@pytest.fixture
async def live() -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi(os.environ["RISEML_E2E_KUBECONFIG"]) as api:
        yield api


class Copy:
    """A reflector at work on the pods of a test."""

    def __init__(self, api: KubernetesApi, namespace: str, **options: Any) -> None:
        self._changed = asyncio.Event()
        self.changes: list[Change] = []
        self.reflector = Reflector(api, Kind.POD, namespace, "", "", self._take, **options)

    def _take(self, change: Change) -> None:
        self.changes.append(change)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def phase(self, name: str) -> str:
        pod = self.reflector.objects.named(name, self.reflector.namespace) or {}
        return str(pod.get("status", {}).get("phase", ""))

    def ended(self, name: str) -> bool:
        return self.phase(name) in ("Succeeded", "Failed")


@pytest.fixture
async def copy(live: KubernetesApi, pods: Pods) -> AsyncIterator[Copy]:
    made = Copy(live, pods.namespace, page_limit=2)
    running = asyncio.create_task(made.reflector.run())
    await made.reflector.until_synced()
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_pod_is_bound_watched_and_deleted_with_plain_objects(
    live: KubernetesApi, pods: Pods, copy: Copy
) -> None:
    node_name = pods.node_name()
    pods.create("a", "trap 'exit 0' TERM; echo ready; sleep 60 & wait")
    uid = (await live.get(Kind.POD, pods.namespace, "a"))["metadata"]["uid"]
    with pytest.raises(Conflict):
        await live.bind_pod(pods.namespace, "a", "00000000-0000-0000-0000-000000000000", node_name)
    await live.bind_pod(pods.namespace, "a", uid, node_name)
    with pytest.raises(Conflict):
        await live.bind_pod(pods.namespace, "a", uid, node_name)
    await copy.until(lambda: copy.phase("a") == "Running")
    labels = {"metadata": {"labels": {"x": "1"}}}
    patched = await live.patch(Kind.POD, pods.namespace, "a", labels)
    assert patched["metadata"]["labels"] == {"x": "1"}
    with pytest.raises(Conflict):
        await live.delete(Kind.POD, pods.namespace, "a", uid="00000000-0000-0000-0000-000000000000")
    await live.delete(Kind.POD, pods.namespace, "a", uid=uid, grace_period_seconds=3)
    await copy.until(lambda: isinstance(copy.changes[-1], Deleted))
    with pytest.raises(NotFound):
        await live.delete(Kind.POD, pods.namespace, "a", uid=uid)


async def test_errors_are_those_of_our_tree(live: KubernetesApi, pods: Pods) -> None:
    body = {"metadata": {"name": "c"}, "data": {}}
    await live.create(Kind.CONFIG_MAP, pods.namespace, body)
    with pytest.raises(Conflict) as taken:
        await live.create(Kind.CONFIG_MAP, pods.namespace, body)
    assert taken.value.reason == "AlreadyExists"
    with pytest.raises(Refused, match=r"metadata\.name"):
        await live.create(Kind.CONFIG_MAP, pods.namespace, {"metadata": {"name": "_"}})
    with pytest.raises(ApiError):
        async with live.read_log(pods.namespace, "nobody", "job"):
            pass


async def test_a_list_in_pages_and_a_watch_find_every_pod(
    live: KubernetesApi, pods: Pods, copy: Copy
) -> None:
    for number in range(5):
        pods.create(f"p{number}", "true")
    again = Copy(live, pods.namespace, page_limit=2)
    running = asyncio.create_task(again.reflector.run())
    await again.reflector.until_synced()
    assert len(again.reflector.objects) == 5
    assert isinstance(again.changes[-1], Synced)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await copy.until(lambda: len(copy.reflector.objects) == 5)
    assert len([change for change in copy.changes if isinstance(change, Added)]) >= 5


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_log_with_long_lines_comes_whole_through_broken_connections(
    live: KubernetesApi, pods: Pods, copy: Copy, restarts: bool
) -> None:
    script = (
        "import sys, time\n"
        "for n in range(400):\n"
        "    print('line', n, 'x' * (40000 if n % 100 == 50 else 10), flush=True)\n"
        "    print('error', n, file=sys.stderr, flush=True)\n"
        "    time.sleep(0.01)\n"
        "sys.stdout.write('no newline at the end')\n"
    )
    pods.create("a", f'python3 -c "{script}"')
    pods.bind("a", pods.node_name())
    archive = b""
    log = ContainerLog(pods.node_name(), pods.namespace, "a", "", "job")

    async def append(data: bytes) -> None:
        nonlocal archive
        archive += data

    def follower() -> PodLogFollower:
        tail = read_tail(lambda at, length: archive[at : at + length], len(archive))
        return PodLogFollower(
            ApiLogs(live),
            log,
            append,
            position=tail.position,
        )

    async def note_end() -> None:
        await copy.until(lambda: copy.ended("a"))
        log.ended.set()

    await copy.until(lambda: copy.phase("a") == "Running")
    noting = asyncio.create_task(note_end())
    for _ in range(8 if restarts else 0):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(follower().follow(), 0.4)
    assert (await follower().follow()).missing == ""
    await noting
    output = cri.payload(archive).decode()
    assert output.endswith("no newline at the end")
    # The kubelet puts what comes on the other stream into the midst of a line of many pieces.
    assert output == pods.log("a")
    assert all(output.count(f"line {n} ") == output.count(f"error {n}\n") == 1 for n in range(400))


async def test_a_container_that_cannot_start_has_no_log(
    live: KubernetesApi, pods: Pods, copy: Copy
) -> None:
    pods.create("a", "true", image="localhost/riseml-e2e/missing:1")
    pods.bind("a", pods.node_name())
    await copy.until(lambda: copy.phase("a") == "Pending")

    async def append(_: bytes) -> None:
        raise AssertionError("there is nothing")

    log = ContainerLog(pods.node_name(), pods.namespace, "a", "", "job")
    log.ended.set()
    follower = PodLogFollower(ApiLogs(live), log, append)
    end = await follower.follow()
    assert end == LogEnd(0, end.missing)
    assert "waiting to start" in end.missing or "host" in end.missing
