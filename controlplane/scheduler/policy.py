"""What can be chosen of how a cycle decides, and the choices that have a name.

The cluster runs `riseml`; the others are what it is compared with in simulations.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


class Placement(enum.Enum):
    """Which of the nodes that fit is taken."""

    RISEML = "riseml"
    BEST_FIT = "best-fit"
    FGD = "fgd"
    RANDOM = "random"


class Ordering(enum.Enum):
    """Who comes first."""

    # Queues by guarantee and weight, priority, users by what they use, then urgency.
    FAIR = "fair"
    # Whoever came first.
    FIFO = "fifo"
    # Priority, then whoever came first.
    PRIORITY = "priority"


class Backfill(enum.Enum):
    """Who may pass a gang that does not fit yet."""

    # Whoever delays none of several reservations.
    RESERVATION = "reservation"
    # Whoever does not delay the one of the first gang that does not fit.
    EASY = "easy"
    # Nobody: the first that does not fit stops all others.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Policy:
    """How a cycle decides."""

    placement: Placement = Placement.RISEML
    order: Ordering = Ordering.FAIR
    backfill: Backfill = Backfill.RESERVATION
    # How many of the first that do not fit get a reservation (EASY: one).
    reservations: int = 8
    # Whatever asks for as much time or more counts alike: the oldest first.
    longest_counted_seconds: float = 24 * 3600.0
    # Who has waited longer than this comes before everybody of its queue and priority.
    patience_seconds: float = 72 * 3600.0
    # Who has waited longer than this keeps the room that the cycle before kept for it, whoever is
    # shorter or has used less: so many at a time, of each queue and priority.
    settled_seconds: float = 3600.0
    settled: int = 2
    # Whether running gangs are stopped for those that wait.
    preemption: bool = True
    # Whether the plan says why the others wait, and why those that start do so where they do.
    explain: bool = True
    # For what is drawn at random; equal seeds give equal plans.
    seed: int = 0


DEFAULT: Final = Policy()

POLICIES: Final[Mapping[str, Policy]] = MappingProxyType(
    {
        "riseml": DEFAULT,
        "riseml-no-preemption": Policy(preemption=False),
        "fifo": Policy(order=Ordering.FIFO, backfill=Backfill.NONE, preemption=False),
        "priority": Policy(order=Ordering.PRIORITY, backfill=Backfill.NONE, preemption=False),
        "easy": Policy(order=Ordering.FIFO, backfill=Backfill.EASY, preemption=False),
        "random": Policy(placement=Placement.RANDOM, preemption=False),
        "best-fit": Policy(placement=Placement.BEST_FIT, preemption=False),
        "fgd": Policy(placement=Placement.FGD, preemption=False),
    }
)
