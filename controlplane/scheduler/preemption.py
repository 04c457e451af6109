"""Who is stopped so that another can start.

Two grounds, and no other:

- priority: within a queue that allows it, running gangs of lower priority;
- reclaim: for a gang with which its queue still holds no more than its guarantee, gangs of queues
  that hold more than theirs.

Of the sets that make room the one is taken whose highest priority is lowest, then the one that
loses the fewest GPU-seconds of work since checkpoints, then the smallest; youngest gangs first. All
members of the gang find their places then, and nobody is stopped without whom they would. Nobody is
stopped by one that made room for it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from math import inf
from typing import Final

from controlplane.domain.model import Queue
from controlplane.domain.plan import Eviction
from controlplane.domain.snapshot import GangRequest, Snapshot
from controlplane.scheduler.clearing import Cleared, Clearing
from controlplane.scheduler.quota import Accounts, total
from controlplane.scheduler.timeline import Opening, Timeline
from controlplane.scheduler.victims import Victim, Victims
from riseml.spec.units import format_milli

SOON_SECONDS: Final = 60.0
"""For a gang that starts anyway within this time nobody is stopped."""

_MOST_FAILURES: Final = 8
"""Of one cycle: so many kinds of gangs are tried in vain, the rest waits for the next cycles."""

_MOST_AT_ONCE: Final = 16
"""So many gangs may wait at one time for others to leave."""

Made = tuple[list[Eviction], Opening]


class Preemption:
    """The victims that one cycle can find."""

    def __init__(
        self, timeline: Timeline, accounts: Accounts, snapshot: Snapshot, now: float
    ) -> None:
        self._timeline = timeline
        self._accounts = accounts
        self._snapshot = snapshot
        self._now = now
        self._lowest: dict[str, int] | None = None
        self._known_victims: Victims | None = None
        # How many gangs may still have others stopped for them.
        self._left = _MOST_AT_ONCE - len(snapshot.preemptors)
        # What was looked for in vain.
        self._failed: set[Hashable] = set()
        # Whom those that wait were stopped for.
        self._made_room = dict(snapshot.made_room)
        # GPUs that become free and are meant for gangs of these queues.
        self._promised: dict[str, int] = {}

    @property
    def _victims(self) -> Victims:
        if self._known_victims is None:
            self._known_victims = Victims(self._snapshot, self._now)
        return self._known_victims

    def may_help(self, gang: GangRequest, kind: Hashable, settled: Queue) -> bool:
        """Whether anybody could be stopped for a gang of this queue at all. Cheap."""
        if self._lowest is None:
            self._lowest = self._timeline.lowest_priorities()
        lowest = self._lowest.get(gang.queue, gang.priority)
        ground = lowest < gang.priority and settled.preempts_lower_priority
        if not ground and settled.guaranteed_gpu_milli:
            ground = self._may_reclaim(gang) and bool(self._borrowers(gang.queue))
        return (
            ground
            and self._left > 0
            and len(self._failed) < _MOST_FAILURES
            and self._key(gang, kind) not in self._failed
        )

    def is_like_others(self, gang: GangRequest) -> bool:
        """Whether gangs of its line can stop nobody whom it cannot."""
        return gang.experiment_id not in self._made_room

    def promise(self, gang: GangRequest) -> None:
        """Room that was made for it is counted as held by its queue."""
        wanted = total(member.resources for member in gang.members).gpu_milli
        self._promised[gang.queue] = self._promised.get(gang.queue, 0) + wanted

    def make_room(self, gang: GangRequest, kind: Hashable, seconds: float | None) -> Made | None:
        """Whom to stop, and when and where it starts then; None: nobody whose end would do."""
        cleared = self._clear(gang, seconds)
        if cleared is None or not cleared.victims:
            # Without victims: those that leave already suffice, at some time.
            self._failed.add(self._key(gang, kind))
            return None
        self._left -= 1
        grace = max(victim.gang.grace_period_seconds for victim in cleared.victims)
        evictions = [self._stop(victim, gang) for victim in cleared.victims]
        opening = self._timeline.earliest(gang, seconds)
        if opening is None:
            opening = self._timeline.opening(self._now + grace, cleared.members)
        return evictions, opening

    def _key(self, gang: GangRequest, kind: Hashable) -> Hashable:
        """Equal for gangs that can stop the same others."""
        return (kind, gang.queue, gang.priority, self._made_room.get(gang.experiment_id))

    # --- grounds

    def _may_reclaim(self, gang: GangRequest) -> bool:
        account = self._accounts.queue(gang.queue)
        wanted = total(member.resources for member in gang.members).gpu_milli
        held = account.held.gpu_milli + self._promised.get(gang.queue, 0)
        return 0 < wanted <= account.queue.guaranteed_gpu_milli - held

    def _borrowers(self, besides: str) -> dict[str, int]:
        """Queues that hold more than their guarantee, with what others may take back of that,
        without what they are getting already.
        """
        found = {}
        for name in {gang.queue for gang in self._snapshot.running} - {besides}:
            borrowed = self._accounts.queue(name).borrowed_gpu_milli
            borrowed -= self._victims.given_up.get(name, 0)
            if borrowed > 0:
                found[name] = borrowed
        return found

    def _clear(self, gang: GangRequest, seconds: float | None) -> Cleared | None:
        spared = self._made_room.get(gang.experiment_id)
        settled = self._accounts.queue(gang.queue).queue
        by_priority = settled.preempts_lower_priority
        borrowed = self._borrowers(gang.queue) if self._may_reclaim(gang) else {}

        def may_stop(victim: Victim) -> bool:
            running = victim.gang
            if running.experiment_id == spared:
                return False
            if running.queue == gang.queue:
                return by_priority and running.priority < gang.priority
            return running.queue in borrowed and victim.gpu_milli > 0

        until = inf
        if seconds is not None:
            # When it ends at the latest, whoever has to leave.
            grace = [v.gang.grace_period_seconds for v in self._victims.all if may_stop(v)]
            until = self._now + max(grace, default=0.0) + seconds
        clearing = Clearing(self._timeline, self._victims, may_stop, borrowed, until)
        return clearing.for_gang(gang)

    # --- stopping

    def _stop(self, victim: Victim, gang: GangRequest) -> Eviction:
        running = victim.gang
        stopping = replace(
            running,
            stopping_until=self._now + running.grace_period_seconds,
            stopping_for=gang.experiment_id,
        )
        self._victims.stop(victim, stopping)
        self._timeline.stop(running, stopping)
        return Eviction(
            running.experiment_id, gang.experiment_id, self._reason(victim, gang), victim.lost
        )

    def _reason(self, victim: Victim, gang: GangRequest) -> str:
        running = victim.gang
        if running.queue != gang.queue:
            guarantee = self._accounts.queue(gang.queue).queue.guaranteed_gpu_milli
            why = (
                f"queue {gang.queue} takes back what queue {running.queue} borrowed of its "
                f"guarantee of {format_milli(guarantee)} GPUs"
            )
        else:
            why = f"its priority is {gang.priority}, this one's {running.priority}"
        return f"made room for {gang.experiment_id}: {why}; {_lost(victim)}"


def _lost(victim: Victim) -> str:
    since = "it started" if victim.gang.checkpoint_time is None else "its last checkpoint"
    if not victim.gpu_milli:
        return f"what it did since {since} is lost"
    hours = victim.lost / 3600
    amount, unit = (f"{hours:.1f}", "hour") if hours >= 0.95 else (f"{hours * 60:.0f}", "minute")
    single = amount in ("1", "1.0")
    plural, verb = ("", "is") if single else ("s", "are")
    return f"{amount} GPU-{unit}{plural} of work since {since} {verb} lost"
