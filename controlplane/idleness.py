"""How long all GPUs of an experiment have been idle, counted in monotonic time from samples.

An experiment is idle while every GPU that it uses is below the minimum of its policy. One
reading at or above it begins the count anew. Time of which nobody knows, because a reading is
missing or late, is not counted: it is neither idle nor busy.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from controlplane.core.idle import Watched


@dataclass(frozen=True, slots=True)
class IdleChange:
    """What is to be told of an experiment."""

    experiment_id: str
    generation: int
    # None: its GPUs are used again.
    idle_seconds: float | None
    # Its whole window is over.
    stop: bool = False


@dataclass(slots=True)
class _Reading:
    time: float
    percent: int
    # The highest since the last look, or that of the last look while nothing newer came.
    peak: int
    looked_at: bool = False


@dataclass(slots=True)
class _Count:
    looked: float
    idle_seconds: float = 0.0


class Idleness:
    """Counts for all experiments with a policy; `now` is always monotonic seconds."""

    def __init__(self, patience_seconds: float) -> None:
        """A reading is good for so long."""
        self._patience = patience_seconds
        self._wanted: frozenset[str] = frozenset()
        self._readings: dict[str, _Reading] = {}
        self._counts: dict[tuple[str, int], _Count] = {}

    @property
    def wanted(self) -> Set[str]:
        """GPUs whose samples count, by UUID."""
        return self._wanted

    def sampled(self, uuid: str, percent: int, now: float) -> None:
        """One of these GPUs was read."""
        known = self._readings.get(uuid)
        peak = percent if known is None or known.looked_at else max(known.peak, percent)
        self._readings[uuid] = _Reading(now, percent, peak)

    def look(self, experiments: Iterable[Watched], now: float) -> list[IdleChange]:
        """What is to be told, at this look, of the experiments that run with a policy. It is said
        again until it shows in them.
        """
        every = list(experiments)
        self._wanted = frozenset([uuid for one in every for uuid in one.gpus])
        self._readings = {u: r for u, r in self._readings.items() if u in self._wanted}
        known, self._counts = self._counts, {}
        changes = []
        for one in every:
            key = (one.experiment_id, one.generation)
            count = self._counts[key] = known.get(key) or _Count(now)
            change = self._judge(one, count, now)
            if change is not None:
                changes.append(change)
        for reading in self._readings.values():
            reading.peak = reading.percent
            reading.looked_at = True
        return changes

    def _judge(self, one: Watched, count: _Count, now: float) -> IdleChange | None:
        passed = min(now - count.looked, self._patience)
        count.looked = now
        readings = [self._readings.get(uuid) for uuid in one.gpus]
        fresh = [r for r in readings if r is not None and now - r.time <= self._patience]
        name = (one.experiment_id, one.generation)
        if any(reading.peak >= one.min_percent for reading in fresh):
            count.idle_seconds = 0.0
            return IdleChange(*name, None) if one.noticed else None
        if len(fresh) < len(readings):
            return None
        count.idle_seconds += passed
        if count.idle_seconds >= one.window_seconds:
            return IdleChange(*name, count.idle_seconds, stop=True)
        if not one.noticed and count.idle_seconds >= one.window_seconds / 2:
            return IdleChange(*name, count.idle_seconds)
        return None
