"""Sends logs of containers to the control plane, each over a call of its own, as it asks for them.

A log that was asked for is held open until its pod has ended and nobody reads it: while the control
plane is away files may be rotated and removed, and are read afterwards all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import grpc

from noded.kubelet.log_files import LogFiles, LogMissing
from noded.kubelet.log_lines import ApiLines
from noded.logs.watch import Watcher
from noded.session import Metadata
from riseml.v1 import daemon_pb2, daemon_service_pb2
from riseml.v1.daemon_service_pb2_grpc import DaemonServiceStub

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
"""Kubelets look at logs every ten seconds, and rotate at most then."""
FIND_SECONDS: Final = 2.0
"""For so long a log may be on its way, or between two files."""
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.ASCII)

_Call = grpc.aio.StreamUnaryCall[
    daemon_service_pb2.ShipContainerLogRequest, daemon_service_pb2.ShipContainerLogResponse
]


class LogShipping:
    """All logs of the node that are read."""

    def __init__(self, pod_logs: Path, metadata: Callable[[], Metadata]) -> None:
        """`metadata` are the credentials as they are at the moment."""
        self._pod_logs = pod_logs
        self._metadata = metadata
        self._orders: asyncio.Queue[daemon_pb2.FollowContainerLog] = asyncio.Queue()
        self._watcher = Watcher()
        self._held: dict[str, _Held] = {}
        self._pods: set[str] = set()

    def follow(self, order: daemon_pb2.FollowContainerLog) -> None:
        """The control plane asks for a log."""
        self._orders.put_nowait(order)

    def pods(self, uids: Iterable[str]) -> None:
        """Pods that have not ended: their logs are worth to be held."""
        self._pods = set(uids)
        self._release()

    async def run(self) -> None:
        """Looks after the files, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = time.monotonic()
            for key, held in list(self._held.items()):
                try:
                    held.files.look(now)
                except (LogMissing, OSError) as problem:
                    log.warning("%s", problem)
                    held.problem = str(problem)
                    if not held.readers:
                        self._drop(key)

    async def serve(self, stub: DaemonServiceStub, _: Metadata) -> None:
        """Beside a session: reads what is asked for in it."""
        try:
            async with asyncio.TaskGroup() as readers:
                while True:
                    readers.create_task(self._read(await self._orders.get(), stub))
        finally:
            # What was asked for in this session nobody waits for in the next.
            while not self._orders.empty():
                self._orders.get_nowait()

    def close(self) -> None:
        for key in list(self._held):
            self._drop(key)
        self._watcher.close()

    async def _read(self, order: daemon_pb2.FollowContainerLog, stub: DaemonServiceStub) -> None:
        call = stub.ShipContainerLog(metadata=self._metadata())
        # One that has ended cannot be written to: nobody reads any more, or the session breaks.
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            try:
                await self._send(order, call)
            except (LogMissing, OSError) as problem:
                log.warning("a log cannot be read: %s", problem)
                await call.write(
                    daemon_service_pb2.ShipContainerLogRequest(
                        reading_id=order.reading_id, error=str(problem)
                    )
                )
            await call.done_writing()
            await call

    async def _send(self, order: daemon_pb2.FollowContainerLog, call: _Call) -> None:
        key = self._folder_of(order)
        held = await self._hold(key, order.pod_uid)
        news = asyncio.Event()
        unwatch = self._watcher.add(key, news.set)
        call.add_done_callback(lambda _: news.set())
        held.readers += 1
        try:
            # At once: that somebody reads is worth to be known.
            await call.write(
                daemon_service_pb2.ShipContainerLogRequest(reading_id=order.reading_id)
            )
            reader = _Reader(held, order)
            while not call.done():
                news.clear()
                lines = reader.next(time.monotonic())
                if lines:
                    await call.write(daemon_service_pb2.ShipContainerLogRequest(data=lines))
                elif reader.at_end:
                    if not order.follow:
                        return
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_SECONDS):
                            await news.wait()
                else:
                    await asyncio.sleep(0)
        finally:
            held.readers -= 1
            unwatch()
            self._release()

    async def _hold(self, key: str, pod_uid: str) -> _Held:
        until = time.monotonic() + FIND_SECONDS
        while True:
            held = self._held.get(key)
            if held is not None and not held.problem:
                return held
            if held is not None:
                self._drop(key)
            try:
                files = LogFiles(Path(key), time.monotonic())
            except LogMissing:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)
                continue
            held = self._held[key] = _Held(files, pod_uid)
            return held

    def _folder_of(self, order: daemon_pb2.FollowContainerLog) -> str:
        names = (order.namespace, order.pod_name, order.pod_uid, order.container_name)
        if not all(_NAME.fullmatch(name) for name in names):
            raise LogMissing(f"{names} are no names of a pod")
        pod = f"{order.namespace}_{order.pod_name}_{order.pod_uid}"
        return str(self._pod_logs / pod / order.container_name)

    def _release(self) -> None:
        for key, held in list(self._held.items()):
            if not held.readers and held.pod_uid not in self._pods:
                self._drop(key)

    def _drop(self, key: str) -> None:
        self._held.pop(key).files.close()


class _Held:
    """Files that are kept open."""

    def __init__(self, files: LogFiles, pod_uid: str) -> None:
        self.files = files
        self.pod_uid = pod_uid
        self.readers = 0
        self.problem = ""
        """Why no more can be read than was."""


class _Reader:
    """Where one reading is."""

    def __init__(self, held: _Held, order: daemon_pb2.FollowContainerLog) -> None:
        since_ns = order.since_time.ToNanoseconds() if order.HasField("since_time") else 0
        self._held = held
        self._ended = not order.follow
        self._lines = ApiLines(since_ns)
        self._number = held.files.begin(since_ns / 1e9)
        self._offset = 0
        self.at_end = False
        """There was nothing more."""

    def next(self, now: float) -> bytes:
        """The next lines; none: either there is nothing more now (`at_end`), or ask again. Raises
        LogMissing."""
        files = self._held.files
        if self._ended or self.at_end:
            files.look(now)
        data = files.read(self._number, self._offset)
        self.at_end = not data
        if data:
            self._offset += len(data)
            return self._lines.feed(data)
        if files.is_complete(self._number, now, ended=self._ended):
            self._number += 1
            self._offset = 0
            self.at_end = False
        elif self._held.problem:
            raise LogMissing(self._held.problem)
        return b""
