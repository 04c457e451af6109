"""Keeps large gangs from starving behind small ones that always fit.

The rule: the first waiting gang, in the scheduler's order, that has waited for more than
RESERVE_AFTER_SECONDS and that the open nodes could hold if nothing else ran, gets the nodes that
lack least for it. Gangs after it in the order (never of higher priority) may use of these nodes
only what is free beyond what it needs. So these nodes empty, and it starts. One gang at a time has
this.
"""

from __future__ import annotations

import heapq
from typing import Final

from controlplane.domain.snapshot import GangRequest
from controlplane.scheduler.feasibility import gpu_matches, may_use
from controlplane.scheduler.scratch import EligibleKey, Scratch, ScratchNode, Taken
from riseml.spec.model import GPU, Resources

RESERVE_AFTER_SECONDS: Final = 300.0

Hold = tuple[ScratchNode, Resources]
Lack = tuple[int, int, int]
"""What is not free yet of what is needed of a node: GPUs, memory, CPU."""


def largest_first(gang: GangRequest) -> list[int]:
    """Positions of the members, those that are hardest to place first."""

    def size(position: int) -> tuple[int, int, int, int]:
        wanted = gang.members[position].resources
        return (-wanted.gpu_milli, -wanted.memory_bytes, -wanted.cpu_milli, position)

    return sorted(range(len(gang.members)), key=size)


def find_holds(scratch: Scratch, gang: GangRequest, eligible: EligibleKey) -> list[Hold] | None:
    """A node for each member, those that lack least; None when not all have one on open nodes."""
    prospects = [_Prospect(node) for node in scratch.nodes if may_use(node.view, eligible)]
    ranked: dict[Resources, list[tuple[Lack, int, int]]] = {}
    holds: list[Hold] = []
    for position in largest_first(gang):
        wanted = gang.members[position].resources
        heap = ranked.get(wanted)
        if heap is None:
            heap = ranked[wanted] = _rank(scratch, prospects, wanted)
        # An entry from before its node was given a member is stale: a newer one follows, if any.
        while heap and prospects[heap[0][1]].given != heap[0][2]:
            _, place, _ = heapq.heappop(heap)
            _push(heap, place, prospects[place], wanted)
        if not heap:
            return None
        best = prospects[heap[0][1]]
        best.add(wanted)
        holds.append((best.node, wanted))
    return holds


def _rank(
    scratch: Scratch, prospects: list[_Prospect], wanted: Resources
) -> list[tuple[Lack, int, int]]:
    """Prospects that could hold a member, as a heap; nodes in equal states are looked at once."""
    found: dict[int, Lack | None] = {}
    heap: list[tuple[Lack, int, int]] = []
    for place, prospect in enumerate(prospects):
        state = scratch.state_of(prospect.node)
        if prospect.given:
            _push(heap, place, prospect, wanted)
            continue
        if state not in found:
            found[state] = prospect.lacking(wanted) if prospect.could_hold(wanted) else None
        lack = found[state]
        if lack is not None:
            heap.append((lack, place, 0))
    heapq.heapify(heap)
    return heap


def _push(
    heap: list[tuple[Lack, int, int]], place: int, prospect: _Prospect, wanted: Resources
) -> None:
    if prospect.could_hold(wanted):
        heapq.heappush(heap, (prospect.lacking(wanted), place, prospect.given))


def hold(scratch: Scratch, holds: list[Hold]) -> None:
    """Keeps what each member needs of its node: what is free of it, and what becomes free."""
    for node, wanted in holds:
        scratch.hold(node, wanted, _held_gpus(node, wanted))


def _held_gpus(node: ScratchNode, wanted: Resources) -> Taken:
    """The GPUs that are closest to being free enough, with what is free of them."""
    if not wanted.gpu_milli:
        return ()
    matching = [
        position
        for position, view in enumerate(node.view.gpus)
        if view.usable and gpu_matches(view.gpu, wanted)
    ]
    matching.sort(key=lambda position: (-node.gpu_free[position], position))
    if wanted.gpu_milli < GPU:
        return tuple([(p, min(node.gpu_free[p], wanted.gpu_milli)) for p in matching[:1]])
    return tuple([(p, node.gpu_free[p]) for p in matching[: wanted.gpu_milli // GPU]])


class _Prospect:
    """A node as if nothing ran there but the members that were already given to it."""

    __slots__ = ("_cpu_milli", "_gpu_milli", "_memory_bytes", "given", "node")

    def __init__(self, node: ScratchNode) -> None:
        self.node = node
        # How many members it was given.
        self.given = 0
        self._cpu_milli = 0
        self._memory_bytes = 0
        self._gpu_milli = 0

    def add(self, wanted: Resources) -> None:
        self.given += 1
        self._cpu_milli += wanted.cpu_milli
        self._memory_bytes += wanted.memory_bytes
        self._gpu_milli += wanted.gpu_milli

    def could_hold(self, wanted: Resources) -> bool:
        view = self.node.view
        return (
            self._cpu_milli + wanted.cpu_milli <= view.cpu_milli
            and self._memory_bytes + wanted.memory_bytes <= view.memory_bytes
            and self._gpu_milli + wanted.gpu_milli <= GPU * len(self._matching(wanted))
        )

    def _matching(self, wanted: Resources) -> list[int]:
        """What is free of the GPUs that such a member could use."""
        if not wanted.gpu_milli:
            return [GPU] * len(self.node.gpu_free)
        pairs = zip(self.node.gpu_free, self.node.view.gpus, strict=True)
        return [free for free, view in pairs if view.usable and gpu_matches(view.gpu, wanted)]

    def lacking(self, wanted: Resources) -> Lack:
        node = self.node
        need = self._gpu_milli + wanted.gpu_milli
        free = self._matching(wanted)
        have = max(free, default=0) if wanted.gpu_milli < GPU else GPU * free.count(GPU)
        return (
            max(0, need - have) if wanted.gpu_milli else 0,
            max(0, self._memory_bytes + wanted.memory_bytes - node.free_memory_bytes),
            max(0, self._cpu_milli + wanted.cpu_milli - node.free_cpu_milli),
        )
