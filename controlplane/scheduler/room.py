"""The cluster as a copy that gangs are tried on: placed, released, held, undone.

Nothing of it is seen outside a cycle but the plan. What it does is journalled, so that a cycle can
look at the cluster as it would be if some gangs had ended, or if some room were kept for others,
and come back.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NewType

import numpy as np

from controlplane.domain.model import PlacementStyle
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
from controlplane.scheduler.choices import Choice, tell
from controlplane.scheduler.empty import EmptyNode
from controlplane.scheduler.feasibility import (
    EligibleKey,
    may_use,
    tested_view,
)
from controlplane.scheduler.packing import Packing, Spot, largest_first
from controlplane.scheduler.policy import DEFAULT, Policy
from controlplane.scheduler.rows import Change, Row, negative, row_of
from controlplane.scheduler.survey import Survey, survey
from controlplane.scheduler.table import NodeTable, RoomNode, Taken
from riseml.spec.model import GPU, Resources

Mark = NewType("Mark", int)

_MOST_CAPABLE = 512

NEVER = float("-inf")
"""As `until`: whatever is held is available."""


@dataclass(slots=True)
class _Hold:
    experiment_id: str
    start_time: float
    amounts: list[Change]
    # Whether what it keeps is free for the moment.
    lifted: bool = False


class Room:
    """All nodes of one snapshot."""

    def __init__(self, policy: Policy = DEFAULT) -> None:
        self._policy = policy
        self._journal: list[Change | _Hold] = []
        self._holds: list[_Hold] = []
        self._spots: tuple[list[str], list[Spot], PlacementStyle] = ([], [], PlacementStyle.PACK)
        self._build(())

    def load(self, snapshot: Snapshot) -> None:
        """Looks at this snapshot from now on; whatever was taken, released or held is dropped.

        Nodes that are the same objects as in the snapshot before cost next to nothing.
        """
        self.undo(Mark(0))
        self._spots = ([], [], PlacementStyle.PACK)
        if not self._table.load(snapshot.nodes):
            self._build(snapshot.nodes)
        self._candidates.learn(snapshot.mix)

    def _build(self, nodes: Sequence[NodeView]) -> None:
        self._table = NodeTable(nodes)
        self._candidates = Candidates(self._table, self._policy)
        self._packing = Packing(self._table, self._candidates, self._take_place)
        self._could_hold: dict[tuple[EligibleKey, tuple[Resources, ...]], bool] = {}
        self._capable: dict[tuple[EligibleKey, Resources], frozenset[str]] = {}
        self._opened = 0
        # What all nodes have together, whether free or not, open or not.
        self.capacity = Held(
            GPU * sum(len(view.gpus) for view in nodes),
            sum(view.cpu_milli for view in nodes),
            sum(view.memory_bytes for view in nodes),
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
        for hold in self._holds:
            lifted = until is not None and until <= hold.start_time
            if lifted != hold.lifted:
                self._lift(hold, lifted)
        spots = self._spots_for(gang, style)
        if spots is None:
            return None
        self._spots = ([member.job_id for member in gang.members], spots, style)
        return tuple(
            [
                MemberPlacement(
                    member.job_id,
                    spot.node.name,
                    spot.node.shares(spot.taken),
                    member.resources.cpu_milli,
                    member.resources.memory_bytes,
                    member.resources.shm_bytes,
                )
                for member, spot in zip(gang.members, spots, strict=True)
            ]
        )

    def _spots_for(self, gang: GangRequest, style: PlacementStyle) -> list[Spot] | None:
        if gang.tests_gpu:
            return self._spot_of_test(gang)
        allowed = self._table.eligible(self._eligible(gang))
        if len(gang.members) == 1:
            return self._packing.place_one(gang, style, allowed)
        if not self._suffices(gang):
            return None
        mark = Mark(len(self._journal))
        if style is PlacementStyle.PACK:
            for close in self._packing.close_groups(gang, allowed):
                spots = self._packing.place_all(gang, style, close)
                if spots is not None:
                    return spots
                self._back_to(mark)
        spots = self._packing.place_all(gang, style, allowed)
        if spots is None:
            self._back_to(mark)
        return spots

    def _spot_of_test(self, gang: GangRequest) -> list[Spot] | None:
        """A test of a GPU that is in probation runs there, and on nothing else."""
        (member,) = gang.members
        key = self._eligible(gang)
        for node in self._table.nodes:
            for position, view in enumerate(node.view.gpus):
                if view.gpu.uuid != gang.tests_gpu:
                    continue
                # What is unusable counts as not free, and as less than that once it is taken.
                free = view.free_milli == GPU and node.gpu_free[position] == 0
                if not (view.probation and free and may_use(node.view, key)):
                    return None
                if not _has_room(node, member.resources):
                    return None
                taken = ((position, member.resources.gpu_milli),)
                self._take_place(node, member.resources, 0, taken)
                return [Spot(node, taken, reason="it tests this GPU")]
        return None

    def release(self, gang: RunningGang) -> None:
        """As though it had ended."""
        self._settle()
        for member in gang.members:
            amount = self._amount(member, 1 if len(gang.members) > 1 else 0)
            if amount is not None:
                self._take(negative(amount))

    def hold(
        self, members: Sequence[MemberPlacement], experiment_id: str, start_time: float
    ) -> None:
        """Keeps these amounts from gangs that end after `start_time`.

        What is kept for several at different times is kept several times: less than nothing may
        be left of it, until all but one are lifted.
        """
        self._settle()
        hold = _Hold(experiment_id, start_time, [])
        for member in members:
            amount = self._amount(member, 0)
            if amount is not None:
                hold.amounts.append(amount)
        self._shift(hold.amounts, -1)
        self._holds.append(hold)
        self._journal.append(hold)

    def mark(self) -> Mark:
        """The present, to come back to."""
        return Mark(len(self._journal))

    def undo(self, mark: Mark) -> None:
        """Back to then: what was taken, released and held since is not."""
        if len(self._journal) > mark:
            self._settle()
            self._back_to(mark)

    def _back_to(self, mark: Mark) -> None:
        while len(self._journal) > mark:
            done = self._journal.pop()
            if isinstance(done, _Hold):
                self._holds.remove(done)
                self._shift(done.amounts, 1)
            else:
                self._shift([done], 1)

    def _take_place(self, node: RoomNode, wanted: Resources, ports: int, taken: Taken) -> None:
        self._take(Change(node, wanted, ports, taken))

    def _take(self, amount: Change) -> None:
        self._shift([amount], -1)
        self._journal.append(amount)

    def _shift(self, amounts: Sequence[Change], sign: int) -> None:
        for one in amounts:
            self._table.shift(one.node, sign, one.resources, one.ports, one.taken)

    def _lift(self, hold: _Hold, lifted: bool) -> None:
        self._shift(hold.amounts, 1 if lifted else -1)
        hold.lifted = lifted

    def _settle(self) -> None:
        """All that is held is kept, after a `place` for whom some of it was free."""
        for hold in self._holds:
            if hold.lifted:
                self._lift(hold, False)

    def _amount(self, member: MemberPlacement, ports: int) -> Change | None:
        """None if its node is gone. GPUs that are gone or unusable do not count."""
        node = self._table.by_name.get(member.node_name)
        if node is None:
            return None
        milli = {share.uuid: share.milli for share in member.gpus}
        taken = [
            (position, milli[view.gpu.uuid])
            for position, view in enumerate(node.view.gpus)
            if view.usable and view.gpu.uuid in milli
        ]
        wanted = Resources(
            cpu_milli=member.cpu_milli,
            memory_bytes=member.memory_bytes,
            shm_bytes=member.shm_bytes,
        )
        return Change(node, wanted, ports, tuple(taken))

    # --- what it tells

    def choices(self) -> tuple[Choice, ...]:
        """Of the last `place` that succeeded, by member."""
        jobs, spots, style = self._spots
        return tell(self._table, self._policy.placement, style, jobs, spots)

    def may_fit(self, gang: GangRequest) -> bool:
        """False only if there is certainly no room for all its members now."""
        self._settle()
        return self._suffices(gang)

    def _suffices(self, gang: GangRequest) -> bool:
        """Whether there is enough of everything, wherever it is."""
        table = self._table
        table.sync()
        gpu = cpu = memory = 0
        for member in gang.members:
            # A GPU in probation is not counted as free.
            gpu += 0 if gang.tests_gpu else member.resources.gpu_milli
            cpu += member.resources.cpu_milli
            memory += member.resources.memory_bytes
        return (
            gpu <= table.free_gpu_milli
            and cpu <= table.free_cpu_milli
            and memory <= table.free_memory_bytes
        )

    def could_hold(self, gang: GangRequest) -> bool:
        """Whether the open nodes would have room for all its members if nothing else ran."""
        eligible = self._eligible(gang)
        if gang.tests_gpu:
            return any(
                tested_view(node.view, gang.tests_gpu) is not None and may_use(node.view, eligible)
                for node in self._table.nodes
            )
        key = (eligible, tuple([member.resources for member in gang.members]))
        self._forget_if_opened()
        known = self._could_hold.get(key)
        if known is None:
            left = [EmptyNode(n.view) for n in self._table.nodes if may_use(n.view, eligible)]
            known = self._could_hold[key] = all(
                any(node.take(gang.members[position].resources) for node in left)
                for position in largest_first(gang)
            )
        return known

    def rows(self) -> list[Row]:
        """Every node, by name."""
        self._settle()
        held = self._held()
        return [self._row(node, held) for node in self._table.nodes]

    def row(self, name: str) -> Row | None:
        """One node; None if there is none of this name."""
        self._settle()
        node = self._table.by_name.get(name)
        return None if node is None else self._row(node, self._held())

    def _held(self) -> dict[int, list[tuple[str, Change]]]:
        held: dict[int, list[tuple[str, Change]]] = {}
        for hold in self._holds:
            for amount in hold.amounts:
                held.setdefault(amount.node.index, []).append((hold.experiment_id, amount))
        return held

    def _row(self, node: RoomNode, held: dict[int, list[tuple[str, Change]]]) -> Row:
        if node.index in held:
            return row_of(node, -1 - node.index, held[node.index])
        if node.row is None:
            node.row = row_of(node, self._table.likeness(node), ())
        found: Row = node.row
        return found

    @property
    def size(self) -> int:
        """How many nodes there are."""
        return len(self._table.nodes)

    def surveys(self, gang: GangRequest) -> list[Survey]:
        """What stands in the way of its members, whatever is held; the hardest to place first."""
        for hold in self._holds:
            if not hold.lifted:
                self._lift(hold, True)
        counts: dict[Resources, int] = {}
        for position in largest_first(gang):
            wanted = gang.members[position].resources
            counts[wanted] = counts.get(wanted, 0) + 1
        ports = 1 if len(gang.members) > 1 else 0
        key = self._eligible(gang)
        return [survey(self._table, wanted, n, ports, key) for wanted, n in counts.items()]

    def may_use(self, view: NodeView, shape: Shape) -> bool:
        """Whether gangs of this shape may go to a node at all, if there is room."""
        return may_use(view, self._eligible(shape))

    def kind_of(self, shape: Shape) -> Hashable:
        """Equal for shapes that fit or do not fit alike on these nodes, whoever's they are."""
        return (self._eligible(shape), shape.resources, shape.tests_gpu)

    @property
    def discerns(self) -> Hashable:
        """As long as it is equal, `kind_of` and `nodes_of` tell the same of the same shape."""
        table = self._table
        return (table.owned > 0, table.tainted > 0, table.imageless > 0)

    @property
    def some_whole(self) -> bool:
        """Whether some nodes give whole GPUs only."""
        return self._table.whole > 0

    def nodes_of(self, shape: Shape) -> Hashable:
        """Equal for shapes that may go to the same nodes, whatever they ask for."""
        return (self._eligible(shape), shape.tests_gpu)

    def node(self, name: str) -> RoomNode | None:
        """One node with what is free of it, without what is held; to be read only, and at once."""
        self._settle()
        return self._table.by_name.get(name)

    def copies(self, shape: Shape, wanted: Resources) -> dict[str, int]:
        """By name the nodes with room for such a member, and for how many of them."""
        self._settle()
        found = self._table.copies(wanted, 1 if len(shape.resources) > 1 else 0)
        allowed = self._table.eligible(self._eligible(shape))
        if allowed is not None:
            found = found * allowed
        nodes = self._table.nodes
        return {nodes[row].name: int(found[row]) for row in np.flatnonzero(found)}

    def capable(self, shape: Shape, wanted: Resources) -> frozenset[str]:
        """Names of the nodes that such a member may go to, if nothing else ran there."""
        key = (self._eligible(shape), wanted)
        self._forget_if_opened()
        known = self._capable.get(key)
        if known is None:
            if len(self._capable) >= _MOST_CAPABLE:
                self._capable.clear()
            known = self._capable[key] = frozenset(
                [
                    node.name
                    for node in self._table.nodes
                    if node.view.cpu_milli >= wanted.cpu_milli
                    and node.view.memory_bytes >= wanted.memory_bytes
                    and len(self.positions_for(node, wanted)) >= wanted.gpu_count
                    and may_use(node.view, key[0])
                ]
            )
        return known

    def _forget_if_opened(self) -> None:
        if self._table.opened != self._opened:
            self._opened = self._table.opened
            self._could_hold.clear()
            self._capable.clear()

    def positions_for(self, node: RoomNode, wanted: Resources) -> Sequence[int]:
        """GPUs of a node, by position, that do for a member if they are free."""
        if not wanted.gpu_milli:
            return ()
        good = self._table.fitting(wanted)
        if node.gpu_class >= 0:
            return range(len(node.classes)) if good[node.gpu_class] else ()
        return [position for position, one in enumerate(node.classes) if good[one]]

    def _eligible(self, shape: Shape | GangRequest) -> EligibleKey:
        table = self._table
        return EligibleKey.of(shape, table.owned > 0, table.tainted > 0, table.imageless > 0)


def _has_room(node: RoomNode, wanted: Resources) -> bool:
    return (
        node.free_cpu_milli >= wanted.cpu_milli
        and node.free_memory_bytes >= wanted.memory_bytes
        and (not node.view.shm_bytes or node.free_shm_bytes >= wanted.shm_bytes)
    )
