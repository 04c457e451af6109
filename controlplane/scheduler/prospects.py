"""Where a gang could fit by a time to come, by counts of the nodes on which something ends.

Quicker than to try it on the room: a gang that is looked ahead for has no room now, so only nodes
on which something ended, and those with room for a part of it, have to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.domain.model import GpuShare
from controlplane.domain.snapshot import GangRequest, MemberPlacement, RunningGang
from controlplane.scheduler.amounts import Amount, Kept
from controlplane.scheduler.packing import largest_first
from controlplane.scheduler.sites import Site, Sites
from riseml.spec.model import Resources


class Prospects:
    """How many members of one gang fit by count, while gangs end one after the other.

    `kept` are reservations of others, which count from when on `keep_from` says so. The room has
    to stay as it is.
    """

    def __init__(self, sites: Sites, gang: GangRequest, kept: Iterable[Kept], until: float) -> None:
        self._sites = sites
        self._shape = gang.shape
        self._bars = sites.bars_for(self._shape)
        counts: dict[Resources, int] = {}
        for member in gang.members:
            counts[member.resources] = counts.get(member.resources, 0) + 1
        self._kinds = tuple(counts)
        self._missing = list(counts.values())
        self._ports = 1 if len(gang.members) > 1 else 0
        self._nodes: dict[str, Site | None] = {}
        # Latest first.
        self._passed = sorted(kept, key=lambda one: (-one.start_time, one.experiment_id))
        self._kept: list[Kept] = []
        self._released: list[RunningGang] = []
        # Nodes with room for some member as they are; a single one that waits has none.
        # By kind: for how many of them.
        self._roomy: list[dict[str, int]] = [{} for _ in self._kinds]
        if self._ports:
            for kind, wanted in enumerate(self._kinds):
                found = self._roomy[kind] = sites.copies(self._shape, wanted)
                self._missing[kind] -= sum(found.values())
            for one in self._passed:
                # All that is held was counted as not free.
                for name in one.held:
                    self._node(name)
        self.keep_from(until)

    def keep_from(self, until: float) -> None:
        """The gang would end then: reservations that begin before that stand in its way."""
        while self._passed and self._passed[-1].start_time < until:
            one = self._passed.pop()
            self._kept.append(one)
            for name, amount in one.held.items():
                # On a node that is looked at later it is missing from the start.
                if name in self._nodes:
                    self._less(name, amount)
            for gone in self._released:
                for name, amount in one.grows_by(gone).items():
                    self._less(name, amount)

    def release(self, gang: RunningGang) -> bool:
        """It ends. Whether that made room for one more member."""
        self._released.append(gang)
        return self._shift(gang, 1)

    def unrelease(self, gang: RunningGang) -> None:
        """It does not end after all."""
        self._released.remove(gang)
        self._shift(gang, -1)

    @property
    def may_fit(self) -> bool:
        return all(missing <= 0 for missing in self._missing)

    def names(self) -> set[str]:
        """Nodes that the gang may use and that have room for some member, or on which something
        ended.
        """
        looked_at = {name for name, node in self._nodes.items() if node is not None}
        return looked_at.union(*self._roomy)

    def fits(self, name: str, wanted: Resources) -> bool:
        """Whether a node has room for one member that asks for this."""
        node = self._node(name)
        return node is not None and node.counted[self._kinds.index(wanted)] > 0

    def take(self, name: str, wanted: Resources) -> tuple[GpuShare, ...]:
        """One member is placed on a node, which has room for it; with these GPUs."""
        node = self._node(name)
        if node is None:
            return ()
        shares = node.take(self._kinds.index(wanted), wanted)
        self._recount(node)
        return shares

    def place(self, gang: GangRequest) -> tuple[MemberPlacement, ...] | None:
        """Places for all members as things are, on few nodes, hardest first; None if that fails."""
        before: dict[str, Site] = {}
        found: dict[int, MemberPlacement] = {}
        name: str | None = None
        for position in largest_first(gang):
            member = gang.members[position]
            wanted = member.resources
            if name is None or not self.fits(name, wanted):
                name = self._roomiest(self._kinds.index(wanted))
                if name is None:
                    break
            node = self._nodes[name]
            if node is not None and name not in before:
                before[name] = node.copy()
            shares = self.take(name, wanted)
            found[position] = MemberPlacement(
                member.job_id,
                name,
                shares,
                wanted.cpu_milli,
                wanted.memory_bytes,
                wanted.shm_bytes,
            )
        if len(found) == len(gang.members):
            return tuple([found[position] for position in range(len(found))])
        self._go_back_to(before)
        return None

    def _go_back_to(self, before: dict[str, Site]) -> None:
        for name, old in before.items():
            node = self._nodes[name]
            self._nodes[name] = old
            if node is not None:
                for kind, (now, was) in enumerate(zip(node.counted, old.counted, strict=True)):
                    self._missing[kind] += now - was

    def _roomiest(self, kind: int) -> str | None:
        """The node with room for most members; of several the one with the least else, by name."""
        best: tuple[int, int, str] | None = None
        for name, node in self._nodes.items():
            if node is not None and node.counted[kind]:
                one = (-node.counted[kind], node.free_gpu_milli, name)
                best = one if best is None else min(best, one)
        for name, count in self._roomy[kind].items():
            if name not in self._nodes and (best is None or -count <= best[0]):
                node = self._node(name)
                if node is not None:
                    one = (-count, node.free_gpu_milli, name)
                    best = one if best is None else min(best, one)
        return None if best is None else best[2]

    def _shift(self, gang: RunningGang, sign: int) -> bool:
        ports = sign if len(gang.members) > 1 else 0
        touched: list[Site] = []
        for member in gang.members:
            node = self._node(member.node_name)
            if node is not None:
                node.free(member, sign, ports)
                touched.append(node)
        for kept in self._kept:
            grown = kept.grows_by(gang)
            if not grown:
                continue
            for name, amount in grown.items():
                node = self._node(name)
                if node is not None:
                    node.add(amount, -sign)
                    touched.append(node)
        grew = False
        for node in touched:
            grew = self._recount(node) or grew
        return grew

    def _less(self, name: str, amount: Amount) -> None:
        node = self._node(name)
        if node is not None:
            node.add(amount, -1)
            self._recount(node)

    def _node(self, name: str) -> Site | None:
        if name in self._nodes:
            return self._nodes[name]
        found = self._sites.site(name)
        if found is None or self._bars(name):
            self._nodes[name] = None
            return None
        node = self._nodes[name] = found.copy()
        node.look_for(
            [self._sites.positions_for(name, wanted) for wanted in self._kinds], self._ports
        )
        # As it was counted with all nodes.
        node.counted = [roomy.get(name, 0) for roomy in self._roomy]
        for one in self._kept:
            if name in one.held:
                node.add(one.held[name], -1)
        self._recount(node)
        return node

    def _recount(self, node: Site) -> bool:
        before = node.counted
        after = node.count(self._kinds)
        if after == before:
            return False
        grew = False
        for kind, (old, new) in enumerate(zip(before, after, strict=True)):
            self._missing[kind] += old - new
            grew = grew or new > old
        return grew
