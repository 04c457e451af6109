"""Logs by the daemon of their node where there is one, else through the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

from controlplane.launch.kubernetes.api import Api, ApiError
from controlplane.launch.kubernetes.log_sources import ApiLogs, ContainerLog
from controlplane.launch.kubernetes.observers import DaemonGone, Observers

WITHOUT_DAEMON_SECONDS: Final = 30.0
"""After a daemon could not read a log, the API is asked for so long."""


class NodeLogs:
    """Implements `LogSource`. What the API reads is broken off when the node has a daemon."""

    def __init__(self, observers: Observers, api: Api) -> None:
        self._observers = observers
        self._api = ApiLogs(api)
        # By the uid of the pod: until when its daemon is not asked.
        self._unreadable: dict[str, float] = {}

    @asynccontextmanager
    async def read(
        self, log: ContainerLog, since_time: str, *, to_end: bool
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        loop = asyncio.get_running_loop()
        avoided = self._unreadable.get(log.pod_uid, 0.0) > loop.time()
        if not avoided and await self._observers.arrival(log.node_name):
            try:
                async with self._observers.read_log(log, since_time, to_end=to_end) as chunks:
                    yield chunks
            except DaemonGone:
                # What it did not read the API may have forgotten: it is waited for.
                raise
            except ApiError:
                self._unreadable[log.pod_uid] = loop.time() + WITHOUT_DAEMON_SECONDS
                raise
            return
        never = asyncio.Event()
        attached = never if to_end or avoided else self._observers.attached(log.node_name)
        async with (
            self._api.read(log, since_time, to_end=to_end) as chunks,
            aclosing(_until(chunks, attached)) as some,
        ):
            yield some

    def forget(self, pod_uid: str) -> None:
        """The pod is gone."""
        self._unreadable.pop(pod_uid, None)


async def _until(
    chunks: AsyncIterator[bytes], enough: asyncio.Event
) -> AsyncGenerator[bytes, None]:
    """The chunks that come before the event."""
    stop = asyncio.create_task(enough.wait())
    try:
        while not enough.is_set():
            following = asyncio.ensure_future(anext(chunks, None))
            try:
                await asyncio.wait({following, stop}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
            if following.cancelled():
                return
            chunk = following.result()
            if chunk is None:
                return
            yield chunk
    finally:
        stop.cancel()
