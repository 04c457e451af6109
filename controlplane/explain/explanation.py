"""What an explanation is made of: values that the contract's messages are made from."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from controlplane.domain.plan import Eviction, PendingReason
from controlplane.domain.snapshot import MemberPlacement
from controlplane.domain.states import State


class GpuCode(enum.Enum):
    """What stands in the way on one GPU; the values are part of the contract."""

    FREE = "FREE"
    HELD = "HELD"
    RESERVED = "RESERVED"
    QUARANTINED = "QUARANTINED"
    PROBATION = "PROBATION"
    FOREIGN = "FOREIGN"
    UNKNOWN = "UNKNOWN"
    OTHER_KIND = "OTHER_KIND"


@dataclass(frozen=True, slots=True)
class GpuVerdict:
    """What one GPU means for one experiment."""

    uuid: str
    index: int
    # Thousandths that this experiment could have.
    free_milli: int
    code: GpuCode
    # In words, without the name of the GPU: `held by paul.17 until about 14:00`.
    message: str
    # That hold a part of it, or for which it is kept.
    experiment_ids: tuple[str, ...] = ()
    # When it should be free by what is known; None: nobody can say.
    free_time: float | None = None


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """What one node means for one experiment."""

    node_name: str
    # Whether the hardest of its jobs to place would fit now.
    fits: bool
    # A sentence.
    message: str
    gpus: tuple[GpuVerdict, ...] = ()


@dataclass(frozen=True, slots=True)
class StartEstimate:
    """When something should start, and how good earlier estimates were."""

    # Seconds since the epoch.
    earliest_time: float
    # None: nothing that is known bounds it.
    latest_time: float | None
    # What it rests on, in words.
    basis: str
    # Over how many earlier estimates the errors are; 0: none.
    past_count: int = 0
    past_median_error_seconds: float = 0.0
    past_p90_error_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the scheduler says of one experiment."""

    experiment_id: str
    state: State
    # In one sentence.
    summary: str
    # Most important first; lines that begin with two spaces belong to the one above.
    lines: tuple[str, ...] = ()
    reasons: tuple[PendingReason, ...] = ()
    members: tuple[MemberPlacement, ...] = ()
    # Nodes that are of interest, best first.
    nodes: tuple[NodeVerdict, ...] = ()
    estimate: StartEstimate | None = None
    # What would let it start now, the smallest change first.
    suggestions: tuple[str, ...] = ()
    evictions: tuple[Eviction, ...] = ()
    impossible: bool = False
    # The cycle that decided, and its `now`; 0: none.
    cycle_number: int = 0
    cycle_time: float | None = None
