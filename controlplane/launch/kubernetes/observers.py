"""The daemons that observe the nodes of the cluster: what each said last, and what is asked of it.

A node needs none: without one its GPUs have no names and logs come through the Kubernetes API. But
a node of which a daemon once told GPUs has to be told of again and again, or nobody knows how they
are.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from controlplane.launch.kubernetes.api import Unavailable
from controlplane.launch.kubernetes.log_sources import ContainerLog
from controlplane.launch.kubernetes.node_gpus import Devices
from controlplane.launch.kubernetes.ports import Freshness
from controlplane.launch.outbox import Heard, Outbox

BEGIN_SECONDS: Final = 10.0
"""A daemon has so long to begin with a log."""
ARRIVE_SECONDS: Final = 15.0
"""A daemon that is expected has so long to come, or to come back, before logs are read without it:
what was rotated away meanwhile it alone can read."""
_HELD_CHUNKS: Final = 4


@dataclass(frozen=True, slots=True)
class PodsHere:
    """Attempt ids of all our pods on the node that have not ended, by the uid of their pod."""

    attempts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FollowLog:
    """Asks for a container's log."""

    reading_id: str
    log: ContainerLog
    since_time: str
    """RFC 3339; empty: from the beginning."""
    follow: bool


ObserverOutbox: TypeAlias = Outbox[PodsHere | FollowLog | Heard]


class DaemonGone(Unavailable):
    """The session of the daemon ended in the midst of a log: there is more, and it may be back."""


class Reading:
    """A log on its way from a daemon to the archive. Bounded: who writes waits for who reads."""

    def __init__(self, node_name: str) -> None:
        self.node_name = node_name
        self.closed = asyncio.Event()
        """Nobody reads any more."""
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(_HELD_CHUNKS)
        self._over = asyncio.Event()
        self._error: Unavailable | None = None

    async def put(self, chunk: bytes) -> None:
        """Returns when there is room. After `closed` nothing of it matters."""
        await self._chunks.put(chunk)

    def end(self, error: Unavailable | None = None) -> None:
        """Nothing follows; `error`: although there may be more."""
        if not self._over.is_set():
            self._error = error
            self._over.set()

    async def chunks(self, enough: asyncio.Event) -> AsyncIterator[bytes]:
        """What comes, until it is over or there is `enough`. Raises Unavailable."""
        begin = asyncio.get_running_loop().time() + BEGIN_SECONDS
        begun = False
        stops = [asyncio.create_task(event.wait()) for event in (self._over, enough)]
        try:
            while True:
                if self._chunks.empty():
                    if self._over.is_set() or enough.is_set():
                        break
                    wait = None if begun else begin - asyncio.get_running_loop().time()
                    get = asyncio.create_task(self._chunks.get())
                    try:
                        done, _ = await asyncio.wait(
                            {get, *stops}, timeout=wait, return_when=asyncio.FIRST_COMPLETED
                        )
                    finally:
                        got = get.result() if get.done() and not get.cancelled() else None
                        get.cancel()
                    if got is None:
                        if not done:
                            raise Unavailable(0, "Daemon", "it did not begin with the log")
                        continue
                else:
                    got = self._chunks.get_nowait()
                begun = True
                yield got
            if self._over.is_set() and self._error is not None:
                raise self._error
        finally:
            for stop in stops:
                stop.cancel()

    def close(self) -> None:
        """The reader has left."""
        self.closed.set()


@dataclass(slots=True)
class _Observed:
    """One node."""

    outbox: ObserverOutbox | None = None
    devices: Devices | None = None
    attempts: Mapping[str, str] | None = None
    attached: asyncio.Event | None = None
    """Of those who wait for a daemon, or read logs without one until there is."""
    given_up: bool = False
    """It was waited for in vain, and nobody waits again."""


