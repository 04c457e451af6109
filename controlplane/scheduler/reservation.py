"""Keeps large gangs from starving where nobody knows when those in their way end.

The rule: the first waiting gang, in the scheduler's order, that has waited for more than
RESERVE_AFTER_SECONDS, for which no known end would do, and that the open nodes could hold if
nothing else ran, gets the nodes that lack least for it. Gangs after it in the order may use of
these nodes only what is free beyond what it needs. So these nodes empty, and it starts. One gang at
a time has this.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from controlplane.domain.model import GpuShare
from controlplane.domain.snapshot import GangRequest, MemberPlacement
from controlplane.scheduler.feasibility import gpu_matches, refuses_share
from controlplane.scheduler.packing import largest_first
from controlplane.scheduler.room import Room
from controlplane.scheduler.rows import Row
from riseml.spec.model import GPU, Resources

RESERVE_AFTER_SECONDS: Final = 300.0

Lack = tuple[int, int, int]
"""What is not free yet of what is needed of a node: GPUs, memory, CPU."""


def nodes_that_lack_least(room: Room, gang: GangRequest) -> tuple[MemberPlacement, ...] | None:
    """A place for each member that may not be free yet, where the least is in the way.

    None when not all have one on open nodes.
    """
    shape = gang.shape
    prospects = [_Prospect(row) for row in room.rows() if room.may_use(row.view, shape)]
    ranked: dict[Resources, list[tuple[Lack, int, int]]] = {}
    found: dict[int, MemberPlacement] = {}
    for position in largest_first(gang):
        member = gang.members[position]
        wanted = member.resources
        heap = ranked.get(wanted)
        if heap is None:
            heap = ranked[wanted] = _rank(prospects, wanted)
        # An entry from before its node was given a member is stale: a newer one follows, if any.
        while heap and prospects[heap[0][1]].given != heap[0][2]:
            _, place, _ = heapq.heappop(heap)
            _push(heap, place, prospects[place], wanted)
        if not heap:
            return None
        best = prospects[heap[0][1]]
        found[position] = replace(best.add(wanted), job_id=member.job_id)
    return tuple([found[position] for position in range(len(gang.members))])


def _rank(prospects: Sequence[_Prospect], wanted: Resources) -> list[tuple[Lack, int, int]]:
    """Prospects that could hold a member, as a heap; nodes in equal states are looked at once."""
    found: dict[int, Lack | None] = {}
    heap: list[tuple[Lack, int, int]] = []
    for place, prospect in enumerate(prospects):
        state = prospect.row.state
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


class _Prospect:
    """A node as if nothing ran there but the members that were already given to it."""

    __slots__ = ("_cpu_milli", "_gpu_milli", "_memory_bytes", "_taken", "given", "row")

    def __init__(self, row: Row) -> None:
        self.row = row
        # How many members it was given.
        self.given = 0
        self._cpu_milli = 0
        self._memory_bytes = 0
        self._gpu_milli = 0
        self._taken: dict[int, int] = {}

    def add(self, wanted: Resources) -> MemberPlacement:
        """Gives it a member. Its GPUs are those that are closest to being free enough."""
        self.given += 1
        self._cpu_milli += wanted.cpu_milli
        self._memory_bytes += wanted.memory_bytes
        self._gpu_milli += wanted.gpu_milli
        row, taken = self.row, self._taken
        each = min(wanted.gpu_milli, GPU)
        fitting = [
            position for position in self._matching(wanted) if taken.get(position, 0) + each <= GPU
        ]
        fitting.sort(key=lambda p: (-(self._free(p) - taken.get(p, 0)), p))
        chosen = sorted(fitting[: wanted.gpu_count])
        for position in chosen:
            taken[position] = taken.get(position, 0) + each
        shares = tuple([GpuShare(row.view.gpus[position].gpu.uuid, each) for position in chosen])
        return MemberPlacement(
            "", row.name, shares, wanted.cpu_milli, wanted.memory_bytes, wanted.shm_bytes
        )

    def could_hold(self, wanted: Resources) -> bool:
        view = self.row.view
        return (
            self._cpu_milli + wanted.cpu_milli <= view.cpu_milli
            and self._memory_bytes + wanted.memory_bytes <= view.memory_bytes
            and self._gpu_milli + wanted.gpu_milli <= GPU * len(self._matching(wanted))
        )

    def _free(self, position: int) -> int:
        return max(0, self.row.gpu_free[position] - self.row.gpu_held[position])

    def _matching(self, wanted: Resources) -> list[int]:
        """Positions of the GPUs that such a member could use."""
        if not wanted.gpu_milli or refuses_share(self.row.view, wanted):
            return []
        return [
            position
            for position, view in enumerate(self.row.view.gpus)
            if view.usable and gpu_matches(view.gpu, wanted)
        ]

    def lacking(self, wanted: Resources) -> Lack:
        row = self.row
        need = self._gpu_milli + wanted.gpu_milli
        free = [self._free(position) for position in self._matching(wanted)]
        have = max(free, default=0) if wanted.gpu_milli < GPU else GPU * free.count(GPU)
        free_cpu = row.free_cpu_milli - row.held_cpu_milli
        free_memory = row.free_memory_bytes - row.held_memory_bytes
        return (
            max(0, need - have) if wanted.gpu_milli else 0,
            max(0, self._memory_bytes + wanted.memory_bytes - free_memory),
            max(0, self._cpu_milli + wanted.cpu_milli - free_cpu),
        )
