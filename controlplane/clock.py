"""What time it is for the reactor."""

from __future__ import annotations

import time
from collections.abc import Callable


def elapsed_seconds() -> float:
    """Since some moment before; goes on while the machine sleeps, where the system has that."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class SteadyClock:
    """Seconds since the epoch that never jump: the system's clock is read once, then counted on.

    Durations are told by it, such as when a lost node's jobs have stopped for certain: were the
    system's clock set an hour ahead (by an admin, or by NTP after a bad start), they would seem to
    be over, and a job might run twice. Times are as far off as the clock was at the start.
    """

    def __init__(
        self,
        wall_clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = elapsed_seconds,
    ) -> None:
        self._elapsed = elapsed
        self._start = wall_clock() - elapsed()

    def __call__(self) -> float:
        return self._start + self._elapsed()
