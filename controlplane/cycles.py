"""The last cycles of the scheduler: what each saw, answered, and what came of it.

Kept are references only: a snapshot shares with the next what did not change in between. Still a
large cluster that changes everywhere at once could fill memory with old pictures, so the sum of
what is kept is bounded as well; of cycles beyond the bound the numbers stay.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from controlplane.domain.effects import PlanApplied
from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import Snapshot

logger = logging.getLogger(__name__)

KEPT_CYCLES: Final = 64
# Nodes, gangs, and names in reasons that kept cycles refer to. As a rule a word of memory each; at
# worst, when everything was another in each cycle, about a kilobyte.
KEPT_REFERENCES: Final = 200_000


@dataclass(frozen=True, slots=True)
class Cycle:
    """One run of the scheduler whose plan was applied and committed."""

    number: int
    # The `now` that the scheduler was given: seconds since the epoch.
    start_time: float
    duration_seconds: float
    # Experiments that waited when it began.
    considered_count: int
    node_count: int
    snapshot_version: int
    reserved_count: int
    applied: PlanApplied
    # None when they are no longer kept.
    snapshot: Snapshot | None
    plan: Plan | None


@dataclass(frozen=True, slots=True)
class PlannedCycle:
    """A plan that was made and not applied yet."""

    snapshot: Snapshot
    start_time: float
    duration_seconds: float
    plan: Plan


class Cycles:
    """Numbers cycles from 1 on, or from where an earlier process stopped."""

    def __init__(self, kept: int = KEPT_CYCLES, references: int = KEPT_REFERENCES) -> None:
        self.last_number = 0
        # Told of each cycle after its commit. They may not take long, and if one fails that is
        # logged and disturbs nobody.
        self.observers: list[Callable[[Cycle], None]] = []
        self._kept = kept
        self._references = references
        self._cycles: deque[Cycle] = deque()
        # Of each of them that still has its details, oldest first.
        self._weights: deque[int] = deque()

    def record(self, planned: PlannedCycle, applied: PlanApplied) -> Cycle:
        """A cycle whose plan was applied and committed."""
        self.last_number += 1
        snapshot, plan = planned.snapshot, planned.plan
        cycle = Cycle(
            number=self.last_number,
            start_time=planned.start_time,
            duration_seconds=planned.duration_seconds,
            considered_count=len(snapshot.pending),
            node_count=len(snapshot.nodes),
            snapshot_version=snapshot.version,
            reserved_count=len(plan.reservations),
            applied=applied,
            snapshot=snapshot,
            plan=plan,
        )
        self._cycles.append(cycle)
        self._weights.append(_weight(snapshot, plan))
        while len(self._cycles) > self._kept:
            self._cycles.popleft()
            if len(self._weights) > len(self._cycles):
                self._weights.popleft()
        # The newest keeps its details whatever its size.
        while sum(self._weights) > self._references and len(self._weights) > 1:
            oldest = len(self._cycles) - len(self._weights)
            self._cycles[oldest] = replace(self._cycles[oldest], snapshot=None, plan=None)
            self._weights.popleft()
        for observe in self.observers:
            try:
                observe(cycle)
            except Exception:
                logger.exception("cycle %d cannot be noted", cycle.number)
        return cycle

    def newest_first(self) -> list[Cycle]:
        """All that are kept."""
        return list(reversed(self._cycles))

    def newest(self) -> Cycle | None:
        """The last cycle; None before the first."""
        return self._cycles[-1] if self._cycles else None

    def get(self, number: int) -> Cycle | None:
        """The cycle of this number if it is kept."""
        return next((cycle for cycle in self._cycles if cycle.number == number), None)


def _weight(snapshot: Snapshot, plan: Plan) -> int:
    """How many references a cycle keeps, roughly."""
    names = sum(len(reason.node_names) for one in plan.waiting for reason in one.reasons)
    decided = len(plan.placements) + len(plan.decisions) + len(plan.waiting)
    return len(snapshot.nodes) + len(snapshot.running) + names + 10 * decided
