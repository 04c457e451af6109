"""How long experiments really run, learned from those that ended: `Snapshot.durations`.

However they ended: what counts is when they gave back what they held. Of those with a max_duration
the part of it that they needed is kept, of the others the seconds. Not stored: a control plane that
starts anew learns anew.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable
from typing import Final

from controlplane.domain.model import Attempt
from controlplane.domain.snapshot import Durations

# So many of the newest are remembered, and shown as so many quantiles.
REMEMBERED: Final = 512
QUANTILES: Final = 16
# Fewer say nothing.
FEWEST: Final = 8


class LearnedDurations:
    """Of the newest experiments that ended."""

    def __init__(self) -> None:
        self._parts = _Sample()
        self._seconds = _Sample()
        self._shown: Durations | None = Durations()

    def ended(self, attempts: Iterable[Attempt], max_duration_seconds: int | None) -> None:
        """An experiment ended; `attempts` are those of its gang that were the last."""
        begun = [one.start_time for one in attempts if one.start_time is not None]
        done = [one.end_time for one in attempts if one.end_time is not None]
        if not begun or not done:
            return
        seconds = max(0.0, max(done) - min(begun))
        if not max_duration_seconds:
            self._seconds.add(seconds)
        else:
            self._parts.add(min(1.0, seconds / max_duration_seconds))
        self._shown = None

    def shown(self) -> Durations:
        """The same object as long as nothing was learned."""
        if self._shown is None:
            self._shown = Durations(self._parts.quantiles(), self._seconds.quantiles())
        return self._shown


class _Sample:
    """The newest values, also in ascending order."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque()
        self._ordered: list[float] = []

    def add(self, value: float) -> None:
        if len(self._newest) == REMEMBERED:
            self._ordered.remove(self._newest.popleft())
        self._newest.append(value)
        insort(self._ordered, value)

    def quantiles(self) -> tuple[float, ...]:
        count = len(self._ordered)
        if count < FEWEST:
            return ()
        return tuple([self._ordered[place * count // QUANTILES] for place in range(QUANTILES)])
