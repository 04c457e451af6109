"""Who is stopped so that another can start.

Two grounds, and no other:

- priority: within a queue that allows it, running gangs of lower priority;
- reclaim: for a gang with which its queue still holds no more than its guarantee, gangs of queues
  that hold more than theirs.

Of the sets that make room the one is taken whose highest priority is lowest, then the one that
loses the fewest GPU-seconds of work since checkpoints, then the smallest; youngest gangs first. A
set is tried on the copy of the cluster before anybody is stopped: all members of the gang find
their places then, and nobody is stopped without whom they would. Nobody is stopped by one that made
room for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from controlplane.domain.model import PlacementStyle, Queue
from controlplane.domain.plan import Eviction
from controlplane.domain.snapshot import GangRequest, MemberPlacement, RunningGang, Snapshot
from controlplane.scheduler.prospects import Prospects
from controlplane.scheduler.quota import Accounts, total
from controlplane.scheduler.room import Room, largest_first
from controlplane.scheduler.timeline import Opening, Timeline
from riseml.spec.model import GPU, Resources
from riseml.spec.units import format_milli

SOON_SECONDS: Final = 60.0
"""For a gang that starts anyway within this time nobody is stopped."""

_MOST_FAILURES: Final = 8
"""Of one cycle: so many kinds of gangs are tried in vain, the rest waits for the next cycles."""


@dataclass(slots=True)
class Victim:
    """A running gang that may be stopped for the one that is looked at."""

    gang: RunningGang
    gpu_milli: int
    # GPU-seconds since its last checkpoint, or since it started.
    lost: float
    # Why it may be: it belongs to another queue, which borrows; otherwise by priority.
    reclaimed: bool

    @property
    def cost(self) -> tuple[int, float, float, str]:
        """The lowest goes first."""
        gang = self.gang
        return (gang.priority, self.lost, -gang.start_time, gang.experiment_id)


Made = tuple[list[Eviction], Opening]


class Preemption:
    """The victims that one cycle can find."""

    def __init__(
        self,
        room: Room,
        timeline: Timeline,
        accounts: Accounts,
        snapshot: Snapshot,
        now: float,
    ) -> None:
        self._room = room
        self._timeline = timeline
        self._accounts = accounts
        self._snapshot = snapshot
        self._now = now
        # Running gangs that are not being stopped, by queue; made when asked for.
        self._queues: dict[str, list[RunningGang]] | None = None
        self._lowest: dict[str, int] | None = None
        # Gangs that are being stopped already.
        self._leaving: list[RunningGang] = []
        # What was looked for in vain.
        self._failed: set[Hashable] = set()
        # Whom those that wait were stopped for.
        self._made_room = dict(snapshot.made_room)
        # GPUs that queues give back by that, and that are meant for others.
        self._given_up: dict[str, int] = {}
        self._promised: dict[str, int] = {}

    def _by_queue(self) -> dict[str, list[RunningGang]]:
        if self._queues is None:
            self._queues = {}
            for gang in sorted(self._snapshot.running, key=lambda one: one.experiment_id):
                if gang.stopping_until is not None:
                    self._leaving.append(gang)
                    given_up = self._given_up.get(gang.queue, 0)
                    self._given_up[gang.queue] = given_up + gpu_milli_of(gang)
                    continue
                self._queues.setdefault(gang.queue, []).append(gang)
        return self._queues

    def may_help(self, gang: GangRequest, kind: Hashable, settled: Queue) -> bool:
        """Whether anybody could be stopped for a gang of this queue at all. Cheap."""
        if self._lowest is None:
            self._lowest = self._timeline.lowest_priorities()
        lowest = self._lowest.get(gang.queue, gang.priority)
        ground = lowest < gang.priority and settled.preempts_lower_priority
        if not ground and settled.guaranteed_gpu_milli:
            ground = self._may_reclaim(gang) and any(
                name != gang.queue and self._borrowed(name) > 0 for name in self._by_queue()
            )
        return (
            ground
            and len(self._failed) < _MOST_FAILURES
            and self._key(gang, kind) not in self._failed
        )

    def _by_priority(self, gang: GangRequest) -> bool:
        return self._accounts.queue(gang.queue).queue.preempts_lower_priority

    def _may_reclaim(self, gang: GangRequest) -> bool:
        account = self._accounts.queue(gang.queue)
        wanted = total(member.resources for member in gang.members).gpu_milli
        held = account.held.gpu_milli + self._promised.get(gang.queue, 0)
        return 0 < wanted <= account.queue.guaranteed_gpu_milli - held

    def make_room(
        self, gang: GangRequest, kind: Hashable, style: PlacementStyle, seconds: float | None
    ) -> Made | None:
        """Whom to stop, and when and where it starts then; None: nobody whose end would do."""
        chosen = self._choose(gang, self._candidates(gang), seconds)
        # Nobody: those that leave already suffice, at some time.
        made = self._verify(gang, style, seconds, chosen) if chosen else None
        if made is None:
            self._failed.add(self._key(gang, kind))
        return made

    def _key(self, gang: GangRequest, kind: Hashable) -> Hashable:
        """Equal for gangs that can stop the same others."""
        spared = self._made_room.get(gang.experiment_id)
        return (kind, gang.queue, gang.priority, spared)

    def is_like_others(self, gang: GangRequest) -> bool:
        """Whether gangs of its line can stop nobody whom it cannot."""
        return gang.experiment_id not in self._made_room

    def promise(self, gang: GangRequest) -> None:
        """Room that was made for it is counted as held by its queue."""
        wanted = total(member.resources for member in gang.members).gpu_milli
        self._promised[gang.queue] = self._promised.get(gang.queue, 0) + wanted

    def _borrowed(self, queue: str) -> int:
        """What others may take back from a queue, without what they are getting already."""
        self._by_queue()
        return self._accounts.queue(queue).borrowed_gpu_milli - self._given_up.get(queue, 0)

    def _candidates(self, gang: GangRequest) -> list[Victim]:
        """All who may be stopped for it, cheapest first."""
        found: list[Victim] = []
        by_queue = self._by_queue()
        if self._by_priority(gang):
            found += [
                self._victim(one, reclaimed=False)
                for one in by_queue.get(gang.queue, ())
                if one.priority < gang.priority
            ]
        if self._may_reclaim(gang):
            for name, running in by_queue.items():
                if name != gang.queue and self._borrowed(name) > 0:
                    borrowers = [self._victim(one, reclaimed=True) for one in running]
                    found += [one for one in borrowers if one.gpu_milli]
        spared = self._made_room.get(gang.experiment_id)
        found = [one for one in found if one.gang.experiment_id != spared]
        found.sort(key=lambda victim: victim.cost)
        return found

    def _victim(self, gang: RunningGang, reclaimed: bool) -> Victim:
        gpu = gpu_milli_of(gang)
        saved = gang.start_time
        if gang.checkpoint_time is not None:
            saved = max(saved, gang.checkpoint_time)
        return Victim(gang, gpu, gpu / GPU * max(0.0, self._now - saved), reclaimed)

    def _choose(
        self, gang: GangRequest, candidates: Sequence[Victim], seconds: float | None
    ) -> list[Victim] | None:
        """Member by member the node where room costs least; None when one has none."""
        counts = self._timeline.prospects(gang, seconds)
        for leaving in self._leaving:
            counts.release(leaving)
        here: dict[str, list[Victim]] = {}
        for victim in candidates:
            for name in dict.fromkeys(member.node_name for member in victim.gang.members):
                here.setdefault(name, []).append(victim)
        chosen: dict[str, Victim] = {}
        for position in largest_first(gang):
            wanted = gang.members[position].resources
            best: tuple[_SetCost, str, list[Victim]] | None = None
            for name in counts.names() | here.keys():
                found = self._cheapest_on(counts, name, wanted, here.get(name, ()), chosen)
                if found is None:
                    continue
                cost = (_cost_of(found), name, found)
                if best is None or cost[:2] < best[:2]:
                    best = cost
            if best is None:
                return None
            _, name, victims = best
            for victim in victims:
                counts.release(victim.gang)
                chosen[victim.gang.experiment_id] = victim
            counts.take(name, wanted)
        return list(chosen.values())

    def _cheapest_on(
        self,
        counts: Prospects,
        name: str,
        wanted: Resources,
        here: Sequence[Victim],
        chosen: Mapping[str, Victim],
    ) -> list[Victim] | None:
        """Victims on one node, besides those that were chosen, whose ends make room there."""
        tried: list[Victim] = []
        left = self._left_to_borrow(chosen.values())
        for victim in here:
            if counts.fits(name, wanted):
                break
            if victim.gang.experiment_id in chosen:
                continue
            if victim.reclaimed:
                queue = victim.gang.queue
                if left[queue] <= 0:
                    continue
                left[queue] -= victim.gpu_milli
            counts.release(victim.gang)
            tried.append(victim)
        needed: list[Victim] | None = None
        if counts.fits(name, wanted):
            needed = list(tried)
            # The costliest first: is it needed now that the others go?
            for victim in reversed(tried):
                counts.unrelease(victim.gang)
                if counts.fits(name, wanted):
                    needed.remove(victim)
                else:
                    counts.release(victim.gang)
            tried = needed
        for victim in tried:
            counts.unrelease(victim.gang)
        return needed

    def _left_to_borrow(self, chosen: Iterable[Victim]) -> dict[str, int]:
        left = {name: self._borrowed(name) for name in self._by_queue()}
        for victim in chosen:
            left[victim.gang.queue] -= victim.gpu_milli
        return left

    def _verify(
        self,
        gang: GangRequest,
        style: PlacementStyle,
        seconds: float | None,
        chosen: list[Victim],
    ) -> Made | None:
        """Tries the chosen ones on the copy, and spares those without whom it fits as well."""
        grace = max(victim.gang.grace_period_seconds for victim in chosen)
        until = None if seconds is None else self._now + grace + seconds
        members = self._place_without(gang, style, until, chosen)
        if members is None:
            return None
        for victim in sorted(chosen, key=lambda one: one.cost, reverse=True):
            others = [one for one in chosen if one is not victim]
            fewer = self._place_without(gang, style, until, others) if others else None
            if fewer is not None:
                chosen, members = others, fewer
        evictions = [self._stop(victim, gang) for victim in chosen]
        opening = self._timeline.earliest(gang, seconds)
        if opening is None:
            opening = self._timeline.opening(self._now + grace, members)
        return evictions, opening

    def _place_without(
        self,
        gang: GangRequest,
        style: PlacementStyle,
        until: float | None,
        victims: Iterable[Victim],
    ) -> tuple[MemberPlacement, ...] | None:
        """Where it would start if these had ended, and those that are being stopped."""
        mark = self._room.mark()
        for leaving in self._leaving:
            self._timeline.release(leaving)
        for victim in victims:
            self._timeline.release(victim.gang)
        members = self._room.place(gang, style, until)
        self._room.undo(mark)
        return members

    def _stop(self, victim: Victim, gang: GangRequest) -> Eviction:
        running = victim.gang
        stopping = replace(
            running,
            stopping_until=self._now + running.grace_period_seconds,
            stopping_for=gang.experiment_id,
        )
        self._by_queue()[running.queue].remove(running)
        self._leaving.append(stopping)
        self._given_up[running.queue] = self._given_up.get(running.queue, 0) + victim.gpu_milli
        self._timeline.stop(running, stopping)
        return Eviction(
            running.experiment_id, gang.experiment_id, self._reason(victim, gang), victim.lost
        )

    def _reason(self, victim: Victim, gang: GangRequest) -> str:
        running = victim.gang
        if victim.reclaimed:
            guarantee = self._accounts.queue(gang.queue).queue.guaranteed_gpu_milli
            why = (
                f"queue {gang.queue} takes back what queue {running.queue} borrowed of its "
                f"guarantee of {format_milli(guarantee)} GPUs"
            )
        else:
            why = f"its priority is {gang.priority}, this one's {running.priority}"
        return f"made room for {gang.experiment_id}: {why}; {_lost(victim)}"


_SetCost = tuple[int, float, int]


def _cost_of(victims: Sequence[Victim]) -> _SetCost:
    """Of a set; the lowest is best."""
    highest = max((victim.gang.priority for victim in victims), default=-1)
    return (highest, sum(victim.lost for victim in victims), len(victims))


def gpu_milli_of(gang: RunningGang) -> int:
    """Thousandths of GPUs that it holds."""
    return sum(share.milli for member in gang.members for share in member.gpus)


def _lost(victim: Victim) -> str:
    since = "it started" if victim.gang.checkpoint_time is None else "its last checkpoint"
    if not victim.gpu_milli:
        return f"what it did since {since} is lost"
    hours = victim.lost / 3600
    amount, unit = (f"{hours:.1f}", "hour") if hours >= 0.95 else (f"{hours * 60:.0f}", "minute")
    single = amount in ("1", "1.0")
    plural, verb = ("", "is") if single else ("s", "are")
    return f"{amount} GPU-{unit}{plural} of work since {since} {verb} lost"
