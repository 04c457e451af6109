"""Running gangs as those that might be stopped: what that would cost, and where they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.domain.snapshot import RunningGang, Snapshot
from controlplane.scheduler.amounts import Amount, by_node
from riseml.spec.model import GPU

Cost = tuple[int, float, float, str]
"""Priority, GPU-seconds that are lost, younger before older, the id; the lowest goes first."""


@dataclass(slots=True)
class Victim:
    """A running gang that is not being stopped."""

    gang: RunningGang
    gpu_milli: int
    # GPU-seconds since its last checkpoint, or since it started.
    lost: float
    cost: Cost
    # By node that is still there, what it holds on it.
    holds: dict[str, Amount]


class Victims:
    """All of a snapshot, and those that leave already."""

    def __init__(self, snapshot: Snapshot, now: float) -> None:
        # Cheapest first, also on each node.
        self.all: list[Victim] = []
        self.on_node: dict[str, list[Victim]] = {}
        # Gangs that are being stopped, and what they hold by node.
        self.leaving: dict[str, list[tuple[RunningGang, Amount]]] = {}
        # GPUs by queue that are given back by them.
        self.given_up: dict[str, int] = {}
        self._nodes = {view.name for view in snapshot.nodes}
        for gang in snapshot.running:
            if gang.stopping_until is None:
                self.all.append(self._victim(gang, now))
            else:
                self._leaves(gang, self._holds(gang))
        self.all.sort(key=lambda victim: victim.cost)
        for victim in self.all:
            for name in victim.holds:
                self.on_node.setdefault(name, []).append(victim)

    def _holds(self, gang: RunningGang) -> dict[str, Amount]:
        found = by_node(gang.members)
        return {name: amount for name, amount in found.items() if name in self._nodes}

    def _victim(self, gang: RunningGang, now: float) -> Victim:
        gpu = gpu_milli_of(gang)
        saved = gang.start_time
        if gang.checkpoint_time is not None:
            saved = max(saved, gang.checkpoint_time)
        lost = gpu / GPU * max(0.0, now - saved)
        cost = (gang.priority, lost, -gang.start_time, gang.experiment_id)
        return Victim(gang, gpu, lost, cost, self._holds(gang))

    def stop(self, victim: Victim, stopping: RunningGang) -> None:
        """It leaves, in this form."""
        self.all.remove(victim)
        for name in victim.holds:
            self.on_node[name].remove(victim)
        self._leaves(stopping, victim.holds)

    def _leaves(self, gang: RunningGang, holds: dict[str, Amount]) -> None:
        for name, amount in holds.items():
            self.leaving.setdefault(name, []).append((gang, amount))
        given_up = self.given_up.get(gang.queue, 0) + gpu_milli_of(gang)
        self.given_up[gang.queue] = given_up


def gpu_milli_of(gang: RunningGang) -> int:
    """Thousandths of GPUs that it holds."""
    return sum([share.milli for member in gang.members for share in member.gpus])


SetCost = tuple[int, float, int]
"""Highest priority, GPU-seconds that are lost, how many; the lowest is best."""


def cost_of(victims: Iterable[Victim]) -> SetCost:
    """Of a set."""
    highest, lost, count = -1, 0.0, 0
    for victim in victims:
        highest = max(highest, victim.gang.priority)
        lost += victim.lost
        count += 1
    return (highest, lost, count)
