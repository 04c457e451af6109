"""A quick answer to "could it fit by then?", by counts of nodes on which something became free.

It errs on one side only: where it says no, there is no room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controlplane.domain.snapshot import GangRequest, MemberPlacement, NodeView, RunningGang
from controlplane.scheduler.amounts import Kept
from controlplane.scheduler.feasibility import gpu_matches
from controlplane.scheduler.room import Row
from riseml.spec.model import GPU, Resources

_UNBOUNDED = 1 << 30


class Prospects:
    """How many members of one gang fit by count, while gangs end one after the other.

    `row_of` finds a node; None: the gang may not go there. `kept` are reservations of others, which
    count from when on `keep_from` says so.
    """

    def __init__(
        self, gang: GangRequest, row_of: Callable[[str], Row | None], kept: Iterable[Kept]
    ) -> None:
        counts: dict[Resources, int] = {}
        for member in gang.members:
            counts[member.resources] = counts.get(member.resources, 0) + 1
        self._kinds = tuple(counts)
        self._missing = list(counts.values())
        self._in_gang = len(gang.members) > 1
        self._row_of = row_of
        # Latest first.
        self._passed = sorted(kept, key=lambda one: (-one.start_time, one.experiment_id))
        self._kept: list[Kept] = []
        self._released: list[RunningGang] = []
        self._nodes: dict[str, _Node | None] = {}

    def count(self, names: Iterable[str]) -> None:
        """These nodes have room for some members as they are."""
        for name in names:
            self._node(name)

    def keep_from(self, until: float) -> None:
        """The gang would end then: reservations that begin before that stand in its way."""
        while self._passed and self._passed[-1].start_time < until:
            one = self._passed.pop()
            self._kept.append(one)
            amounts = [*one.held.items()]
            for gone in self._released:
                amounts += one.grows_by(gone).items()
            for name, amount in amounts:
                # A node that is looked at later is looked at without what is held there.
                node = self._nodes.get(name)
                if node is not None:
                    node.free(amount.on(name), -1)
                    self._recount(node)

    def release(self, gang: RunningGang) -> bool:
        """It ends. Whether that made room for one more member."""
        self._released.append(gang)
        return self._shift(gang, 1)

    def unrelease(self, gang: RunningGang) -> None:
        """It does not end after all."""
        self._released.remove(gang)
        self._shift(gang, -1)

    def _shift(self, gang: RunningGang, sign: int) -> bool:
        touched: dict[int, _Node] = {}
        for member in gang.members:
            node = self._node(member.node_name)
            if node is not None:
                node.free(member, sign, 1 if len(gang.members) > 1 else 0)
                touched[id(node)] = node
        for kept in self._kept:
            for name, amount in kept.grows_by(gang).items():
                node = self._node(name)
                if node is not None:
                    node.free(amount.on(name), -sign)
                    touched[id(node)] = node
        # Called for each of them: it counts.
        return any([self._recount(node) for node in touched.values()])

    def names(self) -> set[str]:
        """Nodes that were looked at and that the gang may use."""
        return {name for name, node in self._nodes.items() if node is not None}

    def fits(self, name: str, wanted: Resources) -> bool:
        """Whether a node has room for one member that asks for this."""
        node = self._node(name)
        return node is not None and node.counted[self._kinds.index(wanted)] > 0

    def take(self, name: str, wanted: Resources) -> None:
        """One member is placed on a node, which has room for it."""
        node = self._node(name)
        if node is not None:
            node.take(self._kinds.index(wanted), wanted)
            self._recount(node)

    @property
    def may_fit(self) -> bool:
        return all(missing <= 0 for missing in self._missing)

    def _node(self, name: str) -> _Node | None:
        if name in self._nodes:
            return self._nodes[name]
        row = self._row_of(name)
        if row is None:
            self._nodes[name] = None
            return None
        node = self._nodes[name] = _Node(row, self._kinds, self._in_gang)
        for one in self._kept:
            if name in one.held:
                node.free(one.held[name].on(name), -1)
        self._recount(node)
        return node

    def _recount(self, node: _Node) -> bool:
        grew = False
        for kind, wanted in enumerate(self._kinds):
            fits = node.fits(kind, wanted)
            if fits != node.counted[kind]:
                grew = grew or fits > node.counted[kind]
                self._missing[kind] -= fits - node.counted[kind]
                node.counted[kind] = fits
        return grew


class _Node:
    """What is free of one node."""

    __slots__ = ("_cpu", "_gpus", "_matching", "_memory", "_ports", "_positions", "_shm", "counted")

    def __init__(self, row: Row, kinds: tuple[Resources, ...], in_gang: bool) -> None:
        view = row.view
        self._cpu = row.free_cpu_milli
        self._memory = row.free_memory_bytes
        self._shm = row.free_shm_bytes if view.shm_bytes else _UNBOUNDED << 32
        self._ports = max(0, row.free_ports) if in_gang else _UNBOUNDED
        self._gpus = list(row.gpu_free)
        self._positions = {gpu.gpu.uuid: p for p, gpu in enumerate(view.gpus) if gpu.usable}
        self._matching = [_matching(view, wanted) for wanted in kinds]
        # How many members of each kind were found to fit.
        self.counted = [0] * len(kinds)

    def take(self, kind: int, wanted: Resources) -> None:
        self._cpu -= wanted.cpu_milli
        self._memory -= wanted.memory_bytes
        self._shm -= wanted.shm_bytes
        self._ports -= 1
        each = min(wanted.gpu_milli, GPU)
        fit = [(self._gpus[p], p) for p in self._matching[kind] if self._gpus[p] >= each]
        for _, position in sorted(fit)[: wanted.gpu_count]:
            self._gpus[position] -= each

    def free(self, member: MemberPlacement, sign: int, ports: int = 0) -> None:
        self._ports += sign * ports
        self._cpu += sign * member.cpu_milli
        self._memory += sign * member.memory_bytes
        self._shm += sign * member.shm_bytes
        for share in member.gpus:
            position = self._positions.get(share.uuid)
            if position is not None:
                self._gpus[position] += sign * share.milli

    def fits(self, kind: int, wanted: Resources) -> int:
        found = self._ports
        if wanted.cpu_milli:
            found = min(found, self._cpu // wanted.cpu_milli)
        if wanted.memory_bytes:
            found = min(found, self._memory // wanted.memory_bytes)
        if wanted.shm_bytes:
            found = min(found, self._shm // wanted.shm_bytes)
        milli, gpus = wanted.gpu_milli, self._gpus
        if found > 0 and milli >= GPU:
            whole = [1 for position in self._matching[kind] if gpus[position] >= GPU]
            found = min(found, len(whole) * GPU // milli)
        elif found > 0 and milli:
            found = min(found, sum(gpus[p] // milli for p in self._matching[kind]))
        return max(0, found)


def _matching(view: NodeView, wanted: Resources) -> list[int]:
    """Positions of the GPUs that such a member could use."""
    if not wanted.gpu_milli:
        return []
    return [p for p, gpu in enumerate(view.gpus) if gpu.usable and gpu_matches(gpu.gpu, wanted)]
