"""One cycle of the scheduler, from top to bottom."""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.domain.model import PlacementStyle
from controlplane.domain.plan import GangPlacement, Plan, Reservation, WaitingShape
from controlplane.domain.snapshot import GangRequest, Shape, Snapshot
from controlplane.scheduler import reservation
from controlplane.scheduler.order import Order
from controlplane.scheduler.policy import DEFAULT, Policy
from controlplane.scheduler.reasons import Explanation, explain, reserved_reason
from controlplane.scheduler.room import NEVER, Room

PACK = PlacementStyle.PACK


class Scheduler:
    """Plans one snapshot after the other. What it keeps between them only makes it faster."""

    def __init__(self, policy: Policy = DEFAULT) -> None:
        self._room = Room(policy)

    def schedule(self, snapshot: Snapshot, now: float) -> Plan:
        """Places what can be placed and says why the others wait.

        Equal input gives an equal plan, whatever was planned before.
        """
        self._room.load(snapshot)
        return _plan(self._room, snapshot, now)


def schedule(snapshot: Snapshot, now: float, policy: Policy = DEFAULT) -> Plan:
    """The plan of a scheduler that has seen nothing before."""
    return Scheduler(policy).schedule(snapshot, now)


@dataclass(slots=True)
class _Blocked:
    """All gangs of one kind that wait; the first stands for all of them."""

    first: GangRequest
    # Whether open nodes could not hold it even if nothing else ran.
    too_large: bool = False
    explanation: Explanation = ((), False)


@dataclass(slots=True)
class _Cycle:
    room: Room
    now: float
    placements: list[GangPlacement] = field(default_factory=list)
    waiting: dict[Shape, _Blocked] = field(default_factory=dict)
    reserved: tuple[GangRequest, Reservation] | None = None


def _plan(room: Room, snapshot: Snapshot, now: float) -> Plan:
    cycle = _Cycle(room, now)
    # 1. Who comes first.
    order = Order(snapshot.pending)
    while (first := order.first()) is not None:
        gang, line = first
        # 2. What did not fit does not fit a moment later: room only becomes less in a cycle.
        blocked = cycle.waiting.get(line.shape)
        if blocked is None:
            # 3. All members find a place on the scratch copy, or none keeps one.
            members = room.place(gang, PACK, None)
            if members is not None:
                cycle.placements.append(GangPlacement(gang.experiment_id, members))
                order.take()
                continue
            blocked = _Blocked(gang)
        # 4. It waits, and with it all that stand behind it in its line; when it has waited long
        # (they have not waited longer), room is kept for it from those that come after it.
        cycle.waiting[line.shape] = blocked
        if cycle.reserved is None:
            _reserve(cycle, gang, blocked)
        order.drop()
    # 5. Why each waits, with the numbers of the end of this cycle.
    _explain(cycle)
    waiting = [
        WaitingShape(shape, *found.explanation, priority=found.first.priority)
        for shape, found in cycle.waiting.items()
    ]
    return Plan(
        version=snapshot.version,
        placements=tuple(cycle.placements),
        reservations=() if cycle.reserved is None else (cycle.reserved[1],),
        waiting=tuple(waiting),
    )


def _reserve(cycle: _Cycle, gang: GangRequest, blocked: _Blocked) -> None:
    waited = cycle.now - gang.submit_time
    if waited <= reservation.RESERVE_AFTER_SECONDS or blocked.too_large:
        return
    members = reservation.nodes_that_lack_least(cycle.room, gang)
    if members is None:
        blocked.too_large = True
        return
    cycle.room.hold(members, gang.experiment_id, float("inf"))
    names = tuple(dict.fromkeys(member.node_name for member in members))
    reserved = Reservation(gang.experiment_id, float("inf"), names, members)
    cycle.reserved = (gang, reserved)


def _explain(cycle: _Cycle) -> None:
    room = cycle.room
    rows = room.rows()
    for blocked in cycle.waiting.values():
        mark = room.mark()
        if cycle.reserved is not None and room.place(blocked.first, PACK, NEVER) is not None:
            # It would start now if nothing were kept for another.
            holder, kept = cycle.reserved
            reason = reserved_reason(kept, cycle.now - holder.submit_time)
            blocked.explanation = ((reason,), False)
        else:
            blocked.explanation = explain(rows, blocked.first)
        room.undo(mark)
