"""The cluster as a copy that gangs are tried on: placed, released, held, undone.

Nothing of it is seen outside a cycle but the plan. What it does is journalled, so that a cycle can
look at the cluster as it would be if some gangs had ended, or if some room were kept for others,
and come back.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NewType

from controlplane.domain.model import GpuShare, PlacementStyle
from controlplane.domain.snapshot import (
    GangRequest,
    Held,
    MemberPlacement,
    NodeView,
    RunningGang,
    Shape,
    Snapshot,
)
from controlplane.scheduler.candidates import Candidates
from controlplane.scheduler.feasibility import (
    choose_gpus,
    gpu_matches,
    has_room,
    may_use,
    tested_view,
)
from controlplane.scheduler.policy import DEFAULT, Policy
from controlplane.scheduler.scratch import (
    EligibleKey,
    Scratch,
    ScratchNode,
    Taken,
    eligible_key,
)
from riseml.spec.model import GPU, Resources

Mark = NewType("Mark", int)

NEVER = float("-inf")
"""As `until`: whatever is held is available."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Why a member was placed where it was."""

    job_id: str
    node_name: str
    # How many nodes had room for it.
    feasible_nodes: int
    # In words.
    reason: str
    # Nodes that came next, each with why it was not taken.
    runners_up: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One node now: what is free there, counting what was taken and released, but not what is
    held; that stands beside it.
    """

    view: NodeView
    name: str
    free_cpu_milli: int
    free_memory_bytes: int
    free_shm_bytes: int
    free_ports: int
    # Thousandths that may be given, by position; 0 where a GPU is unusable.
    gpu_free: Sequence[int]
    # How many GPUs are wholly free.
    whole_free: int
    # Of what is free, what is held.
    held_cpu_milli: int
    held_memory_bytes: int
    held_shm_bytes: int
    gpu_held: Sequence[int]
    # Experiments that it is held for, on this node and by GPU.
    held_for: tuple[str, ...]
    gpu_held_for: Sequence[tuple[str, ...]]
    # Equal for nodes on which equal members fit or do not fit alike, name and labels apart.
    state: int


@dataclass(slots=True)
class _Amount:
    """A change of what is free on one node."""

    node: ScratchNode
    resources: Resources
    ports: int
    taken: Taken


@dataclass(slots=True)
class _Hold:
    experiment_id: str
    start_time: float
    amounts: list[_Amount]


class Room:
    """All nodes of one snapshot."""

    def __init__(self, policy: Policy = DEFAULT) -> None:
        self._policy = policy
        self._scratch = Scratch(())
        self._candidates = Candidates(self._scratch)
        self._by_name: dict[str, ScratchNode] = {}
        self._journal: list[_Amount | _Hold] = []
        self._holds: list[_Hold] = []
        self._choices: tuple[Choice, ...] = ()
        # What all nodes have together, whether free or not, open or not.
        self.capacity = Held()

    def load(self, snapshot: Snapshot) -> None:
        """Looks at this snapshot from now on; whatever was taken, released or held is dropped."""
        self._scratch = Scratch(snapshot.nodes)
        self._candidates = Candidates(self._scratch)
        self._by_name = {node.name: node for node in self._scratch.nodes}
        self._journal.clear()
        self._holds.clear()
        self._choices = ()
        self.capacity = Held(
            GPU * sum(len(view.gpus) for view in snapshot.nodes),
            sum(view.cpu_milli for view in snapshot.nodes),
            sum(view.memory_bytes for view in snapshot.nodes),
        )

    # --- what changes it

    def place(
        self, gang: GangRequest, style: PlacementStyle, until: float | None
    ) -> tuple[MemberPlacement, ...] | None:
        """Takes a place for every member, hardest first, in the order of the members; None and
        nothing taken if one has none.

        `until`: when the gang ends at the latest (None: unknown). What is held from a time before
        that on is not available.
        """
        suspended = [hold for hold in self._holds if until is not None and until <= hold.start_time]
        for hold in suspended:
            self._shift(hold.amounts, 1)
        mark = self.mark()
        members = self._place_all(gang)
        if members is None:
            self.undo(mark)
        for hold in suspended:
            self._shift(hold.amounts, -1)
        return members

    def _place_all(self, gang: GangRequest) -> tuple[MemberPlacement, ...] | None:
        ports = 1 if len(gang.members) > 1 else 0
        eligible = self._eligible(gang.shape)
        if gang.tests_gpu:
            return self._place_test(gang, eligible)
        placed: dict[int, MemberPlacement] = {}
        for position in largest_first(gang) if ports else range(len(gang.members)):
            member = gang.members[position]
            wanted = member.resources
            node = self._candidates.best(eligible, wanted, ports)
            taken = None if node is None else choose_gpus(node, wanted)
            if node is None or taken is None:
                return None
            self._take(_Amount(node, wanted, ports, taken))
            placed[position] = MemberPlacement(
                member.job_id,
                node.name,
                node.shares(taken),
                wanted.cpu_milli,
                wanted.memory_bytes,
                wanted.shm_bytes,
            )
        members = tuple([placed[position] for position in range(len(gang.members))])
        self._choices = tuple([Choice(m.job_id, m.node_name, 0, "") for m in members])
        return members

    def _place_test(
        self, gang: GangRequest, eligible: EligibleKey
    ) -> tuple[MemberPlacement, ...] | None:
        """The one GPU in probation that the gang's only member tests, and nothing else."""
        (member,) = gang.members
        for node in self._scratch.nodes:
            view = tested_view(node.view, gang.tests_gpu)
            if view is None or not may_use(node.view, eligible) or view.free_milli < GPU:
                continue
            # The GPU is nobody else's: there is nothing to count.
            wanted = replace(member.resources, gpu_milli=0)
            if not has_room(node, wanted, 0):
                return None
            self._take(_Amount(node, wanted, 0, ()))
            share = GpuShare(view.gpu.uuid, member.resources.gpu_milli)
            self._choices = (Choice(member.job_id, node.name, 1, "it tests this GPU"),)
            return (
                MemberPlacement(
                    member.job_id,
                    node.name,
                    (share,),
                    wanted.cpu_milli,
                    wanted.memory_bytes,
                    wanted.shm_bytes,
                ),
            )
        return None

    def release(self, gang: RunningGang) -> None:
        """As though it had ended."""
        for member in gang.members:
            amount = self._amount(member, 1 if len(gang.members) > 1 else 0)
            if amount is not None:
                self._take(_negative(amount))

    def hold(
        self, members: Sequence[MemberPlacement], experiment_id: str, start_time: float
    ) -> None:
        """Keeps these places from gangs that end after `start_time`: what is free of them."""
        hold = _Hold(experiment_id, start_time, [])
        for member in members:
            amount = self._amount(member, 0)
            if amount is None:
                continue
            node, wanted = amount.node, amount.resources
            kept = _Amount(
                node,
                Resources(
                    cpu_milli=max(0, min(node.free_cpu_milli, wanted.cpu_milli)),
                    memory_bytes=max(0, min(node.free_memory_bytes, wanted.memory_bytes)),
                ),
                0,
                tuple([(p, max(0, min(node.gpu_free[p], milli))) for p, milli in amount.taken]),
            )
            self._shift([kept], -1)
            hold.amounts.append(kept)
        self._holds.append(hold)
        self._journal.append(hold)

    def mark(self) -> Mark:
        """The present, to come back to."""
        return Mark(len(self._journal))

    def undo(self, mark: Mark) -> None:
        """Back to then: what was taken, released and held since is not."""
        while len(self._journal) > mark:
            done = self._journal.pop()
            if isinstance(done, _Hold):
                self._holds.remove(done)
                self._shift(done.amounts, 1)
            else:
                self._shift([done], 1)

    def _take(self, amount: _Amount) -> None:
        self._shift([amount], -1)
        self._journal.append(amount)

    def _shift(self, amounts: Sequence[_Amount], sign: int) -> None:
        for one in amounts:
            one.node.shift(sign, one.resources, one.ports, one.taken)
            self._scratch.changed.append(one.node)

    def _amount(self, member: MemberPlacement, ports: int) -> _Amount | None:
        """None if its node is gone. GPUs that are gone or unusable do not count."""
        node = self._by_name.get(member.node_name)
        if node is None:
            return None
        milli = {share.uuid: share.milli for share in member.gpus}
        taken = [
            (position, milli[view.gpu.uuid])
            for position, view in enumerate(node.view.gpus)
            if view.usable and view.gpu.uuid in milli
        ]
        wanted = Resources(cpu_milli=member.cpu_milli, memory_bytes=member.memory_bytes)
        return _Amount(node, wanted, ports, tuple(taken))

    # --- what it tells

    def choices(self) -> tuple[Choice, ...]:
        """Of the last `place` that succeeded, by member."""
        return self._choices

    def may_fit(self, gang: GangRequest) -> bool:
        """False only if there is certainly no room for all its members now."""
        free = self._scratch.nodes
        gpu = sum(member.resources.gpu_milli for member in gang.members)
        gpu = 0 if gang.tests_gpu else gpu
        cpu = sum(member.resources.cpu_milli for member in gang.members)
        memory = sum(member.resources.memory_bytes for member in gang.members)
        return (
            gpu <= sum(sum(node.gpu_free) for node in free)
            and cpu <= sum(max(0, node.free_cpu_milli) for node in free)
            and memory <= sum(max(0, node.free_memory_bytes) for node in free)
        )

    def could_hold(self, gang: GangRequest) -> bool:
        """Whether the open nodes would have room for all its members if nothing else ran."""
        eligible = self._eligible(gang.shape)
        if gang.tests_gpu:
            return any(
                tested_view(node.view, gang.tests_gpu) is not None and may_use(node.view, eligible)
                for node in self._scratch.nodes
            )
        left = [_Empty(n.view) for n in self._scratch.nodes if may_use(n.view, eligible)]
        return all(
            any(node.take(gang.members[position].resources) for node in left)
            for position in largest_first(gang)
        )

    def rows(self) -> list[Row]:
        """Every node, by name."""
        held = self._held()
        return [self._row(node, held) for node in self._scratch.nodes]

    def row(self, name: str) -> Row | None:
        """One node; None if there is none of this name."""
        node = self._by_name.get(name)
        return None if node is None else self._row(node, self._held())

    def _held(self) -> dict[int, list[tuple[str, _Amount]]]:
        held: dict[int, list[tuple[str, _Amount]]] = {}
        for hold in self._holds:
            for amount in hold.amounts:
                held.setdefault(amount.node.index, []).append((hold.experiment_id, amount))
        return held

    def _row(self, node: ScratchNode, held: dict[int, list[tuple[str, _Amount]]]) -> Row:
        if node.index in held:
            return _row(node, -1 - node.index, held[node.index])
        return _row(node, self._scratch.state_of(node), ())

    def may_use(self, view: NodeView, shape: Shape) -> bool:
        """Whether gangs of this shape may go to a node at all, if there is room."""
        return may_use(view, self._eligible(shape))

    def kind_of(self, shape: Shape) -> Hashable:
        """Equal for shapes that fit or do not fit alike on these nodes, whoever's they are."""
        return (self._eligible(shape), shape.resources, shape.tests_gpu)

    def _eligible(self, shape: Shape) -> EligibleKey:
        return eligible_key(shape, self._scratch.shared_by_all)


