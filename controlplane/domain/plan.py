"""What the scheduler is given and what it answers.

These are values only; the policy is in `controlplane/scheduler/`. They live here because events
carry plans and the scheduler must not be imported by the domain.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from controlplane.domain.model import Gpu, GpuShare
from riseml.spec.model import Resources


@dataclass(frozen=True, slots=True)
class GpuView:
    """One GPU as the scheduler sees it."""

    gpu: Gpu
    # Thousandths not allocated by us.
    free_milli: int
    # False when quarantined, lost, unknown, or used by a foreign process: see `unusable_reason`.
    usable: bool = True
    unusable_reason: str = ""


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node as the scheduler sees it."""

    name: str
    cpu_milli: int
    memory_bytes: int
    free_cpu_milli: int
    free_memory_bytes: int
    gpus: tuple[GpuView, ...] = ()
    # With `riseml.com/node=<name>` always among them.
    labels: tuple[tuple[str, str], ...] = ()
    # False when disconnected, lost, cordoned or draining: see `closed_reason`.
    open: bool = True
    closed_reason: str = ""
    # The only RiseML user whose jobs it runs; "" for all.
    only_user: str = ""
    # Rendezvous ports that are free.
    free_ports: int = 0


@dataclass(frozen=True, slots=True)
class MemberRequest:
    """One job of a gang that waits."""

    job_id: str
    resources: Resources


@dataclass(frozen=True, slots=True)
class GangRequest:
    """An experiment that waits for all its members to be placed at once (often just one)."""

    experiment_id: str
    user_name: str
    queue: str
    # 0-100, high first.
    priority: int
    submit_time: float
    members: tuple[MemberRequest, ...]
    node_selector: tuple[tuple[str, str], ...] = ()
    # Only these nodes are possible (outputs of an earlier attempt lie there); empty: any.
    only_nodes: tuple[str, ...] = ()
    max_duration_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class RunningGang:
    """An experiment that holds an allocation."""

    experiment_id: str
    user_name: str
    queue: str
    priority: int
    start_time: float
    max_duration_seconds: int | None
    members: tuple[MemberPlacement, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable picture of the cluster. `version` rises with every change that matters."""

    version: int
    nodes: tuple[NodeView, ...]
    pending: tuple[GangRequest, ...]
    running: tuple[RunningGang, ...] = ()


@dataclass(frozen=True, slots=True)
class MemberPlacement:
    """One job goes to one node with these GPU shares."""

    job_id: str
    node_name: str
    gpus: tuple[GpuShare, ...] = ()
    cpu_milli: int = 0
    memory_bytes: int = 0


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
    reason: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """Capacity kept for an experiment from a time on."""

    experiment_id: str
    start_time: float
    node_names: tuple[str, ...]


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
class Plan:
    """The scheduler's answer to a snapshot."""

    version: int
    placements: tuple[GangPlacement, ...] = ()
    evictions: tuple[Eviction, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    waiting: tuple[Waiting, ...] = ()
