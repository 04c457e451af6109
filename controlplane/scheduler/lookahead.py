"""When a single job could start at the latest: node by node, by what ends there.

A job that has no room now gets some only where something ends, so each node is looked at with its
own ends alone, and no longer than until it cannot be the first any more.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Final

from controlplane.domain.snapshot import GangRequest, MemberPlacement, RunningGang
from controlplane.scheduler.amounts import Kept
from controlplane.scheduler.ends import End, nodes_of
from controlplane.scheduler.sites import Site, Sites
from riseml.spec.model import Resources

# With fewer ends for each node that would do, going through all ends finds the first nodes sooner.
ENDS_PER_NODE: Final = 4

Fit = tuple[float, tuple[MemberPlacement, ...]]
"""When, and the place."""


class Lookahead:
    """The ends by node, and what is kept there."""

    def __init__(self, sites: Sites, now: float, soonest: float) -> None:
        self._sites = sites
        self._now = now
        # Nothing ends before this.
        self._soonest = soonest
        self._ends: Sequence[End] = ()
        # Of those that ran when the cycle began, and of nodes on which that changed.
        self._running: Mapping[str, Sequence[End]] = {}
        self._changed: dict[str, list[End]] = {}
        self._kept: dict[str, list[Kept]] = {}

    def show(self, ends: Sequence[End], running: Mapping[str, Sequence[End]]) -> None:
        """All ends, which the caller keeps up to date, and by node those of the gangs that ran when
        the cycle began.
        """
        self._ends = ends
        self._running = running

    def insert(self, end: End) -> None:
        """One more that ends."""
        for name in nodes_of(end[2]):
            insort(self._own(name), end)

    def remove(self, gang: RunningGang) -> None:
        """It ends at another time than was known."""
        for name in nodes_of(gang):
            here = self._own(name)
            here[:] = [end for end in here if end[1] != gang.experiment_id]

    def _own(self, name: str) -> list[End]:
        own = self._changed.get(name)
        if own is None:
            own = self._changed[name] = list(self._running.get(name, ()))
        return own

    def _ends_on(self, name: str) -> Sequence[End]:
        """Ascending."""
        own = self._changed.get(name)
        return self._running.get(name, ()) if own is None else own

    def keep(self, kept: Kept) -> None:
        """One more reservation."""
        for name in kept.names:
            self._kept.setdefault(name, []).append(kept)

    def ended_on(self, names: Iterable[str], by: float) -> list[RunningGang]:
        """Gangs on these nodes that end by then, in the order of their ends."""
        found = {end[1]: end for name in names for end in self._ends_on(name) if end[0] <= by}
        return [gang for _, _, gang in sorted(found.values())]

    def first_fit(self, gang: GangRequest, seconds: float | None) -> Fit | None:
        """Of a gang of one member, which has no room now; None: nothing known says."""
        member = gang.members[0]
        wanted = member.resources
        best: tuple[float, int, str, Site] | None = None
        latest = inf
        for first_end, name in self._by_first_end(self._sites.capable(gang.shape, wanted)):
            if first_end > latest:
                # Where nothing ends before, it cannot be sooner.
                break
            found = self._on_node(name, self._ends_on(name), wanted, seconds, latest)
            if found is not None:
                time, site = found
                one = (time, site.free_gpu_milli, name, site)
                if best is None or one[:3] < best[:3]:
                    best, latest = one, time
        if best is None:
            return None
        time, _, name, site = best
        shares = site.take(0, wanted)
        place = MemberPlacement(
            member.job_id,
            name,
            shares,
            wanted.cpu_milli,
            wanted.memory_bytes,
            wanted.shm_bytes,
        )
        return time, (place,)

    def _by_first_end(self, names: Collection[str]) -> Iterator[tuple[float, str]]:
        """Those of the nodes on which something ends, each with its first end, ascending."""
        if len(names) * ENDS_PER_NODE < len(self._ends):
            heads = [(ends[0][0], name) for name in names if (ends := self._ends_on(name))]
            yield from sorted(heads)
            return
        # Of many nodes only those are looked at that are asked for.
        seen: set[str] = set()
        for end, _, gang in self._ends:
            for name in nodes_of(gang):
                if name not in seen and name in names:
                    seen.add(name)
                    yield end, name

    def _on_node(
        self,
        name: str,
        ends: Sequence[End],
        wanted: Resources,
        seconds: float | None,
        latest: float,
    ) -> tuple[float, Site] | None:
        """When there is room on one node, not after `latest`, and what is free there then."""
        base = self._sites.site(name)
        if base is None:
            return None
        site = base.copy()
        site.look_for([self._sites.positions_for(name, wanted)], 0)
        kept = self._kept.get(name)
        view = None if kept is None else _Reserved(name, site, kept)
        if view is not None:
            view.count_from(inf if seconds is None else self._now + seconds)
        last = len(ends) - 1
        for place, (end, _, gang) in enumerate(ends):
            time = end if end > self._soonest else self._soonest
            if time > latest:
                return None
            for member in gang.members:
                if member.node_name == name:
                    site.free(member, 1)
            if view is not None:
                if seconds is not None:
                    view.count_from(time + seconds)
                view.release(gang)
            # All that end at one moment end together.
            if place < last and ends[place + 1][0] <= time:
                continue
            if site.has_room(0, wanted):
                return time, site
        return None


class _Reserved:
    """What is kept for others on one node while gangs end there."""

    def __init__(self, name: str, site: Site, kept: Iterable[Kept]) -> None:
        self._name = name
        self._site = site
        # Those that do not count yet, the latest first.
        self._passed = sorted(kept, key=lambda one: (-one.start_time, one.experiment_id))
        self._counted: list[Kept] = []
        self._released: list[RunningGang] = []

    def count_from(self, until: float) -> None:
        """The job would end then: reservations that begin before that stand in its way."""
        while self._passed and self._passed[-1].start_time < until:
            one = self._passed.pop()
            self._counted.append(one)
            held = one.held.get(self._name)
            if held is not None:
                self._site.add(held, -1)
            for gone in self._released:
                self._grow(one, gone)

    def release(self, gang: RunningGang) -> None:
        """It ends: of what it gives back, something may be kept."""
        self._released.append(gang)
        for one in self._counted:
            self._grow(one, gang)

    def _grow(self, one: Kept, gang: RunningGang) -> None:
        more = one.grows_by(gang).get(self._name)
        if more is not None:
            self._site.add(more, -1)
