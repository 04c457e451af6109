"""The scheduler as it is asked what it would do, or why it did something.

Apart from the one that decides: it is asked in another thread, and keeps nothing. Loaded at the
first question, for it costs memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import Snapshot
from controlplane.domain.trace import DecisionTrace


class Forecast(Protocol):
    """When an experiment should start; times are seconds since the epoch."""

    @property
    def earliest(self) -> float: ...
    @property
    def latest(self) -> float | None: ...
    @property
    def basis(self) -> str: ...


class Trials(Protocol):
    """What explanations ask of the scheduler. All of it is a pure function of the snapshot."""

    def schedule(self, snapshot: Snapshot, now: float) -> Plan:
        """The plan."""
        ...

    def placements(self, snapshot: Snapshot, now: float) -> Plan:
        """The same plan without its words: reasons and decisions may be missing."""
        ...

    def trace(self, snapshot: Snapshot, now: float, experiment_id: str) -> DecisionTrace | None:
        """What the cycle saw of one gang; None if it does not wait."""
        ...

    def forecast(self, snapshot: Snapshot, now: float, experiment_id: str) -> Forecast | None:
        """When a gang that waits should start; None where nothing can be said."""
        ...


class SchedulerTrials:
    """The scheduler of this cluster."""

    def schedule(self, snapshot: Snapshot, now: float) -> Plan:
        from controlplane.scheduler.cycle import schedule

        return schedule(snapshot, now)

    def placements(self, snapshot: Snapshot, now: float) -> Plan:
        from controlplane.scheduler.cycle import schedule
        from controlplane.scheduler.policy import DEFAULT

        return schedule(snapshot, now, replace(DEFAULT, explain=False))

    def trace(self, snapshot: Snapshot, now: float, experiment_id: str) -> DecisionTrace | None:
        from controlplane.scheduler.cycle import trace

        return trace(snapshot, now, experiment_id)

    def forecast(self, snapshot: Snapshot, now: float, experiment_id: str) -> Forecast | None:
        from controlplane.scheduler.forecast import forecast

        return forecast(snapshot, now, experiment_id)
