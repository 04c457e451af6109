"""What the daemon says of its attempts. Times are float seconds since the epoch."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class AttemptPhase(enum.Enum):
    """Where an attempt is, as its node knows it; the last two are final."""

    PREPARING = "PREPARING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    LOST = "LOST"

    @property
    def ended(self) -> bool:
        return self in (AttemptPhase.EXITED, AttemptPhase.LOST)


@dataclass(frozen=True, slots=True)
class Report:
    """One attempt as it stands. The final one names how long its log and its results are, in
    bytes."""

    attempt_id: str
    phase: AttemptPhase
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    exit_signal: int = 0
    start_time: float | None = None
    end_time: float | None = None
    final_log_offset: int = 0
    final_results_offset: int = 0
