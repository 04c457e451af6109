"""Who holds what of which node and GPU, as a snapshot shows it."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain.snapshot import MemberPlacement, RunningGang, Snapshot
from controlplane.explain.words import Clock


@dataclass(frozen=True, slots=True)
class Holding:
    """A part that one experiment holds; the unit is that of the question."""

    gang: RunningGang
    amount: int


class Holdings:
    """Index of the running gangs of one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.gangs = {gang.experiment_id: gang for gang in snapshot.running}
        self._by_gpu: dict[str, list[Holding]] = {}
        self._by_node: dict[str, list[tuple[RunningGang, MemberPlacement]]] = {}
        for gang in snapshot.running:
            for member in gang.members:
                self._by_node.setdefault(member.node_name, []).append((gang, member))
                for share in member.gpus:
                    self._by_gpu.setdefault(share.uuid, []).append(Holding(gang, share.milli))

    def of_gpu(self, uuid: str) -> list[Holding]:
        """Who holds a GPU, in thousandths, the largest part first."""
        found = self._by_gpu.get(uuid, [])
        return found if len(found) < 2 else _largest_first(found)

    def of_node(self, node_name: str, what: str) -> list[Holding]:
        """Who holds `cpu_milli`, `memory_bytes` or `shm_bytes` of a node, the most first."""
        sums: dict[str, int] = {}
        for gang, member in self._by_node.get(node_name, ()):
            amount: int = getattr(member, what)
            sums[gang.experiment_id] = sums.get(gang.experiment_id, 0) + amount
        found = [Holding(self.gangs[id], amount) for id, amount in sums.items() if amount]
        return _largest_first(found)


def _largest_first(holdings: list[Holding]) -> list[Holding]:
    return sorted(holdings, key=lambda one: (-one.amount, one.gang.experiment_id))


def until(gang: RunningGang, clock: Clock) -> str:
    """` until about 14:00`, to follow a name; what is known of when it gives back what it has."""
    end = gang.end_time
    if end is None:
        return " with no known end"
    if gang.stopping_until is not None:
        does = f"makes room for {gang.stopping_for}" if gang.stopping_for else "is being stopped"
        if end <= clock.now:
            return f", which {does}"
        return f", which {does} and is gone by {clock.at(end)}"
    if end <= clock.now:
        return ", which is about to end"
    return f" until about {clock.at(end)}"
