"""What the scheduler is given and what it answers.

These are values only; the policy is in `controlplane/scheduler/`. They live here because events
carry plans and the scheduler must not be imported by the domain.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

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
class Shape:
    """What decides where a gang may go: gangs of one shape fit alike, or wait for the same reasons.

    Cheap to look up again: its hash is made once.
    """

    user_name: str
    # Of the members, in their order.
    resources: tuple[Resources, ...]
    node_selector: tuple[tuple[str, str], ...] = ()
    only_nodes: tuple[str, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = (self.user_name, self.resources, self.node_selector, self.only_nodes)
        object.__setattr__(self, "_hash", hash(parts))

    def __hash__(self) -> int:
        return self._hash


Rank = tuple[int, float, int, str]
"""The lowest comes first: higher priority, then earlier submission, then the id. Children of a set
are submitted in the same moment: ids by length first, so .2 comes before .10.
"""


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

    @property
    def shape(self) -> Shape:
        """Made anew each time; the line that it stands in keeps one."""
        wanted = tuple([member.resources for member in self.members])
        return Shape(self.user_name, wanted, self.node_selector, self.only_nodes)

    @property
    def rank(self) -> Rank:
        """Its place in the order in which places are given."""
        name = self.experiment_id
        return (-self.priority, self.submit_time, len(name), name)


class Line:
    """Waiting gangs of one shape and priority, by rank. Never empty, never changes.

    It shows a stretch of a list that others may append to, so that a longer line costs no copy.
    """

    __slots__ = ("_begin", "_end", "_gangs", "priority", "shape")

    def __init__(
        self, shape: Shape, priority: int, gangs: list[GangRequest], begin: int, end: int
    ) -> None:
        self.shape = shape
        self.priority = priority
        self._gangs = gangs
        self._begin = begin
        self._end = end

    def __len__(self) -> int:
        return self._end - self._begin

    def __iter__(self) -> Iterator[GangRequest]:
        return islice(self._gangs, self._begin, self._end)

    def __getitem__(self, position: int) -> GangRequest:
        if not 0 <= position < len(self):
            raise IndexError(position)
        return self._gangs[self._begin + position]


@dataclass(frozen=True, slots=True)
class Queue:
    """All gangs that wait, in lines; no two lines have the same shape and priority."""

    lines: tuple[Line, ...] = ()

    @classmethod
    def of(cls, gangs: Iterable[GangRequest]) -> Queue:
        """These gangs, in whatever order they come."""
        found: dict[tuple[Shape, int], list[GangRequest]] = {}
        for gang in gangs:
            found.setdefault((gang.shape, gang.priority), []).append(gang)
        lines = []
        for (shape, priority), equals in found.items():
            equals.sort(key=lambda gang: gang.rank)
            lines.append(Line(shape, priority, equals, 0, len(equals)))
        return cls(tuple(lines))

    def __len__(self) -> int:
        return sum(map(len, self.lines))

    def __iter__(self) -> Iterator[GangRequest]:
        for line in self.lines:
            yield from line


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
    pending: Queue
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
class WaitingShape:
    """Why all gangs of one shape wait that the plan does not place."""

    shape: Shape
    reasons: tuple[PendingReason, ...]
    impossible: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The scheduler's answer to a snapshot."""

    version: int
    placements: tuple[GangPlacement, ...] = ()
    evictions: tuple[Eviction, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    waiting: tuple[WaitingShape, ...] = ()