class Observers:
    """By node. Times are monotonic seconds."""

    def __init__(self, freshness: Freshness, *, expected: bool) -> None:
        """`expected`: there is to be a daemon on every node."""
        self._freshness = freshness
        self._expected = expected
        self._nodes: dict[str, _Observed] = {}
        self._readings: dict[str, Reading] = {}
        self.on_said: Callable[[str], None] = lambda node_name: None
        """Is called with the node of which a daemon said something new."""

    # ------------------------------------------------------------------- from their sessions
    def attach(self, node_name: str) -> ObserverOutbox:
        """A daemon has a session now; an older one of the node is closed."""
        node = self._node(node_name)
        if node.outbox is not None:
            node.outbox.close()
        outbox = node.outbox = Outbox()
        if node.attempts is not None:
            outbox.put(PodsHere(node.attempts))
        node.given_up = False
        if node.attached is not None:
            node.attached.set()
            node.attached = None
        return outbox

    def detach(self, node_name: str, outbox: ObserverOutbox) -> None:
        """A session has ended. What it said stands until it is late."""
        outbox.close()
        node = self._node(node_name)
        if node.outbox is outbox:
            node.outbox = None
            for reading in list(self._readings.values()):
                if reading.node_name == node_name:
                    reading.end(_gone(node_name))

    def said(self, node_name: str, devices: Devices) -> None:
        """What there is on the node, by its daemon's word."""
        node = self._node(node_name)
        if node.devices != devices:
            node.devices = devices
            self.on_said(node_name)

    def reading(self, reading_id: str, node_name: str) -> Reading | None:
        """The reading that a daemon brings the log for; None: nobody waits for it."""
        reading = self._readings.get(reading_id)
        return reading if reading is not None and reading.node_name == node_name else None

    # --------------------------------------------------------------------- from the launcher
    def devices(self, node_name: str) -> Devices | None:
        """What its daemon said last; None: there was none since we started."""
        return self._node(node_name).devices

    def connected(self, node_name: str) -> bool:
        return self._node(node_name).outbox is not None

    def attached(self, node_name: str) -> asyncio.Event:
        """Is set once the node has a daemon."""
        node = self._node(node_name)
        if node.attached is None:
            node.attached = asyncio.Event()
            if node.outbox is not None:
                node.attached.set()
        return node.attached

    async def arrival(self, node_name: str) -> bool:
        """Whether the node has a daemon; one that is expected is waited for."""
        node = self._node(node_name)
        if node.outbox is None and self._expected and not node.given_up:
            try:
                async with asyncio.timeout(ARRIVE_SECONDS):
                    await self.attached(node_name).wait()
            except TimeoutError:
                node.given_up = True
        return node.outbox is not None

    def pods(self, node_name: str, attempts: Mapping[str, str]) -> None:
        """Our pods there; the daemon is told when they are others."""
        node = self._node(node_name)
        if node.attempts != attempts:
            node.attempts = attempts
            if node.outbox is not None:
                node.outbox.put(PodsHere(attempts))

    def expect_samples(self, node_name: str, late: bool, now: float) -> None:
        """From now on: the node is ready, and a daemon tells or told of its GPUs. `late`: it is
        closed because none came."""
        self._freshness.connected(node_name, late, now)

    def expect_nothing(self, node_name: str) -> None:
        """The node is not ready any more."""
        self._freshness.disconnected(node_name)

    @asynccontextmanager
    async def read_log(
        self, log: ContainerLog, since_time: str, *, to_end: bool
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A container's log in the form of the API, by the daemon of its node. With `to_end` to
        where it ends now, else until the container has ended. Raises Unavailable."""
        outbox = self._node(log.node_name).outbox
        if outbox is None:
            raise _gone(log.node_name)
        reading = Reading(log.node_name)
        reading_id = secrets.token_hex(16)
        self._readings[reading_id] = reading
        outbox.put(FollowLog(reading_id, log, since_time, follow=not to_end))
        never = asyncio.Event()
        try:
            yield reading.chunks(never if to_end else log.ended)
        finally:
            del self._readings[reading_id]
            reading.close()

    def _node(self, node_name: str) -> _Observed:
        return self._nodes.setdefault(node_name, _Observed())


def _gone(node_name: str) -> DaemonGone:
    return DaemonGone(0, "Daemon", f"the daemon of node {node_name} is gone")
