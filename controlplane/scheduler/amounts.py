"""Amounts of one node, as sums: what several jobs hold there, or what is kept there for one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from controlplane.domain.model import GpuShare
from controlplane.domain.snapshot import MemberPlacement, RunningGang


class Amount:
    """So much of one node. Never changed once it is shared."""

    __slots__ = ("cpu_milli", "gpus", "memory_bytes", "shm_bytes")

    def __init__(
        self,
        cpu_milli: int = 0,
        memory_bytes: int = 0,
        shm_bytes: int = 0,
        gpus: Mapping[str, int] | None = None,
    ) -> None:
        self.cpu_milli = cpu_milli
        self.memory_bytes = memory_bytes
        self.shm_bytes = shm_bytes
        # Thousandths by UUID, none of them 0.
        self.gpus = dict(gpus or {})

    def __bool__(self) -> bool:
        return bool(self.cpu_milli or self.memory_bytes or self.shm_bytes or self.gpus)

    def add(self, member: MemberPlacement) -> None:
        """Counts a member as well; for an amount that is being summed up."""
        self.cpu_milli += member.cpu_milli
        self.memory_bytes += member.memory_bytes
        self.shm_bytes += member.shm_bytes
        for share in member.gpus:
            self.gpus[share.uuid] = self.gpus.get(share.uuid, 0) + share.milli

    def plus(self, other: Amount) -> None:
        """Counts another as well; for an amount that is being summed up."""
        self.cpu_milli += other.cpu_milli
        self.memory_bytes += other.memory_bytes
        self.shm_bytes += other.shm_bytes
        for uuid, milli in other.gpus.items():
            self.gpus[uuid] = self.gpus.get(uuid, 0) + milli

    def beyond(self, other: Amount) -> Amount:
        """What this is more than another, nothing where it is less."""
        gpus = {}
        for uuid, milli in self.gpus.items():
            more = milli - other.gpus.get(uuid, 0)
            if more > 0:
                gpus[uuid] = more
        return Amount(
            max(0, self.cpu_milli - other.cpu_milli),
            max(0, self.memory_bytes - other.memory_bytes),
            max(0, self.shm_bytes - other.shm_bytes),
            gpus,
        )

    def on(self, node_name: str) -> MemberPlacement:
        """As a place on a node."""
        shares = tuple([GpuShare(uuid, milli) for uuid, milli in self.gpus.items()])
        return MemberPlacement(
            "", node_name, shares, self.cpu_milli, self.memory_bytes, self.shm_bytes
        )


def by_node(members: Iterable[MemberPlacement]) -> dict[str, Amount]:
    """What these hold of each node."""
    found: dict[str, Amount] = {}
    for member in members:
        amount = found.get(member.node_name)
        if amount is None:
            amount = found[member.node_name] = Amount()
        amount.add(member)
    return found


@dataclass(slots=True)
class Kept:
    """A reservation as it is kept.

    If gangs that end before it give back more of a node than it needs there, nothing of what is
    free there now is kept; what is kept grows as they end.
    """

    experiment_id: str
    # Gangs that end by then may use what is held; minus infinity: nobody may.
    start_time: float
    # By node: what is kept of what is free now.
    held: dict[str, Amount]
    # What is kept besides when a gang has ended, by experiment and node.
    growth: dict[str, dict[str, Amount]]
    # By node, when it keeps whatever becomes free: all that it needs.
    needs: dict[str, Amount] | None = None

    @property
    def names(self) -> Collection[str]:
        """Nodes on which it keeps something, now or later."""
        return self.held if self.needs is None else self.needs

    def grows_by(self, gang: RunningGang) -> dict[str, Amount]:
        """By node: what is kept besides when this one ends."""
        if self.needs is None:
            return self.growth.get(gang.experiment_id, {})
        here = [member for member in gang.members if member.node_name in self.needs]
        return {
            name: needed.beyond(needed.beyond(freed))
            for name, freed in by_node(here).items()
            for needed in [self.needs[name]]
        }
