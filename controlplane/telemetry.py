"""The newest samples of each node and a short history. Samples never pass through the reactor.

History is kept packed, as the bytes of the wire: an eighth of what the objects take, which is what
decides for a thousand nodes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

# History: one sample about every ten seconds, for five minutes.
HISTORY_SAMPLES: Final = 30
HISTORY_STEP_SECONDS: Final = 10.0

Sample = TypeVar("Sample")


class TelemetryWatch(Generic[Sample]):
    """A reader of live samples. One that falls behind gets the newest of each node."""

    def __init__(self, node_names: frozenset[str]) -> None:
        self._node_names = node_names
        self._newest: dict[str, Sample] = {}
        self._arrived = asyncio.Event()

    def offer(self, node_name: str, sample: Sample) -> None:
        if not self._node_names or node_name in self._node_names:
            self._newest[node_name] = sample
            self._arrived.set()

    async def take(self) -> list[Sample]:
        while not self._newest:
            self._arrived.clear()
            await self._arrived.wait()
        taken = list(self._newest.values())
        self._newest.clear()
        return taken


class Telemetry(Generic[Sample]):
    """Samples by node, as the daemon sent them (this module does not look inside)."""

    def __init__(self, pack: Callable[[Sample], bytes], unpack: Callable[[bytes], Sample]) -> None:
        self._pack = pack
        self._unpack = unpack
        self._newest: dict[str, tuple[float, Sample]] = {}
        self._history: dict[str, deque[tuple[float, bytes]]] = {}
        self._watches: set[TelemetryWatch[Sample]] = set()

    def record(self, node_name: str, sample: Sample, now: float) -> None:
        """`now` is monotonic seconds."""
        self._newest[node_name] = (now, sample)
        history = self._history.get(node_name)
        if history is None:
            history = self._history[node_name] = deque(maxlen=HISTORY_SAMPLES)
        if not history or now - history[-1][0] >= HISTORY_STEP_SECONDS:
            history.append((now, self._pack(sample)))
        for watch in self._watches:
            watch.offer(node_name, sample)

    def forget(self, node_name: str) -> None:
        self._newest.pop(node_name, None)
        self._history.pop(node_name, None)

    def newest(self, node_names: frozenset[str] = frozenset()) -> list[Sample]:
        """The newest sample of each of these nodes (all, if none is named)."""
        return [
            sample
            for name, (_, sample) in sorted(self._newest.items())
            if not node_names or name in node_names
        ]

    def history(
        self, now: float, seconds: float, node_names: frozenset[str] = frozenset()
    ) -> list[Sample]:
        """Samples not older than `seconds`, oldest first per node, the newest last."""
        samples = []
        for name, (newest_time, newest) in sorted(self._newest.items()):
            if node_names and name not in node_names:
                continue
            samples += [
                self._unpack(packed)
                for time, packed in self._history.get(name, ())
                if now - time <= seconds and time != newest_time
            ]
            samples.append(newest)
        return samples

    @contextmanager
    def watch(self, node_names: frozenset[str]) -> Iterator[TelemetryWatch[Sample]]:
        """Live samples of these nodes (all, if none is named)."""
        watch = TelemetryWatch[Sample](node_names)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)
