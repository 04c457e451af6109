"""A decision of the scheduler that was made real, as the record of decisions keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain.plan import Decision


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """Who, where, why, and in which cycle."""

    cycle_number: int
    # The cycle's `now`, in seconds since the epoch.
    time: float
    decision: Decision
