"""One cycle of the scheduler, from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf
from operator import itemgetter

from controlplane.domain.plan import (
    Decision,
    Eviction,
    GangPlacement,
    PendingReason,
    Plan,
    Reservation,
)
from controlplane.domain.snapshot import (
    GangRequest,
    Line,
    MemberPlacement,
    Shape,
    Snapshot,
)
from controlplane.domain.trace import DecisionTrace
from controlplane.scheduler import decisions, reasons, reservation
from controlplane.scheduler.ends import KnownEnds
from controlplane.scheduler.full import FullFor
from controlplane.scheduler.left_waiting import LeftWaiting
from controlplane.scheduler.order import make_order
from controlplane.scheduler.policy import DEFAULT, Backfill, Policy
from controlplane.scheduler.preemption import SOON_SECONDS, Preemption
from controlplane.scheduler.quota import Accounts
from controlplane.scheduler.room import Room
from controlplane.scheduler.shapes import Facts, Shapes
from controlplane.scheduler.timeline import Opening, Timeline
from controlplane.scheduler.tracing import Watcher


class Scheduler:
    """Plans one snapshot after the other. What it keeps between them only makes it faster."""

    def __init__(self, policy: Policy = DEFAULT) -> None:
        self._policy = policy
        self._room = Room(policy)
        self._shapes = Shapes(self._room)
        self._ends = KnownEnds()

    def schedule(self, snapshot: Snapshot, now: float) -> Plan:
        """Places what can be placed and says why the others wait.

        Equal input gives an equal plan, whatever was planned before.
        """
        self._room.load(snapshot)
        self._shapes.load()
        return Cycle(self._room, self._shapes, self._ends, snapshot, now, self._policy).run()


def trace(
    snapshot: Snapshot, now: float, experiment_id: str, policy: Policy = DEFAULT
) -> DecisionTrace | None:
    """What the cycle on this snapshot sees of one experiment that waits, and does with it.

    None if it does not wait. The cycle is the same as without anybody looking.
    """
    policy = replace(policy, explain=True)
    room = Room(policy)
    room.load(snapshot)
    shapes = Shapes(room)
    watcher = Watcher(experiment_id, policy)
    return watcher.trace(Cycle(room, shapes, KnownEnds(), snapshot, now, policy, watcher).run())


def schedule(snapshot: Snapshot, now: float, policy: Policy = DEFAULT) -> Plan:
    """The plan of a scheduler that has seen nothing before."""
    return Scheduler(policy).schedule(snapshot, now)


class Cycle:
    """One look at a snapshot. `room` shows it, and is left in disorder."""

    def __init__(
        self,
        room: Room,
        shapes: Shapes,
        ends: KnownEnds,
        snapshot: Snapshot,
        now: float,
        policy: Policy,
        watcher: Watcher | None = None,
    ) -> None:
        self._watcher = watcher
        self._room = room
        self._shapes = shapes
        self._snapshot = snapshot
        self._now = now
        self._policy = policy
        self._accounts = Accounts(snapshot, room.capacity, now)
        self._timeline = Timeline(room, snapshot.running, ends, now)
        self._order = make_order(snapshot, self._accounts, policy, now)
        self._preemption = Preemption(self._timeline, self._accounts, snapshot, now)
        self._placed: dict[str, tuple[MemberPlacement, ...]] = {}
        self._evictions: list[Eviction] = []
        self._reservations: dict[str, Reservation] = {}
        # For whom, in the same order.
        self._reserved_for: list[GangRequest] = []
        self._decisions: list[Decision] = []
        self._left = LeftWaiting(room, now)
        self._facts: dict[Shape, Facts] = {}
        self._full = FullFor(room.some_whole)
        # Kinds for which looking ahead was in vain, by what was known of ends then.
        self._no_opening: set[int] = set()
        self._no_room_ever: set[int] = set()
        # Queues of which somebody has a reservation.
        self._reserved_queues: set[str] = set()
        # Whether room is kept for one of whom nobody knows when it can start.
        self._open_ended = False

    def run(self) -> Plan:
        """The steps of the cycle."""
        order = self._order
        # 1. Those that others were stopped for come before anybody else, and of each queue the
        # first, if it has waited too long or room was kept for it before.
        for gang, line in self._first_served():
            self._watch(gang)
            facts = self._facts_of(line)
            if self._is_within_limit(gang, facts) and not self._start(gang, facts):
                self._keep_room(gang, facts, first_served=True)
        # 2. All others in their order: a gang starts whole, or not at all and waits.
        while (first := order.first()) is not None:
            gang, line = first
            if self._watcher is not None:
                self._watch(gang)
            facts = self._facts.get(line.shape) or self._facts_of(line)
            if gang.experiment_id in self._placed:
                order.take()
            elif not self._is_within_limit(gang, facts):
                self._drop(gang, line)
            elif self._start(gang, facts) or self._keep_room(gang, facts):
                # Even if it waits, room may be kept for the next of its line as well.
                order.take()
            elif not self._preemption.is_like_others(gang):
                order.take()
            else:
                # Those behind it in its line can do no better.
                self._drop(gang, line)
                if self._policy.backfill is Backfill.NONE and self._room.could_hold(gang):
                    self._stop_all_behind(gang)
        # 3. Why each of those waits, with the numbers of the end of this cycle.
        return Plan(
            version=self._snapshot.version,
            placements=tuple([GangPlacement(*placed) for placed in self._placed.items()]),
            evictions=tuple(self._evictions),
            reservations=tuple(self._reservations.values()),
            waiting=tuple(self._left.explained(self._reservations.values(), self._reserved_for)),
            decisions=tuple(self._decisions),
        )

    def _drop(self, gang: GangRequest, line: Line) -> None:
        self._order.drop()
        if self._watcher is not None:
            for behind in line:
                if behind.rank > gang.rank:
                    self._watch(behind)

    def _watch(self, gang: GangRequest) -> None:
        if self._watcher is not None and self._watcher.is_turn_of(gang):
            self._watcher.look(
                self._snapshot,
                self._now,
                self._room,
                self._accounts,
                self._timeline,
                self._placed,
            )

    def _first_served(self) -> Iterator[tuple[GangRequest, Line]]:
        wanted = set(self._snapshot.preemptors)
        if wanted:
            found = [
                (gang.rank, gang, line)
                for line in self._snapshot.pending.lines
                for gang in line
                if gang.experiment_id in wanted
            ]
            found.sort(key=itemgetter(0))
            yield from [(gang, line) for _, gang, line in found]
        for gang, line in self._order.urgent():
            if gang.experiment_id not in wanted:
                yield gang, line

    def _facts_of(self, line: Line) -> Facts:
        queue = self._accounts.queue(line.shape.queue)
        facts = self._facts[line.shape] = self._shapes.facts(line.shape, queue, self._now)
        return facts

    # --- starting

    def _is_within_limit(self, gang: GangRequest, facts: Facts) -> bool:
        queue, wanted = facts.queue, facts.known.wanted.gpu_milli
        if queue.allows(wanted):
            return True
        reason, impossible = reasons.queue_limit(queue, wanted)
        self._note_waiting(gang, facts, reason, impossible)
        if self._now - gang.submit_time > reservation.RESERVE_AFTER_SECONDS and not impossible:
            queue.leave_room_below_limit(wanted)
        return False

    def _start(self, gang: GangRequest, facts: Facts) -> bool:
        """Places a gang, if there is room."""
        kind, nodes, until = facts.kind, facts.known.nodes, facts.until
        wanted = facts.shape.resources
        if not self._full.certainly(kind, nodes, wanted, until):
            members = self._room.place(gang, facts.style, until)
            if members is not None:
                self._note_start(gang, facts, members)
                return True
            self._full.note(kind, nodes, wanted, until)
        self._note_waiting(gang, facts)
        return False

    def _note_start(
        self, gang: GangRequest, facts: Facts, members: tuple[MemberPlacement, ...]
    ) -> None:
        self._placed[gang.experiment_id] = members
        self._accounts.add(gang.queue, gang.user_name, facts.known.wanted)
        self._timeline.start(gang, members)
        if self._policy.explain:
            self._decisions.append(decisions.placed(gang, members, self._room.choices()))

    def _note_waiting(
        self,
        gang: GangRequest,
        facts: Facts,
        reason: PendingReason | None = None,
        impossible: bool = False,
    ) -> None:
        if self._policy.explain:
            self._left.note(gang, facts, reason, impossible)

    # --- keeping room for those that cannot start

    def _keep_room(self, gang: GangRequest, facts: Facts, first_served: bool = False) -> bool:
        """Stops others for it, or reserves what becomes free, if it is one of those for whom that
        is done.
        """
        kind = facts.kind
        if gang.experiment_id in self._reservations:
            return True
        may_preempt = self._policy.preemption and self._preemption.may_help(
            gang, kind, facts.queue.queue
        )
        may_reserve = self._may_reserve(facts, first_served)
        if not may_preempt and not may_reserve:
            return False
        opening = None
        if kind not in self._no_opening:
            opening = self._timeline.earliest(gang, facts.known.seconds)
            if opening is None:
                self._no_opening.add(kind)
        soon = opening is not None and opening.time <= self._now + SOON_SECONDS
        if may_preempt and not soon:
            made = self._preemption.make_room(gang, kind, facts.known.seconds)
            if made is not None:
                evictions, opening = made
                self._note_evictions(evictions)
                self._reserve(gang, opening)
                return True
        if opening is not None and (may_reserve or self._was_preempted_for(gang, opening)):
            self._reserve(gang, opening)
            return True
        return opening is None and may_reserve and self._reserve_open_ended(gang, kind)

    def _note_evictions(self, evictions: Sequence[Eviction]) -> None:
        self._evictions.extend(evictions)
        if self._policy.explain:
            victims = {one.experiment_id for one in evictions}
            running = {
                one.experiment_id: one
                for one in self._snapshot.running
                if one.experiment_id in victims
            }
            self._decisions.extend(
                [decisions.preempted(running[one.experiment_id], one) for one in evictions]
            )

    def _may_reserve(self, facts: Facts, first_served: bool) -> bool:
        backfill = self._policy.backfill
        if backfill is Backfill.RESERVATION:
            return (
                first_served
                or len(self._reservations) < self._policy.reservations
                or facts.shape.queue not in self._reserved_queues
            )
        return backfill is Backfill.EASY and not self._reservations

    def _was_preempted_for(self, gang: GangRequest, opening: Opening) -> bool:
        return any(one.stopping_for == gang.experiment_id for one in opening.waits_for)

    def _reserve(self, gang: GangRequest, opening: Opening) -> None:
        self._timeline.keep(gang, opening)
        # It ends some time, and so do those that were stopped for it.
        self._no_opening.clear()
        if opening.time <= self._now + SOON_SECONDS:
            self._preemption.promise(gang)
        self._note_reservation(
            gang,
            Reservation(
                gang.experiment_id,
                opening.time,
                tuple(dict.fromkeys(member.node_name for member in opening.members)),
                opening.members,
                reasons.preempting(gang, opening, self._now),
            ),
        )

    def _reserve_open_ended(self, gang: GangRequest, kind: int) -> bool:
        """Nobody knows when there will be room: nodes are emptied for one such gang at a time."""
        waited = self._now - gang.submit_time
        if self._open_ended or waited <= reservation.RESERVE_AFTER_SECONDS:
            return False
        if kind in self._no_room_ever:
            return False
        members = reservation.nodes_that_lack_least(self._room, gang)
        if members is None:
            self._no_room_ever.add(kind)
            return False
        self._open_ended = True
        self._timeline.keep_whatever_becomes_free(gang.experiment_id, members)
        names = tuple(dict.fromkeys(member.node_name for member in members))
        self._note_reservation(gang, Reservation(gang.experiment_id, inf, names, members))
        return True

    def _note_reservation(self, gang: GangRequest, reserved: Reservation) -> None:
        self._reservations[gang.experiment_id] = reserved
        self._reserved_queues.add(gang.queue)
        self._reserved_for.append(gang)
        if self._policy.explain:
            waited = self._now - gang.submit_time
            self._decisions.append(decisions.reserved(reserved, waited, self._now))

    def _stop_all_behind(self, gang: GangRequest) -> None:
        while (first := self._order.first()) is not None:
            behind, line = first
            self._watch(behind)
            self._note_waiting(behind, self._facts_of(line), reasons.behind(gang))
            self._drop(behind, line)
