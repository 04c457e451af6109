"""Nodes as plain numbers, to count on: copied and changed freely, without the room knowing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

from controlplane.domain.model import GpuShare
from controlplane.domain.snapshot import MemberPlacement, Shape
from controlplane.scheduler.amounts import Amount
from controlplane.scheduler.room import Room
from controlplane.scheduler.rows import Row
from controlplane.scheduler.table import UNLIMITED
from riseml.spec.model import GPU, Resources


class Sites:
    """Of one cycle: each node is taken from the room once, until something changes there."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._sites: dict[str, Site | None] = {}
        self._barred: dict[Hashable, dict[str, bool]] = {}

    def changed(self, members: Iterable[MemberPlacement]) -> None:
        """These places were taken."""
        for member in members:
            self._sites.pop(member.node_name, None)

    def site(self, name: str) -> Site | None:
        """A node with what is free of it, held or not; None if there is none. To be copied."""
        if name not in self._sites:
            row = self._room.row(name)
            self._sites[name] = None if row is None else Site(row)
        return self._sites[name]

    def bars_for(self, shape: Shape) -> Callable[[str], bool]:
        """Tells whether a node is not for gangs of this shape."""
        room = self._room
        known = self._barred.setdefault(room.nodes_of(shape), {})

        def bars(name: str) -> bool:
            found = known.get(name)
            if found is None:
                node = room.node(name)
                found = known[name] = node is None or not room.may_use(node.view, shape)
            return found

        return bars

    def positions_for(self, name: str, wanted: Resources) -> Sequence[int]:
        """GPUs of a node that do for a member, if they are free."""
        if not wanted.gpu_milli:
            return ()
        node = self._room.node(name)
        return () if node is None else self._room.positions_for(node, wanted)

    def capable(self, shape: Shape, wanted: Resources) -> frozenset[str]:
        """Nodes that such a member may go to, if nothing else ran there."""
        return self._room.capable(shape, wanted)

    def copies(self, shape: Shape, wanted: Resources) -> dict[str, int]:
        """By name the nodes with room for such a member, and for how many of them."""
        return self._room.copies(shape, wanted)


class Site:
    """What is free of one node."""

    __slots__ = (
        "_cpu",
        "_gpus",
        "_matching",
        "_memory",
        "_ports",
        "_positions",
        "_shm",
        "_view",
        "counted",
    )

    def __init__(self, node: Row) -> None:
        view = self._view = node.view
        self._cpu = node.free_cpu_milli
        self._memory = node.free_memory_bytes
        self._shm = node.free_shm_bytes if view.shm_bytes else UNLIMITED
        self._ports = node.free_ports
        self._gpus = list(node.gpu_free)
        self._positions = {one.gpu.uuid: p for p, one in enumerate(view.gpus) if one.usable}
        # By kind of member, the GPUs that do.
        self._matching: list[Sequence[int]] = []
        # How many members of each kind were found to fit.
        self.counted: list[int] = []

    def look_for(self, matching: list[Sequence[int]], ports: int) -> None:
        """Which kinds of members are counted, by the GPUs that do for them."""
        self._matching = matching
        self.counted = [0] * len(matching)
        if not ports:
            self._ports = UNLIMITED

    def count(self, kinds: tuple[Resources, ...]) -> list[int]:
        """Finds out anew."""
        self.counted = [self._fits(kind, wanted) for kind, wanted in enumerate(kinds)]
        return self.counted

    def copy(self) -> Site:
        """To come back to. What is never changed is shared."""
        other = Site.__new__(Site)
        other._view, other._positions, other._matching = self._view, self._positions, self._matching
        other._cpu, other._memory, other._shm = self._cpu, self._memory, self._shm
        other._ports, other._gpus, other.counted = self._ports, list(self._gpus), self.counted
        return other

    @property
    def is_overfull(self) -> bool:
        """Whether more of something is taken than there is."""
        return min(self._cpu, self._memory, self._shm, self._ports, *self._gpus) < 0

    @property
    def free_gpu_milli(self) -> int:
        return sum(self._gpus)

    def take(self, kind: int, wanted: Resources) -> tuple[GpuShare, ...]:
        self._cpu -= wanted.cpu_milli
        self._memory -= wanted.memory_bytes
        self._shm -= wanted.shm_bytes
        self._ports -= 1
        each = min(wanted.gpu_milli, GPU)
        fit = [(self._gpus[p], p) for p in self._matching[kind] if self._gpus[p] >= each]
        chosen = sorted([position for _, position in sorted(fit)[: wanted.gpu_count]])
        for position in chosen:
            self._gpus[position] -= each
        gpus = self._view.gpus
        return tuple([GpuShare(gpus[position].gpu.uuid, each) for position in chosen])

    def free(self, member: MemberPlacement, sign: int, ports: int = 0) -> None:
        self._ports += ports
        self._cpu += sign * member.cpu_milli
        self._memory += sign * member.memory_bytes
        self._shm += sign * member.shm_bytes
        for share in member.gpus:
            position = self._positions.get(share.uuid)
            if position is not None:
                self._gpus[position] += sign * share.milli

    def add(self, amount: Amount, sign: int) -> None:
        """So much more (1) or less (-1) of it is free."""
        self._cpu += sign * amount.cpu_milli
        self._memory += sign * amount.memory_bytes
        self._shm += sign * amount.shm_bytes
        for uuid, milli in amount.gpus.items():
            position = self._positions.get(uuid)
            if position is not None:
                self._gpus[position] += sign * milli

    def has_room(self, kind: int, wanted: Resources) -> bool:
        """For one member."""
        if (
            self._ports < 1
            or self._cpu < wanted.cpu_milli
            or self._memory < wanted.memory_bytes
            or self._shm < wanted.shm_bytes
        ):
            return False
        milli = wanted.gpu_milli
        if not milli:
            return True
        each, missing, gpus = (milli, 1, self._gpus) if milli < GPU else (GPU, milli, self._gpus)
        for position in self._matching[kind]:
            if gpus[position] >= each:
                missing -= GPU
                if missing <= 0:
                    return True
        return False

    def _fits(self, kind: int, wanted: Resources) -> int:
        found = self._ports
        if wanted.cpu_milli:
            found = min(found, self._cpu // wanted.cpu_milli)
        if wanted.memory_bytes:
            found = min(found, self._memory // wanted.memory_bytes)
        if wanted.shm_bytes:
            found = min(found, self._shm // wanted.shm_bytes)
        milli, gpus = wanted.gpu_milli, self._gpus
        if found > 0 and milli >= GPU:
            whole = 0
            for position in self._matching[kind]:
                whole += gpus[position] >= GPU
            found = min(found, whole * GPU // milli)
        elif found > 0 and milli:
            found = min(found, sum([gpus[p] // milli for p in self._matching[kind]]))
        return max(0, found)
