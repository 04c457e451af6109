"""What the scheduler saw and did when it came to one gang: the ground of every explanation.

A trace is made by running a cycle again on the snapshot that it ran on: equal input gives an equal
plan, so the trace is of the decision itself and not a second guess.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain.plan import Decision, Eviction, PendingReason, Reservation
from controlplane.domain.snapshot import GangRequest, Held


@dataclass(frozen=True, slots=True)
class GpuTrace:
    """One GPU when the gang's turn came. Parts are thousandths."""

    uuid: str
    index: int
    # Neither held by a running job, nor given in this cycle to a gang that came before.
    free_milli: int
    # Of the free part what is kept for others, and for whom.
    reserved_milli: int = 0
    reserved_for: tuple[str, ...] = ()
    # Given in this cycle to gangs that came before.
    given_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeTrace:
    """One node when the gang's turn came."""

    node_name: str
    free_cpu_milli: int
    free_memory_bytes: int
    free_shm_bytes: int
    free_ports: int
    gpus: tuple[GpuTrace, ...] = ()
    # Whether the hardest of its jobs to place would have fitted, and what stood in the way if not.
    fits: bool = False
    obstacle: PendingReason | None = None


@dataclass(frozen=True, slots=True)
class OrderTrace:
    """Where the gang stood in the order, and by what."""

    # Gangs that were considered before it, and those of them that were of its own queue.
    before: int
    before_in_queue: int
    queue_weight: int
    # What the queue held at that moment, and its dominant part of the cluster, 0 to 1.
    queue_held: Held
    queue_share: float
    # The part that its weight entitles the queue to, 0 to 1.
    queue_fair_share: float
    # Recent use of the user, in seconds of the whole cluster; see `RecentUse`.
    user_recent_seconds: float
    waited_seconds: float
    # How the rule in docs/scheduling/policy.md ranks it within its user and priority, lowest first.
    urgency: float


@dataclass(frozen=True, slots=True)
class DecisionTrace:
    """All about one gang in one cycle."""

    gang: GangRequest
    order: OrderTrace
    # Every node, by name.
    nodes: tuple[NodeTrace, ...]
    # Where it was placed or which room is reserved for it; None: it only waits.
    decision: Decision | None = None
    reservation: Reservation | None = None
    evictions: tuple[Eviction, ...] = ()
    reasons: tuple[PendingReason, ...] = ()
    impossible: bool = False
