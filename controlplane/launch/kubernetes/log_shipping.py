"""Follows the logs of all pods of ours into the archive, a task for each.

The end of a log is known only when the container has ended and its log was read to the end. Until
then the pod must stay: with it its log would go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from controlplane.launch.kubernetes.log_pipe import LogNames, LogPipe, open_pipe
from controlplane.launch.kubernetes.log_sources import ContainerLog
from controlplane.launch.kubernetes.node_logs import NodeLogs
from controlplane.launch.kubernetes.pod_logs import PodLogFollower
from controlplane.launch.kubernetes.ports import LogKind, LogSink

_log = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class LogLengths:
    """Of a log that is complete."""

    output: int
    results: int
    build: int
    """-1 when there is no build."""


@dataclass(slots=True)
class _Shipped:
    log: ContainerLog
    names: LogNames
    pod_gone: bool = False
    installed_at: float | None = None
    lengths: LogLengths | None = None
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class LogShipping:
    """Logs by the uid of their pod. `on_change(attempt_id)` is called when one is complete and when
    its install steps are through."""

    def __init__(
        self,
        source: NodeLogs,
        sink: LogSink,
        secrets_of: Callable[[str], Awaitable[tuple[str, ...]]],
        on_change: Callable[[str], None],
    ) -> None:
        """`secrets_of(attempt_id)`: what is masked."""
        self._source = source
        self._secrets_of = secrets_of
        self._sink = sink
        self._on_change = on_change
        self._shipped: dict[str, _Shipped] = {}

    def follow(self, log: ContainerLog, names: LogNames) -> None:
        """Begins with it, unless that is done already."""
        if log.pod_uid in self._shipped:
            return
        shipped = self._shipped[log.pod_uid] = _Shipped(log, names)
        shipped.task = asyncio.create_task(self._follow(shipped))

    def container_ended(self, uid: str, *, pod_gone: bool = False) -> None:
        """It has terminated, or its pod is gone or will never run."""
        if uid in self._shipped:
            self._shipped[uid].pod_gone = pod_gone
            self._shipped[uid].log.ended.set()

    def following(self, uid: str) -> bool:
        return uid in self._shipped

    async def installed_at(self, uid: str) -> float | None:
        """When the install steps were through, in seconds since the epoch; None: they are not, or
        there are none. Waits until the archive was asked, which knows of earlier lives of ours."""
        shipped = self._shipped.get(uid)
        if shipped is None or not shipped.names.build_attempt_id:
            return None
        await shipped.opened.wait()
        return shipped.installed_at

    def lengths(self, uid: str) -> LogLengths | None:
        """Once the log is complete."""
        shipped = self._shipped.get(uid)
        return None if shipped is None else shipped.lengths

    def forget(self, uid: str) -> None:
        """The pod is gone and its end was told."""
        self._source.forget(uid)
        shipped = self._shipped.pop(uid, None)
        if shipped is not None and shipped.task is not None:
            shipped.task.cancel()

    async def close(self) -> None:
        """Stops in the midst; the archive says where to go on."""
        tasks = [s.task for s in self._shipped.values() if s.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._shipped.clear()

    async def _follow(self, shipped: _Shipped) -> None:
        pod_name = shipped.log.pod_name
        while shipped.lengths is None:
            try:
                await self._to_its_end(shipped)
            except Exception:
                # Whatever it was, the archive's tail says what is there, and the rest comes again.
                _log.exception("the log of pod %s is begun anew", pod_name)
                await asyncio.sleep(AGAIN_SECONDS)
        self._on_change(shipped.names.attempt_id)

    async def _to_its_end(self, shipped: _Shipped) -> None:
        names = shipped.names

        def installed() -> None:
            shipped.installed_at = pipe.installed_at
            self._on_change(names.attempt_id)

        secrets = await self._secrets_of(names.attempt_id)
        pipe: LogPipe = await open_pipe(self._sink, names, secrets, installed)
        shipped.installed_at = pipe.installed_at
        shipped.opened.set()
        follower = PodLogFollower(
            self._source,
            shipped.log,
            pipe.append,
            pod_gone=lambda: shipped.pod_gone,
            position=pipe.position,
        )
        end = await follower.follow()
        await pipe.close()
        if end.missing:
            _log.info("the log of pod %s ends where it is: %s", shipped.log.pod_name, end.missing)
        for attempt_id in (names.build_attempt_id, names.attempt_id):
            if attempt_id:
                await self._sink.finish(attempt_id)
        shipped.lengths = LogLengths(
            self._sink.end(names.attempt_id, LogKind.OUTPUT),
            self._sink.end(names.attempt_id, LogKind.RESULTS),
            self._sink.end(names.build_attempt_id, LogKind.OUTPUT)
            if names.build_attempt_id
            else -1,
        )
