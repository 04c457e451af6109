"""Those that a cycle does not start, and why: the reasons of each kind are found once, whatever the
number of gangs that are of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from controlplane.domain.model import PlacementStyle
from controlplane.domain.plan import PendingReason, Reservation, WaitingShape
from controlplane.domain.snapshot import GangRequest, MemberPlacement, Shape
from controlplane.scheduler import reasons
from controlplane.scheduler.room import NEVER, Room
from controlplane.scheduler.shapes import Facts


@dataclass(slots=True)
class _Left:
    """All gangs of one shape that wait; the first stands for all of them."""

    first: GangRequest
    facts: Facts
    # The highest of them.
    priority: int
    # What is known already; None: there is no room, and why is found at the end.
    reason: PendingReason | None
    impossible: bool


class LeftWaiting:
    """By shape, in the order in which they had their turn."""

    def __init__(self, room: Room, now: float) -> None:
        self._room = room
        self._now = now
        self._left: dict[Shape, _Left] = {}

    def note(
        self,
        gang: GangRequest,
        facts: Facts,
        reason: PendingReason | None = None,
        impossible: bool = False,
    ) -> None:
        """It waits, for this reason or for want of room."""
        known = self._left.get(facts.shape)
        if known is None:
            self._left[facts.shape] = _Left(gang, facts, gang.priority, reason, impossible)
        elif gang.priority > known.priority:
            known.priority = gang.priority

    def explained(
        self, reservations: Collection[Reservation], requests: Sequence[GangRequest]
    ) -> Iterator[WaitingShape]:
        """At the end of the cycle: `reservations` are all that it made, `requests` for whom."""
        known: dict[int, reasons.Explanation] = {}
        for shape, left in self._left.items():
            if left.reason is not None:
                found: reasons.Explanation = ((left.reason,), left.impossible)
            else:
                kind = left.facts.kind
                if kind not in known:
                    known[kind] = self._explain(
                        left.first, left.facts.style, reservations, requests
                    )
                found = known[kind]
            yield WaitingShape(shape, *found, priority=left.priority)

    def _explain(
        self,
        gang: GangRequest,
        style: PlacementStyle,
        reservations: Collection[Reservation],
        requests: Sequence[GangRequest],
    ) -> reasons.Explanation:
        if reservations:
            mark = self._room.mark()
            members = self._room.place(gang, style, NEVER)
            self._room.undo(mark)
            if members is not None:
                # It would start now if nothing were kept for others.
                return ((self._reserved(members, reservations, requests),), False)
        return reasons.explain(self._room, gang)

    def _reserved(
        self,
        members: Sequence[MemberPlacement],
        reservations: Collection[Reservation],
        requests: Sequence[GangRequest],
    ) -> PendingReason:
        """Of the reservations on these nodes, the first in the scheduler's order."""
        names = {member.node_name for member in members}
        kept = list(zip(reservations, requests, strict=True))
        here = [one for one in kept if not names.isdisjoint(one[0].node_names)]
        first, holder = (here or kept)[0]
        return reasons.reserved(first, self._now - holder.submit_time, self._now)
