"""Places for all members of a gang: few nodes, and nodes that are close to each other.

A member alone goes to the node with the best score. Of several equal ones as many as can be go to
one node; of the nodes that hold as many, the best is taken. When no node holds them all, those of
one rack are tried first, then those of one zone (labels `riseml.com/rack`, `riseml.com/zone`), then
all. Under the style SPREAD each member goes to another node, as long as there are some.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np

from controlplane.domain.model import PlacementStyle
from controlplane.domain.snapshot import GangRequest
from controlplane.scheduler.arrays import Flags, Floats, Ints
from controlplane.scheduler.candidates import Candidates, Scores
from controlplane.scheduler.table import NodeTable, RoomNode, Taken
from controlplane.scheduler.topology import closest
from riseml.spec.model import GPU, Resources

CLOSE_LABELS: Final = ("riseml.com/rack", "riseml.com/zone")
_MOST_GROUPS: Final = 3

Take = Callable[[RoomNode, Resources, int, Taken], None]


@dataclass(frozen=True, slots=True)
class Spot:
    """The place of one member."""

    node: RoomNode
    taken: Taken
    # By row what it was chosen among; not of all of several equal members.
    scores: Floats | None = None
    # Said instead, where there was nothing to choose.
    reason: str = ""


def largest_first(gang: GangRequest) -> list[int]:
    """Positions of the members, those that are hardest to place first."""

    def size(position: int) -> tuple[int, int, int, int]:
        wanted = gang.members[position].resources
        return (-wanted.gpu_milli, -wanted.memory_bytes, -wanted.cpu_milli, position)

    return sorted(range(len(gang.members)), key=size)


class Packing:
    """`take` is told of every member that found a place; what it took is not given back here."""

    def __init__(self, table: NodeTable, candidates: Candidates, take: Take) -> None:
        self._table = table
        self._candidates = candidates
        self._take = take

    def place_one(
        self, gang: GangRequest, style: PlacementStyle, allowed: Flags | None
    ) -> list[Spot] | None:
        """The only member of a gang."""
        member = gang.members[0]
        spot = self._best(member.job_id, member.resources, 0, style, allowed)
        return None if spot is None else [spot]

    def place_all(
        self, gang: GangRequest, style: PlacementStyle, allowed: Flags | None
    ) -> list[Spot] | None:
        """All members, in their order; None if one of them has no place any more."""
        spots: dict[int, Spot] = {}
        used: dict[int, None] = {}
        order = largest_first(gang)
        begin = 0
        while begin < len(order):
            wanted = gang.members[order[begin]].resources
            end = begin
            while end < len(order) and gang.members[order[end]].resources == wanted:
                end += 1
            equals = order[begin:end]
            jobs = [gang.members[position].job_id for position in equals]
            if style is PlacementStyle.SPREAD:
                found = self._spread(jobs, wanted, allowed, used)
            else:
                found = self._pack(jobs, wanted, allowed, used)
            for position, spot in zip(equals, found, strict=False):
                spots[position] = spot
            if len(found) < len(equals):
                return None
            begin = end
        return [spots[position] for position in range(len(order))]

    def close_groups(self, gang: GangRequest, allowed: Flags | None) -> Iterator[Flags]:
        """Nodes that the gang is to be tried on before all that are allowed."""
        order = largest_first(gang)
        wanted = gang.members[order[0]].resources
        number = sum(1 for member in gang.members if member.resources == wanted)
        copies: Ints | None = None
        for label in CLOSE_LABELS:
            groups = self._table.groups(label)
            if groups is None:
                continue
            if copies is None:
                copies = self._table.copies(wanted, 1)
                if allowed is not None:
                    copies = copies * allowed
                if number == len(order) and int(copies.max(initial=0)) >= number:
                    return
            inside = groups >= 0
            room = np.bincount(groups[inside], weights=copies[inside])
            # The smallest that suffice, so that larger ones are there for larger gangs.
            enough = np.flatnonzero(room >= number)
            ranked = enough[np.argsort(room[enough], kind="stable")]
            for group in ranked[:_MOST_GROUPS].tolist():
                here = groups == group
                yield here if allowed is None else here & allowed

    # --- equal members

    def _pack(
        self,
        jobs: Sequence[str],
        wanted: Resources,
        allowed: Flags | None,
        used: dict[int, None],
    ) -> list[Spot]:
        spots: list[Spot] = []
        while len(spots) < len(jobs):
            copies = self._table.copies(wanted, 1)
            if allowed is not None:
                copies *= allowed
            left = len(jobs) - len(spots)
            here = [row for row in used if copies[row]]
            if here:
                # Where some of the gang are already.
                row = max(here, key=lambda one: (min(int(copies[one]), left), -one))
            else:
                most = min(left, int(copies.max(initial=0)))
                if not most:
                    break
                good = copies >= most
                found = self._candidates.scores(wanted, PlacementStyle.PACK)
                best = self._candidates.best(found, good, jobs[len(spots)])
                if best is None:
                    break
                row = best
            used[row] = None
            for job_id in jobs[len(spots) : len(spots) + int(copies[row])]:
                spot = self._on(row, job_id, wanted, allowed, not spots)
                if spot is None:
                    return spots
                spots.append(spot)
        return spots

    def _on(
        self, row: int, job_id: str, wanted: Resources, allowed: Flags | None, telling: bool
    ) -> Spot | None:
        """One more on this node."""
        found = self._candidates.scores(wanted, PlacementStyle.PACK)
        if not np.isfinite(found.scores[row]):
            return None
        return self._spot(row, found, job_id, wanted, 1, allowed, telling)

    def _spread(
        self,
        jobs: Sequence[str],
        wanted: Resources,
        allowed: Flags | None,
        used: dict[int, None],
    ) -> list[Spot]:
        style = PlacementStyle.SPREAD
        spots: list[Spot] = []
        for job_id in jobs:
            others = np.ones(len(self._table.nodes), dtype=np.bool_)
            others[list(used)] = False
            if allowed is not None:
                others &= allowed
            spot = self._best(job_id, wanted, 1, style, others) or self._best(
                job_id, wanted, 1, style, allowed
            )
            if spot is None:
                break
            used[spot.node.index] = None
            spots.append(spot)
        return spots

    # --- one member

    def _best(
        self,
        job_id: str,
        wanted: Resources,
        ports: int,
        style: PlacementStyle,
        allowed: Flags | None,
    ) -> Spot | None:
        table = self._table
        found = self._candidates.scores(wanted, style)
        if ports:
            has_ports = table.ports >= ports
            allowed = has_ports if allowed is None else allowed & has_ports
        if wanted.shm_bytes:
            has_shm = table.shm >= wanted.shm_bytes
            allowed = has_shm if allowed is None else allowed & has_shm
        row = self._candidates.best(found, allowed, job_id)
        return None if row is None else self._spot(row, found, job_id, wanted, ports, allowed)

    def _spot(
        self,
        row: int,
        found: Scores,
        job_id: str,
        wanted: Resources,
        ports: int,
        allowed: Flags | None,
        telling: bool = True,
    ) -> Spot:
        node = self._table.nodes[row]
        taken = self._choose(node, wanted, int(found.picks[row]), job_id)
        ground = None
        if telling:
            ground = found.scores.copy()
            if allowed is not None:
                ground[~allowed] = np.inf
        self._take(node, wanted, ports, taken)
        return Spot(node, taken, ground)

    def _choose(self, node: RoomNode, wanted: Resources, pick: int, job_id: str) -> Taken:
        if not wanted.gpu_milli:
            return ()
        level = min(wanted.gpu_milli, GPU)
        fits = self._table.fitting(wanted)
        classes = node.classes
        if self._candidates.at_random and level < GPU:
            good = [p for p, m in enumerate(node.gpu_free) if m >= level and fits[classes[p]]]
            good = [good[crc32(job_id.encode()) % len(good)]]
        else:
            pick = pick or GPU
            good = [
                position
                for position, milli in enumerate(node.gpu_free)
                if min(milli, GPU) == pick and fits[classes[position]]
            ]
            if len(good) == wanted.gpu_count:
                return tuple([(position, level) for position in good])
        gpus = [view.gpu for view in node.view.gpus]
        chosen = closest(node.layout, gpus, good, wanted.gpu_count)
        return tuple([(position, level) for position in chosen])
