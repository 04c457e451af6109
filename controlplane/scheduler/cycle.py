"""One cycle of the scheduler, from top to bottom."""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.domain.plan import GangPlacement, Plan, Reservation, WaitingShape
from controlplane.domain.snapshot import GangRequest, MemberPlacement, Shape, Snapshot
from controlplane.scheduler import reservation
from controlplane.scheduler.candidates import Candidates
from controlplane.scheduler.feasibility import choose_gpus
from controlplane.scheduler.order import Order
from controlplane.scheduler.reasons import Explanation, explain, reserved_reason
from controlplane.scheduler.scratch import EligibleKey, Scratch, eligible_key
from riseml.spec.model import Resources

# Equal for gangs that fit or do not fit alike on these nodes, whoever's they are.
Kind = tuple[EligibleKey, tuple[Resources, ...]]


@dataclass(slots=True)
class _Blocked:
    """All gangs of one kind that wait; the first stands for all of them."""

    eligible: EligibleKey
    first: GangRequest
    # Whether open nodes could not hold it even if nothing else ran.
    too_large: bool = False
    explanation: Explanation = ((), False)


@dataclass(slots=True)
class _Cycle:
    scratch: Scratch
    candidates: Candidates
    now: float
    placements: list[GangPlacement] = field(default_factory=list)
    waiting: dict[Shape, _Blocked] = field(default_factory=dict)
    blocked: dict[Kind, _Blocked] = field(default_factory=dict)
    reserved: tuple[GangRequest, Reservation] | None = None


def schedule(snapshot: Snapshot, now: float) -> Plan:
    """Places what can be placed and says why the others wait. Equal input gives an equal plan."""
    scratch = Scratch(snapshot.nodes)
    cycle = _Cycle(scratch, Candidates(scratch), now)
    # 1. Who comes first.
    order = Order(snapshot.pending)
    while (first := order.first()) is not None:
        gang, line = first
        eligible = eligible_key(line.shape, scratch.shared_by_all)
        kind = (eligible, line.shape.resources)
        # 2. What did not fit does not fit a moment later: room only becomes less in a cycle.
        blocked = cycle.blocked.get(kind)
        if blocked is None:
            # 3. All members find a place on the scratch copy, or none keeps one.
            members = _place(cycle, gang, eligible)
            if members is not None:
                scratch.keep()
                cycle.placements.append(GangPlacement(gang.experiment_id, members))
                order.take()
                continue
            blocked = cycle.blocked[kind] = _Blocked(eligible, gang)
        # 4. It waits, and with it all that stand behind it in its line; when it has waited long
        # (they have not waited longer), room is kept for it from those that come after it.
        cycle.waiting[line.shape] = blocked
        if cycle.reserved is None:
            _reserve(cycle, gang, blocked)
        order.drop()
    # 5. Why each waits, with the numbers of the end of this cycle.
    _explain(cycle)
    waiting = [WaitingShape(shape, *found.explanation) for shape, found in cycle.waiting.items()]
    return Plan(
        version=snapshot.version,
        placements=tuple(cycle.placements),
        reservations=() if cycle.reserved is None else (cycle.reserved[1],),
        waiting=tuple(waiting),
    )


def _place(
    cycle: _Cycle, gang: GangRequest, eligible: EligibleKey
) -> tuple[MemberPlacement, ...] | None:
    """Takes a place for every member, in the order of the members; None when one has none."""
    scratch = cycle.scratch
    ports = 1 if len(gang.members) > 1 else 0
    placed: dict[int, MemberPlacement] = {}
    order = reservation.largest_first(gang) if ports else range(len(gang.members))
    for position in order:
        member = gang.members[position]
        wanted = member.resources
        node = cycle.candidates.best(eligible, wanted, ports)
        taken = None if node is None else choose_gpus(node, wanted)
        if node is None or taken is None:
            scratch.undo()
            return None
        scratch.take(node, wanted, ports, taken)
        placed[position] = MemberPlacement(
            member.job_id, node.name, node.shares(taken), wanted.cpu_milli, wanted.memory_bytes
        )
    return tuple([placed[position] for position in range(len(gang.members))])


def _reserve(cycle: _Cycle, gang: GangRequest, blocked: _Blocked) -> None:
    waited = cycle.now - gang.submit_time
    if waited <= reservation.RESERVE_AFTER_SECONDS or blocked.too_large:
        return
    holds = reservation.find_holds(cycle.scratch, gang, blocked.eligible)
    if holds is None:
        blocked.too_large = True
        return
    reservation.hold(cycle.scratch, holds)
    names = tuple(dict.fromkeys(node.name for node, _ in holds))
    cycle.reserved = (gang, Reservation(gang.experiment_id, cycle.now, names))


def _explain(cycle: _Cycle) -> None:
    """The reasons of each kind are found once, whatever the number of gangs that are of it."""
    scratch = cycle.scratch
    scratch.release()
    for blocked in cycle.blocked.values():
        if cycle.reserved is not None and _would_fit(cycle, blocked):
            holder, kept = cycle.reserved
            reason = reserved_reason(kept, cycle.now - holder.submit_time)
            blocked.explanation = ((reason,), False)
        else:
            blocked.explanation = explain(scratch, blocked.first, blocked.eligible)
        scratch.undo()


def _would_fit(cycle: _Cycle, blocked: _Blocked) -> bool:
    """Whether it would start now if nothing were kept for another."""
    return _place(cycle, blocked.first, blocked.eligible) is not None
