"""What the scheduler answers to a snapshot: who starts where, who makes room, and why others wait.

These are values only; the policy is in `controlplane/scheduler/`. They live here because events
carry plans and the scheduler must not be imported by the domain.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from controlplane.domain.snapshot import MemberPlacement, Shape


@dataclass(frozen=True, slots=True)
class GangPlacement:
    """All members of one experiment, applied whole or not at all."""

    experiment_id: str
    members: tuple[MemberPlacement, ...]


@dataclass(frozen=True, slots=True)
class Eviction:
    """A running experiment that has to make room, and for whom."""

    experiment_id: str
    for_experiment_id: str
    # In words, complete, for the user whose experiment it is.
    reason: str
    # Work that is lost: GPU-seconds since its last checkpoint, or since it started.
    lost_gpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """Capacity kept for an experiment from a time on."""

    experiment_id: str
    # When it should start by what is known; infinity when nothing bounds who is in the way.
    start_time: float
    node_names: tuple[str, ...]
    members: tuple[MemberPlacement, ...] = ()
    # Said of the experiment before all other reasons.
    reason: PendingReason | None = None


class PendingCode(enum.Enum):
    """Why an experiment waits; the values are stable and machine-readable."""

    NO_NODES = "NO_NODES"
    NODES_CLOSED = "NODES_CLOSED"
    NO_MATCHING_LABELS = "NO_MATCHING_LABELS"
    NO_MATCHING_GPU = "NO_MATCHING_GPU"
    OTHER_USERS_NODE = "OTHER_USERS_NODE"
    TOO_LARGE = "TOO_LARGE"
    CPU_BUSY = "CPU_BUSY"
    MEMORY_BUSY = "MEMORY_BUSY"
    GPUS_BUSY = "GPUS_BUSY"
    GPUS_UNUSABLE = "GPUS_UNUSABLE"
    PORTS_BUSY = "PORTS_BUSY"
    # Only the nodes that hold its earlier output are possible.
    PINNED = "PINNED"
    GANG_INCOMPLETE = "GANG_INCOMPLETE"
    # There is room, but it is kept for a larger one that has waited long.
    RESERVED = "RESERVED"
    SET_CONCURRENCY = "SET_CONCURRENCY"
    SHM_BUSY = "SHM_BUSY"
    # Nodes have taints that it does not tolerate.
    TAINTED = "TAINTED"
    # Its queue may not hold more.
    QUEUE_LIMIT = "QUEUE_LIMIT"
    # Others make room for it and have not ended yet.
    PREEMPTING = "PREEMPTING"
    # It asks for a share of a GPU, and nodes give out whole ones only.
    WHOLE_GPUS = "WHOLE_GPUS"
    # It names an image, and nodes run jobs as plain processes.
    NO_IMAGES = "NO_IMAGES"


@dataclass(frozen=True, slots=True)
class PendingReason:
    """One reason, with the nodes it holds on and the numbers it speaks of."""

    code: PendingCode
    # In words, complete: "2 of 3 nodes have too few free GPUs: 4 asked for, at most 1 free".
    message: str
    node_names: tuple[str, ...] = ()
    # What of one node would have been needed, and the most that is free on one (same unit).
    needed: int = 0
    available: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """An experiment that stays PENDING and why, most important reason first."""

    experiment_id: str
    reasons: tuple[PendingReason, ...]
    # No node of this cluster could ever hold it as it is.
    impossible: bool = False


@dataclass(frozen=True, slots=True)
class WaitingShape:
    """Why all gangs of one shape wait that the plan does not place."""

    shape: Shape
    reasons: tuple[PendingReason, ...]
    impossible: bool = False
    # The highest of those that wait: one of a higher priority might preempt.
    priority: int = 0


class DecisionKind(enum.Enum):
    """What was decided on an experiment; the values are what records keep."""

    PLACED = "PLACED"
    RESERVED = "RESERVED"
    PREEMPTED = "PREEMPTED"


@dataclass(frozen=True, slots=True)
class Decision:
    """Who, where, why, and what else there was: compact, for the record."""

    experiment_id: str
    kind: DecisionKind
    members: tuple[MemberPlacement, ...] = ()
    # Why so, in words.
    message: str = ""
    # Nodes that came next, best first, each with why it was not taken.
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The scheduler's answer to a snapshot."""

    version: int
    placements: tuple[GangPlacement, ...] = ()
    evictions: tuple[Eviction, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    waiting: tuple[WaitingShape, ...] = ()
    decisions: tuple[Decision, ...] = ()
