"""When a call is repeated: only after UNAVAILABLE, and only if doing it twice is the same as doing
it once.

That holds for reads, for calls that carry a ``request_id`` (the server answers a repetition with
its first answer) and for the few that set something to a value.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_READS: Final = ("Get", "List", "Find", "Stat", "Watch", "Tail", "Explain", "Plan")
_SETTERS: Final = frozenset(
    {
        "KillExperiment",
        "CordonNode",
        "UncordonNode",
        "DrainNode",
        "UpdateUser",
    }
)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between tries, in seconds: each up to ``factor`` times the one before, with full
    jitter above a floor.
    """

    first_seconds: float = 0.1
    factor: float = 2.0
    most_seconds: float = 5.0
    tries: int = 5
    """Tries in all, the first included."""

    def pauses(self, rng: random.Random | None = None) -> Iterator[float]:
        """The pauses, one fewer than tries. Jitter keeps many clients from coming back at the same
        moment.
        """
        chance = rng or random.Random()
        ceiling = self.first_seconds
        for _ in range(self.tries - 1):
            yield ceiling * (0.5 + 0.5 * chance.random())
            ceiling = min(ceiling * self.factor, self.most_seconds)


CALL: Final = Backoff()
"""For single calls: gives up after about two seconds, so a person is told soon that the server is
down.
"""

STREAM: Final = Backoff(first_seconds=0.2, most_seconds=5.0, tries=120)
"""For streams that are followed: about ten minutes, which covers a restart of the control plane."""


def may_repeat(method: str, request_has_id: bool) -> bool:
    """Whether a call may be sent again when nobody knows if it arrived."""
    return request_has_id or method.startswith(_READS) or method in _SETTERS
