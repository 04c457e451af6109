"""How far a long run has come: one line on a terminal, nothing anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TextIO

# Told how much of a run is done, from 0 to 1.
Report = Callable[[float], None]

SECONDS_BETWEEN: Final = 0.2
WIDTH: Final = 30


def unheard(part: float) -> None:
    """Reports to nobody."""


class Progress:
    """A bar, the part that is done, and how long the rest takes if it goes on like this."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._visible = stream.isatty()
        self._begin = clock()
        self._next = self._begin + SECONDS_BETWEEN

    def show(self, part: float, words: str = "") -> None:
        """Often called: it writes a few times a second at most."""
        if not self._visible:
            return
        now = self._clock()
        if now < self._next:
            return
        self._next = now + SECONDS_BETWEEN
        part = min(max(part, 0.0), 1.0)
        filled = round(part * WIDTH)
        bar = "#" * filled + "." * (WIDTH - filled)
        left = f", {_duration((now - self._begin) * (1 - part) / part)} left" if part else ""
        self._stream.write(f"\r\x1b[K[{bar}] {part:4.0%}{left}  {words}")
        self._stream.flush()

    def clear(self) -> None:
        """Makes room for what comes next."""
        if self._visible:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