def largest_first(gang: GangRequest) -> list[int]:
    """Positions of the members, those that are hardest to place first."""

    def size(position: int) -> tuple[int, int, int, int]:
        wanted = gang.members[position].resources
        return (-wanted.gpu_milli, -wanted.memory_bytes, -wanted.cpu_milli, position)

    return sorted(range(len(gang.members)), key=size)


def _negative(amount: _Amount) -> _Amount:
    wanted = amount.resources
    return _Amount(
        amount.node,
        Resources(cpu_milli=-wanted.cpu_milli, memory_bytes=-wanted.memory_bytes),
        -amount.ports,
        tuple([(position, -milli) for position, milli in amount.taken]),
    )


def _row(node: ScratchNode, state: int, held: Sequence[tuple[str, _Amount]]) -> Row:
    gpu_free = list(node.gpu_free)
    gpu_held = [0] * len(gpu_free)
    gpu_held_for: list[tuple[str, ...]] = [()] * len(gpu_free)
    cpu = memory = 0
    for experiment_id, amount in held:
        cpu += amount.resources.cpu_milli
        memory += amount.resources.memory_bytes
        for position, milli in amount.taken:
            gpu_held[position] += milli
            gpu_held_for[position] += (experiment_id,)
    for position, milli in enumerate(gpu_held):
        gpu_free[position] += milli
    return Row(
        view=node.view,
        name=node.name,
        free_cpu_milli=node.free_cpu_milli + cpu,
        free_memory_bytes=node.free_memory_bytes + memory,
        free_shm_bytes=node.view.free_shm_bytes,
        free_ports=node.free_ports,
        gpu_free=gpu_free,
        whole_free=gpu_free.count(GPU),
        held_cpu_milli=cpu,
        held_memory_bytes=memory,
        held_shm_bytes=0,
        gpu_held=gpu_held,
        held_for=tuple(dict.fromkeys(experiment_id for experiment_id, _ in held)),
        gpu_held_for=gpu_held_for,
        state=state,
    )


class _Empty:
    """A node on which nothing runs, but what is put there."""

    __slots__ = ("_cpu_milli", "_gpus", "_memory_bytes", "_view")

    def __init__(self, view: NodeView) -> None:
        self._view = view
        self._cpu_milli = view.cpu_milli
        self._memory_bytes = view.memory_bytes
        self._gpus = [GPU if gpu.usable else 0 for gpu in view.gpus]

    def take(self, wanted: Resources) -> bool:
        """Takes a place, if there is one."""
        if self._cpu_milli < wanted.cpu_milli or self._memory_bytes < wanted.memory_bytes:
            return False
        each = min(wanted.gpu_milli, GPU)
        fit = [
            (free, position)
            for position, free in enumerate(self._gpus)
            if free >= each and gpu_matches(self._view.gpus[position].gpu, wanted)
        ]
        if len(fit) < wanted.gpu_count:
            return False
        for _, position in sorted(fit)[: wanted.gpu_count]:
            self._gpus[position] -= each
        self._cpu_milli -= wanted.cpu_milli
        self._memory_bytes -= wanted.memory_bytes
        return True
