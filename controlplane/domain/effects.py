"""What has to be done outside once the changes are committed. Data, safe to repeat."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain.model import AttemptOrder


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """Run this on that node."""

    node_name: str
    order: AttemptOrder


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """SIGTERM, grace, SIGKILL. `grace_period_seconds` None: as the order says; 0: kill at once."""

    node_name: str
    attempt_id: str
    reason: str
    grace_period_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ForgetAttempt:
    """Its end is recorded; the node may drop it once its logs are shipped."""

    node_name: str
    attempt_id: str


@dataclass(frozen=True, slots=True)
class WakeScheduler:
    """Something changed that may let a waiting experiment start."""


@dataclass(frozen=True, slots=True)
class EndSession:
    """A newer session of this node took over: end the one with this epoch."""

    node_name: str
    epoch: int


Effect = StartAttempt | StopAttempt | ForgetAttempt | WakeScheduler | EndSession


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """Reply to NodeConnected: what goes into the Welcome."""

    desired: tuple[AttemptOrder, ...]
    stopping: tuple[StopAttempt, ...]
    forget: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RejectedPlacement:
    """A placement that no longer fitted; its experiment waits on."""

    experiment_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class PlanApplied:
    """Reply to PlanMade: what came of the plan. Rejections are normal, for snapshots grow old."""

    started: tuple[str, ...]
    rejected: tuple[RejectedPlacement, ...]
    evicted: tuple[str, ...]
