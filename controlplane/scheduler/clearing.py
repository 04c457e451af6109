"""The cheapest gangs whose end makes room for another: member by member, the node where it costs
least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from controlplane.domain.snapshot import GangRequest, MemberPlacement, RunningGang
from controlplane.scheduler.amounts import Amount, Kept
from controlplane.scheduler.packing import largest_first
from controlplane.scheduler.sites import Site
from controlplane.scheduler.timeline import Timeline
from controlplane.scheduler.victims import SetCost, Victim, Victims, cost_of
from riseml.spec.model import Resources


@dataclass(frozen=True, slots=True)
class Cleared:
    """Who has to end, and where the gang fits then."""

    victims: list[Victim]
    members: tuple[MemberPlacement, ...]


class Clearing:
    """For one gang. `may_stop` says who may be stopped for it at all, `borrowed` how much queues
    other than its own may lose: a gang of theirs is stopped only while something of that is left.
    """

    def __init__(
        self,
        timeline: Timeline,
        victims: Victims,
        may_stop: Callable[[Victim], bool],
        borrowed: Mapping[str, int],
        until: float,
    ) -> None:
        self._sites = timeline.sites
        self._timeline = timeline
        self._victims = victims
        self._may_stop = may_stop
        self._borrowed = dict(borrowed)
        # When the gang would end.
        self._until = until
        self._chosen: dict[str, Victim] = {}
        # Nodes as they are when all that leave have left, those that were chosen too, and members
        # were placed.
        self._cleared: dict[str, Site] = {}
        # Reservations of others there.
        self._kept: dict[str, list[Kept]] = {}

    def for_gang(self, gang: GangRequest) -> Cleared | None:
        """None when not all members have a place, whoever is stopped."""
        ports = 1 if len(gang.members) > 1 else 0
        found: dict[int, MemberPlacement] = {}
        for position in largest_first(gang):
            member = gang.members[position]
            wanted = member.resources
            name = self._clear_for(gang, wanted, ports)
            if name is None:
                return None
            site = self._site(name, wanted, ports)
            shares = site.take(0, wanted)
            found[position] = MemberPlacement(
                member.job_id,
                name,
                shares,
                wanted.cpu_milli,
                wanted.memory_bytes,
                wanted.shm_bytes,
            )
        self._spare_who_can_stay()
        members = tuple([found[position] for position in range(len(found))])
        return Cleared(list(self._chosen.values()), members)

    def _clear_for(self, gang: GangRequest, wanted: Resources, ports: int) -> str | None:
        """The node for one more member; whoever has to leave it is chosen."""
        capable = self._sites.capable(gang.shape, wanted)
        for name in self._with_room(gang, wanted, ports):
            if name in capable and self._site(name, wanted, ports).has_room(0, wanted):
                return name
        best: tuple[SetCost, str, list[Victim]] | None = None
        seen: set[str] = set()
        for cheapest in self._victims.all:
            if best is not None and (cheapest.gang.priority, cheapest.lost) > best[0][:2]:
                # Every set from here on costs more.
                break
            if not self._is_left(cheapest):
                continue
            for name in cheapest.holds:
                if name in seen or name not in capable:
                    continue
                seen.add(name)
                found = self._on_node(name, wanted, ports, None if best is None else best[0])
                if found is not None:
                    cost = (cost_of(found), name, found)
                    if best is None or cost[:2] < best[:2]:
                        best = cost
        if best is None:
            return None
        _, name, victims = best
        for victim in victims:
            self._choose(victim)
        return name

    def _with_room(self, gang: GangRequest, wanted: Resources, ports: int) -> Iterable[str]:
        """Nodes that may have room without anybody else being stopped."""
        yield from list(self._cleared)
        yield from self._victims.leaving
        if ports:
            free = self._sites.copies(gang.shape, wanted)
            yield from sorted(free, key=lambda name: (-free[name], name))

    def _on_node(
        self, name: str, wanted: Resources, ports: int, best: SetCost | None
    ) -> list[Victim] | None:
        """Who has to leave one node for a member, besides those that were chosen; None also if that
        certainly costs more than the best.
        """
        site = self._site(name, wanted, ports).copy()
        left = dict(self._borrowed)
        tried: list[Victim] = []
        for victim in self._victims.on_node[name]:
            if site.has_room(0, wanted):
                break
            if not self._is_left(victim):
                continue
            if best is not None and (victim.gang.priority, victim.lost) > best[:2]:
                # Whoever comes last cannot be spared.
                return None
            queue = victim.gang.queue
            if queue in left:
                if left[queue] <= 0:
                    continue
                left[queue] -= victim.gpu_milli
            self._leave(site, name, victim, 1)
            tried.append(victim)
        if not site.has_room(0, wanted):
            return None
        needed = list(tried)
        # The costliest first: is it needed, now that the others go?
        for victim in reversed(tried):
            self._leave(site, name, victim, -1)
            if site.has_room(0, wanted):
                needed.remove(victim)
            else:
                self._leave(site, name, victim, 1)
        return needed

    def _is_left(self, victim: Victim) -> bool:
        return victim.gang.experiment_id not in self._chosen and self._may_stop(victim)

    def _site(self, name: str, wanted: Resources, ports: int) -> Site:
        """A node as it is by then, to be looked at for this member."""
        site = self._left_alone(name)
        site.look_for([self._sites.positions_for(name, wanted)], ports)
        return site

    def _left_alone(self, name: str) -> Site:
        """A node when those have left it that leave anyway."""
        site = self._cleared.get(name)
        if site is None:
            known = self._sites.site(name)
            # Only nodes that are there are looked at.
            assert known is not None
            site = self._cleared[name] = known.copy()
            kept = self._kept[name] = self._timeline.kept_on(name, self._until)
            for one in kept:
                if name in one.held:
                    site.add(one.held[name], -1)
            for gang, amount in self._victims.leaving.get(name, ()):
                self._release(site, name, gang, amount, 1)
        return site

    def _release(self, site: Site, name: str, gang: RunningGang, amount: Amount, sign: int) -> None:
        """It leaves the node (1), or does not after all (-1): of its room some may be kept."""
        site.add(amount, sign)
        for one in self._kept[name]:
            less = one.grows_by(gang).get(name)
            if less is not None:
                site.add(less, -sign)

    def _leave(self, site: Site, name: str, victim: Victim, sign: int) -> None:
        self._release(site, name, victim.gang, victim.holds[name], sign)

    def _choose(self, victim: Victim) -> None:
        self._chosen[victim.gang.experiment_id] = victim
        queue = victim.gang.queue
        if queue in self._borrowed:
            self._borrowed[queue] -= victim.gpu_milli
        for name in victim.holds:
            self._leave(self._left_alone(name), name, victim, 1)

    def _spare_who_can_stay(self) -> None:
        """Whose places are all free even now that all members have theirs; the costliest first."""
        for victim in sorted(self._chosen.values(), key=lambda one: one.cost, reverse=True):
            for name in victim.holds:
                self._leave(self._cleared[name], name, victim, -1)
            if any(self._cleared[name].is_overfull for name in victim.holds):
                for name in victim.holds:
                    self._leave(self._cleared[name], name, victim, 1)
            else:
                del self._chosen[victim.gang.experiment_id]
