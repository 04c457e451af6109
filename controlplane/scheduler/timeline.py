"""What will be free when, as far as the ends of gangs are known, and what is kept from when on.

A gang ends at the latest by its max_duration (`RunningGang.end_time`). A reservation keeps room for
a gang that cannot start yet, from the time on at which all that is in its way has ended. Until then
others may use it, and all the time what the reservation will not need (see `Kept`).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from controlplane.domain.snapshot import GangRequest, MemberPlacement, RunningGang
from controlplane.scheduler.amounts import Amount, Kept, by_node
from controlplane.scheduler.ends import End, KnownEnds, end_of
from controlplane.scheduler.lookahead import Lookahead
from controlplane.scheduler.prospects import Prospects
from controlplane.scheduler.room import NEVER, Room
from controlplane.scheduler.rows import Row
from controlplane.scheduler.sites import Sites
from controlplane.scheduler.virtual import as_running

OVERDUE_SECONDS: Final = 1.0
"""What should have ended is taken to end so much later than now."""

_MOST_TRIES: Final = 48
"""Of one search: a gang of unlike jobs may find no place for all of them though each has one."""


@dataclass(frozen=True, slots=True)
class Opening:
    """When a gang could start at the latest, and where."""

    time: float
    members: tuple[MemberPlacement, ...]
    # Gangs on these nodes that end before it, in the order of their ends.
    waits_for: tuple[RunningGang, ...]


class Timeline:
    """The ends of all gangs that hold something, and the reservations of this cycle."""

    def __init__(
        self, room: Room, running: Sequence[RunningGang], known: KnownEnds, now: float
    ) -> None:
        self._room = room
        self._running = running
        self._known = known
        self._now = now
        self._sites = Sites(room)
        # Ascending; made when it is asked for.
        self._known_ends: list[End] | None = None
        self._started: list[tuple[GangRequest, tuple[MemberPlacement, ...]]] = []
        self._kept: list[Kept] = []
        self._ahead = Lookahead(self._sites, now, now + OVERDUE_SECONDS)

    @property
    def _ends(self) -> list[End]:
        if self._known_ends is None:
            self._known_ends = self._known.of(self._running)
            self._ahead.show(self._known_ends, self._known.on_nodes(self._running))
            for gang, members in self._started:
                self._insert(as_running(gang, members, self._now))
        return self._known_ends

    def lowest_priorities(self) -> dict[str, int]:
        """By queue, of those that ran when the cycle began."""
        return self._known.lowest(self._running)

    # --- what happens in the cycle

    def start(self, gang: GangRequest, members: tuple[MemberPlacement, ...]) -> None:
        """It holds these places from now on."""
        self._sites.changed(members)
        if self._known_ends is None:
            self._started.append((gang, members))
        else:
            self._insert(as_running(gang, members, self._now))

    def _insert(self, gang: RunningGang) -> None:
        end = end_of(gang)
        if end is not None:
            insort(self._ends, end)
            self._ahead.insert(end)

    def stop(self, gang: RunningGang, stopping: RunningGang) -> None:
        """It ends sooner than was known, in the second form."""
        ends = self._ends
        ends[:] = [end for end in ends if end[1] != gang.experiment_id]
        self._ahead.remove(gang)
        self._insert(stopping)

    # --- looking ahead

    def earliest(self, gang: GangRequest, seconds: float | None) -> Opening | None:
        """When and where a gang that does not fit now could start; None: nothing known says.

        `seconds`: how long it holds its places at the most; None: unknown.
        """
        if not self._ends or gang.tests_gpu:
            return None
        if len(gang.members) == 1:
            found = self._ahead.first_fit(gang, seconds)
            return None if found is None else self.opening(*found)
        prospects = self.prospects(gang, seconds)
        tries = 0
        for time, batch in self._batches():
            if seconds is not None:
                prospects.keep_from(time + seconds)
            # Called for each of them: it counts.
            grew = [one for one in batch if prospects.release(one)]
            if grew and prospects.may_fit:
                members = prospects.place(gang)
                if members is not None:
                    return self.opening(time, members)
                tries += 1
                if tries == _MOST_TRIES:
                    break
        return None

    def prospects(self, gang: GangRequest, seconds: float | None) -> Prospects:
        """What there is for a gang by count, at present."""
        until = inf if seconds is None else self._now + seconds
        return Prospects(self._sites, gang, self._kept, until)

    def _batches(self) -> Iterator[tuple[float, list[RunningGang]]]:
        """Those that end at one moment end together."""
        soonest = self._now + OVERDUE_SECONDS
        batch: list[RunningGang] = []
        at = soonest
        for end, _, gang in self._ends:
            time = end if end > soonest else soonest
            if time != at and batch:
                yield at, batch
                batch = []
            at = time
            batch.append(gang)
        if batch:
            yield at, batch

    def opening(self, time: float, members: tuple[MemberPlacement, ...]) -> Opening:
        """With the gangs on these nodes that end by then."""
        names = dict.fromkeys([member.node_name for member in members])
        return Opening(time, members, tuple(self._ahead.ended_on(names, by=time)))

    @property
    def sites(self) -> Sites:
        """Nodes as numbers."""
        return self._sites

    def kept_on(self, name: str, until: float) -> list[Kept]:
        """Reservations that keep something on a node, now or later, from one that ends then."""
        return [one for one in self._kept if one.start_time < until and name in one.names]

    def kept_from(self, gang: GangRequest, name: str, now: float) -> list[tuple[str, Amount]]:
        """For whom how much of a node is kept from a gang that would start now."""
        until = inf
        if gang.max_duration_seconds is not None:
            until = now + gang.max_duration_seconds + gang.grace_period_seconds
        return [
            (one.experiment_id, one.held[name])
            for one in self._kept
            if one.start_time < until and one.held.get(name)
        ]

    # --- keeping room

    def keep(self, gang: GangRequest, opening: Opening) -> None:
        """Keeps an opening for the gang from those that come later in the cycle."""
        needs = by_node(opening.members)
        end = inf
        if gang.max_duration_seconds is not None:
            end = opening.time + gang.max_duration_seconds + gang.grace_period_seconds
        others = [one for one in self._kept if one.start_time < end]
        # By node, what ends before it gives back there in all, and is not for others.
        freed: dict[str, Amount] = {name: Amount() for name in needs}
        shares = []
        for one in opening.waits_for:
            grown_by = [other.grows_by(one) for other in others]
            for name, amount in by_node(one.members).items():
                if name in needs:
                    for for_other in grown_by:
                        if name in for_other:
                            amount = amount.beyond(for_other[name])
                    shares.append((one.experiment_id, name, amount))
        for _, name, amount in shares:
            freed[name].plus(amount)
        held = {name: needed.beyond(freed[name]) for name, needed in needs.items()}
        growth: dict[str, dict[str, Amount]] = {}
        kept = dict(held)
        for experiment_id, name, amount in shares:
            freed[name] = freed[name].beyond(amount)
            more = needs[name].beyond(freed[name])
            grown = more.beyond(kept[name])
            kept[name] = more
            if grown:
                growth.setdefault(experiment_id, {})[name] = grown
        self._hold(Kept(gang.experiment_id, opening.time, held, growth))
        self._insert(as_running(gang, opening.members, opening.time))

    def keep_whatever_becomes_free(
        self, experiment_id: str, members: Sequence[MemberPlacement]
    ) -> None:
        """Keeps these places, as far as they are free, from everybody that comes later."""
        needs = by_node(members)
        held = {}
        for name, needed in needs.items():
            row = self._room.row(name)
            if row is not None:
                held[name] = needed.beyond(needed.beyond(_free(row)))
        self._hold(Kept(experiment_id, NEVER, held, {}, needs))

    def _hold(self, kept: Kept) -> None:
        self._kept.append(kept)
        self._ahead.keep(kept)
        members = [amount.on(name) for name, amount in kept.held.items() if amount]
        self._room.hold(members, kept.experiment_id, kept.start_time)


def _free(row: Row) -> Amount:
    """What is neither taken nor held."""
    gpus = {}
    for view, free, held in zip(row.view.gpus, row.gpu_free, row.gpu_held, strict=True):
        if free > held:
            gpus[view.gpu.uuid] = free - held
    return Amount(
        max(0, row.free_cpu_milli - row.held_cpu_milli),
        max(0, row.free_memory_bytes - row.held_memory_bytes),
        max(0, row.free_shm_bytes - row.held_shm_bytes),
        gpus,
    )
