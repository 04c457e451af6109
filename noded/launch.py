"""What is asked of the supervisor and what it answers: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from noded.attempt_dir import AttemptDir, AttemptState, Observation
from noded.cgroups import Limits
from noded.shim.spec import Intent
from noded.shim.status import ShimStatus


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """One job's process. `env` is all that it sees, besides what marks it as this attempt's."""

    attempt_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    grace_ms: int = 10_000
    cwd: str = ""
    """Empty: the attempt's work directory."""
    uid: int | None = None
    """None: the daemon's own user. The daemon must be root for anything else."""
    gid: int | None = None
    groups: tuple[int, ...] = ()
    limits: Limits | None = None
    contact_timeout_ms: int = 0
    umask: int | None = None
    nice: int | None = None
    oom_score_adj: int | None = None
    rlimits: tuple[tuple[int, int, int], ...] = ()
    log_segment_bytes: int = 50 << 20
    log_max_segments: int = 200
    notes: Mapping[str, str] = field(default_factory=dict)
    """Kept in the spec for the daemon that adopts this attempt."""


@dataclass(frozen=True, slots=True)
class Started:
    """The job's program was executed."""

    attempt_id: str
    pid: int
    exec_ns: int


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing of the attempt runs any more. EXITED: `status` says how; its state is NOT_STARTED
    where the program could not be executed. VANISHED: how it ended is not known; what was left was
    killed. NEVER_STARTED: ordered, and nothing ran."""

    attempt_id: str
    state: AttemptState
    status: ShimStatus | None
    reason: str
    message: str
    log_bytes: int
    results_bytes: int


Event = Started | Ended


@dataclass(frozen=True, slots=True)
class Adopted:
    """What an earlier run of the daemon left: still running, or ended while nobody looked."""

    directory: AttemptDir
    intent: Intent | None
    observation: Observation
