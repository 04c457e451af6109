"""What the scheduler is given: an immutable picture of the cluster, its queues and who waits.

These are values only; the policy is in `controlplane/scheduler/`, and `controlplane/core/` makes
the pictures. What the scheduler answers is in `plan.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import exp2, log

from controlplane.domain.model import Gpu, GpuShare, Queue
from riseml.spec.model import DEFAULT_QUEUE, Resources


@dataclass(frozen=True, slots=True)
class GpuView:
    """One GPU as the scheduler sees it."""

    gpu: Gpu
    # Thousandths not allocated by us.
    free_milli: int
    # False when quarantined, lost, unknown, or used by a foreign process: see `unusable_reason`.
    usable: bool = True
    unusable_reason: str = ""
    # Well again after a quarantine: `usable` is False, but a test of this GPU may run on it.
    probation: bool = False


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
    # False when disconnected, lost, cordoned (here or where it comes from), draining, or late with
    # its telemetry: see `closed_reason`.
    open: bool = True
    closed_reason: str = ""
    # The only RiseML user whose jobs it runs; "" for all.
    only_user: str = ""
    # Rendezvous ports that are free; more than any gang needs where pods have addresses of their
    # own.
    free_ports: int = 0
    # Size of /dev/shm and what nobody has asked for of it; 0: unknown, and not counted.
    shm_bytes: int = 0
    free_shm_bytes: int = 0
    # (key, value): only gangs that tolerate all of them come here.
    taints: tuple[tuple[str, str], ...] = ()
    # Whether it runs jobs in images of their own.
    runs_images: bool = False
    # Whether no job gets a share of a GPU there.
    whole_gpus: bool = False


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
    queue: str = DEFAULT_QUEUE
    # (key, value); an empty value tolerates any value of the key.
    tolerations: tuple[tuple[str, str], ...] = ()
    max_duration_seconds: int | None = None
    # UUID of the GPU in probation that it tests; "" for everything that is no such test.
    tests_gpu: str = ""
    grace_period_seconds: float = 30.0
    # Whether its jobs run in an image of its own, which not every node can do.
    needs_image: bool = False
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = (
            self.user_name,
            self.resources,
            self.node_selector,
            self.only_nodes,
            self.queue,
            self.tolerations,
            self.max_duration_seconds,
            self.tests_gpu,
            self.grace_period_seconds,
            self.needs_image,
        )
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
    tolerations: tuple[tuple[str, str], ...] = ()
    tests_gpu: str = ""
    # Between SIGTERM and SIGKILL, when it is stopped.
    grace_period_seconds: float = 30.0
    needs_image: bool = False

    @property
    def shape(self) -> Shape:
        """Made anew each time; the line that it stands in keeps one."""
        wanted = tuple([member.resources for member in self.members])
        return Shape(
            self.user_name,
            wanted,
            self.node_selector,
            self.only_nodes,
            self.queue,
            self.tolerations,
            self.max_duration_seconds,
            self.tests_gpu,
            self.grace_period_seconds,
            self.needs_image,
        )

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
class Backlog:
    """All gangs that wait, in lines; no two lines have the same shape and priority."""

    lines: tuple[Line, ...] = ()

    @classmethod
    def of(cls, gangs: Iterable[GangRequest]) -> Backlog:
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
class MemberPlacement:
    """One job goes to one node with these GPU shares."""

    job_id: str
    node_name: str
    gpus: tuple[GpuShare, ...] = ()
    cpu_milli: int = 0
    memory_bytes: int = 0
    shm_bytes: int = 0


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
    # Time by which it will be gone, when it is being stopped already.
    stopping_until: float | None = None
    # When a checkpoint was last seen in its output.
    checkpoint_time: float | None = None
    # Between SIGTERM and SIGKILL.
    grace_period_seconds: float = 30.0
    # The experiment that it makes room for; "" when it is stopped for none, or not at all.
    stopping_for: str = ""

    @property
    def end_time(self) -> float | None:
        """The latest time at which it gives back what it holds; None: nothing bounds it."""
        if self.stopping_until is not None:
            return self.stopping_until
        if self.max_duration_seconds is None:
            return None
        return self.start_time + self.max_duration_seconds + self.grace_period_seconds


@dataclass(frozen=True, slots=True)
class Held:
    """What jobs hold together."""

    gpu_milli: int = 0
    cpu_milli: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RecentUse:
    """Use of the cluster that counts less the longer it is ago: it halves every half-life.

    In seconds of the whole cluster: holding a tenth of it (by the resource of which most is held)
    for ten seconds is one.
    """

    # As of `time`.
    seconds: float = 0.0
    time: float = 0.0
    # The part of the cluster that is held since then, 0 to 1.
    rate: float = 0.0
    half_life_seconds: float = 7 * 86_400.0

    def at(self, now: float) -> float:
        """As of `now`, which is not before `time`."""
        passed = max(0.0, now - self.time)
        left = exp2(-passed / self.half_life_seconds)
        return self.seconds * left + self.rate * (1.0 - left) * self.half_life_seconds / log(2.0)


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue with what its jobs hold."""

    queue: Queue
    held: Held = Held()
    use: RecentUse = RecentUse()


@dataclass(frozen=True, slots=True)
class UserView:
    """What one user holds and used through one queue."""

    queue: str
    user_name: str
    held: Held = Held()
    use: RecentUse = RecentUse()


@dataclass(frozen=True, slots=True)
class Durations:
    """What was learned of how long experiments really run, as quantiles in ascending order."""

    # Of the part of their max_duration that those with one needed, 0 to 1.
    parts: tuple[float, ...] = ()
    # In seconds, of those without one.
    seconds: tuple[float, ...] = ()


Mix = tuple[tuple[Resources, float], ...]
"""What single jobs lately asked for, with the part of all jobs that asked for it (sum 1). The same
object as long as nothing was learned: caches go by identity.
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable picture of the cluster. `version` rises with every change that matters."""

    version: int
    # A node in which nothing changed is the same object as in the snapshot before.
    nodes: tuple[NodeView, ...]
    pending: Backlog
    running: Sequence[RunningGang] = ()
    # By name. One that gangs name and that is missing here has the defaults of `Queue`.
    queues: tuple[QueueView, ...] = ()
    # By queue and user name; those that are missing hold and used nothing.
    users: tuple[UserView, ...] = ()
    mix: Mix = ()
    durations: Durations = Durations()
    # Waiting experiments for which others were stopped, in the order of their ids.
    preemptors: tuple[str, ...] = ()
    # Waiting experiments for which the plan before this snapshot kept room, in its order.
    reserved: tuple[str, ...] = ()
    # (experiment, for whom it was stopped or is being stopped), until the first starts again.
    made_room: tuple[tuple[str, str], ...] = ()
