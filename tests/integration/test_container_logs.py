"""Logs of containers from a daemon's files to the archive's follower, over real calls."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane.launch.kubernetes.log_sources import ContainerLog
from controlplane.launch.kubernetes.observers import FollowLog, ObserverOutbox, Observers
from controlplane.launch.kubernetes.pod_logs import LogEnd, PodLogFollower
from controlplane.rpc import convert_daemon
from controlplane.rpc.caller import Caller, set_caller
from controlplane.rpc.container_logs import ContainerLogs
from controlplane.rpc.daemon_service import DaemonService
from noded.kubelet.log_shipping import LogShipping
from noded.session import bearer
from riseml import cri
from riseml.v1 import daemon_service_pb2 as pb
from riseml.v1 import daemon_service_pb2_grpc

NODE, UID = "n1", "0f8fad5b-d9cb-469f-a165-70867728950e"


class _NoFreshness:
    def connected(self, node_name: str, late: bool, now: float) -> None: ...

    def disconnected(self, node_name: str) -> None: ...


class _Servicer(DaemonService):
    """The one call that matters here, as if its caller were identified."""

    def __init__(self, logs: ContainerLogs) -> None:
        none: Any = None
        super().__init__(none, logs, none, none, none)

    async def ShipContainerLog(
        self, request_iterator: AsyncIterator[pb.ShipContainerLogRequest], context: Any
    ) -> pb.ShipContainerLogResponse:
        set_caller(Caller(node_name=NODE))
        return await super().ShipContainerLog(request_iterator, context)


class Source:
    """Implements `LogSource`: by the daemon alone."""

    def __init__(self, observers: Observers) -> None:
        self.read = observers.read_log


class Node:
    """A control plane's end and a daemon's end, in one process."""

    def __init__(self, pod_logs: Path) -> None:
        self.observers = Observers(_NoFreshness(), expected=True)
        self.log = ContainerLog(NODE, "jobs", "ana-1-train-1-1", UID, "job")
        self.folder = pod_logs / f"jobs_ana-1-train-1-1_{UID}" / "job"
        self.folder.mkdir(parents=True)
        self.shipping = LogShipping(pod_logs, lambda: bearer("token"))
        self.shipping.pods([UID])
        self.archived = b""
        self.written = b""
        self._rotated: list[Path] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._background: list[asyncio.Task[None]] = []
        self._outbox: ObserverOutbox | None = None

    async def start(self) -> None:
        self.server = grpc.aio.server()
        servicer = _Servicer(ContainerLogs(self.observers))
        daemon_service_pb2_grpc.add_DaemonServiceServicer_to_server(servicer, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        self._background = [asyncio.create_task(self.shipping.run())]

    async def connect(self) -> None:
        """A session of the daemon begins."""
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}")
        stub = daemon_service_pb2_grpc.DaemonServiceStub(channel)
        outbox = self._outbox = self.observers.attach(NODE)

        async def obey() -> None:
            while True:
                for order in await outbox.take():
                    if isinstance(order, FollowLog):
                        message = convert_daemon.observer_response(order)
                        self.shipping.follow(message.follow_log)
                if outbox.closed:
                    return

        async def serve() -> None:
            try:
                await self.shipping.serve(stub, ())
            finally:
                await channel.close()

        self._tasks = [asyncio.create_task(obey()), asyncio.create_task(serve())]

    async def disconnect(self) -> None:
        """It ends, with all that is beside it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._outbox is not None:
            self.observers.detach(NODE, self._outbox)

    async def close(self) -> None:
        await self.disconnect()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.server.stop(0)
        self.shipping.close()

    def write(self, text: bytes) -> None:
        """The job prints whole lines."""
        self.written += text
        with (self.folder / "0.log").open("ab") as file:
            for line in text.splitlines(keepends=True):
                file.write(cri.encode(time.time_ns(), "stdout", line))

    def rotate(self) -> None:
        """As kubelets do, with two files kept beside the present one."""
        name = self.folder / f"0.log.20261127-{100000 + len(self._rotated)}"
        (self.folder / "0.log").rename(name)
        (self.folder / "0.log").touch()
        self._rotated.append(name)
        for old in self._rotated[-2:-1]:
            old.with_name(f"{old.name}.gz").write_bytes(gzip.compress(old.read_bytes()))
            old.unlink()
        for old in self._rotated[:-2]:
            old.with_name(f"{old.name}.gz").unlink(missing_ok=True)

    def follow(self) -> asyncio.Task[LogEnd]:
        async def append(lines: bytes) -> None:
            self.archived += lines

        return asyncio.create_task(
            PodLogFollower(Source(self.observers), self.log, append).follow()
        )

    async def until_archived(self) -> None:
        await until(lambda: cri.payload(self.archived) == self.written)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - files tell nobody
        await asyncio.sleep(0.01)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    await made.start()
    yield made
    await made.close()


async def test_a_log_is_followed_and_ends_with_its_container(node: Node) -> None:
    await node.connect()
    node.write(b"one\n")
    following = node.follow()
    await node.until_archived()
    node.write(b"two\n" * 20_000)
    await node.until_archived()
    node.write(b"three\n")
    node.log.ended.set()
    assert (await following).missing == ""
    assert cri.payload(node.archived) == node.written


async def test_a_log_that_begins_late_is_waited_for(node: Node) -> None:
    await node.connect()
    following = node.follow()
    await asyncio.sleep(0.3)
    node.write(b"one\n")
    await node.until_archived()
    node.log.ended.set()
    assert (await following).missing == ""


async def test_rotations_lose_and_repeat_nothing(node: Node) -> None:
    await node.connect()
    node.write(b"begin\n")
    following = node.follow()
    for number in range(4):
        node.write(b"%d\n" % number * 5_000)
        await asyncio.sleep(0.6)
        node.rotate()
    node.write(b"end\n")
    node.log.ended.set()
    assert (await following).missing == ""
    assert cri.payload(node.archived) == node.written


async def test_what_is_rotated_away_while_nobody_is_connected_is_read_afterwards(
    node: Node,
) -> None:
    """The daemon goes on to hold the files of a log that was asked for."""
    await node.connect()
    node.write(b"begin\n")
    following = node.follow()
    await node.until_archived()
    await node.disconnect()
    for number in range(5):
        node.write(b"unread %d\n" % number)
        await asyncio.sleep(0.6)
        node.rotate()
    node.write(b"end\n")
    await node.connect()
    await node.until_archived()
    node.log.ended.set()
    assert (await following).missing == ""
    assert cri.payload(node.archived) == node.written
