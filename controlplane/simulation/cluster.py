"""The real cluster under a virtual clock: events come from a heap of times, and effects go to the
nodes that a simulation has.

It does what the runtime does around the reactor: it applies what an event means, evicts what has
ended, and lets the scheduler plan when something may have changed, never while an event is being
handled.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from controlplane.core.cluster import Cluster
from controlplane.core.reactor import on_event
from controlplane.core.settings import DEFAULTS, Settings
from controlplane.domain.changes import Change
from controlplane.domain.effects import Effect, PlanApplied, WakeScheduler
from controlplane.domain.events import Event, PlanMade, TimePassed, UserCreated
from controlplane.domain.model import ApiKey, Experiment
from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import Snapshot

Schedule = Callable[[Snapshot, float], Plan]
Action = Callable[[], None]

TICK_SECONDS: Final = 300.0
TRIM_SECONDS: Final = 3600.0


class Nodes(Protocol):
    """What takes the effects: the machines of a simulation."""

    def receive(self, effect: Effect) -> None:
        """What a daemon would be told."""


@dataclass(slots=True)
class Effort:
    """What scheduling took so far, in seconds of processor time."""

    cycles: int = 0
    seconds: float = 0.0
    longest_seconds: float = 0.0


class VirtualCluster:
    """A cluster whose clock stands still but for `run`."""

    def __init__(
        self,
        schedule: Schedule,
        settings: Settings = DEFAULTS,
        *,
        start: float = 0.0,
        pause_seconds: float = 0.0,
        watch: Callable[[], float] = time.process_time,
    ) -> None:
        """`pause_seconds`: of virtual time, between two cycles at least."""
        self.now = start
        self.cluster = Cluster(use_half_life_seconds=settings.use_half_life_seconds)
        self.nodes: Nodes | None = None
        self.effort = Effort()
        # Told of each event that was applied.
        self.observers: list[Callable[[Event, Any], None]] = []
        self._schedule = schedule
        self._settings = settings
        self._pause = pause_seconds
        self._watch = watch
        self._actions: list[tuple[float, int, Action]] = []
        self._scheduled = 0
        self._effects: deque[Effect] = deque()
        self._ended: list[str] = []
        self._handling = False
        self._plan_wanted = False
        self._next_cycle_at = start
        self._next_trim_at = start + TRIM_SECONDS

    # ------------------------------------------------------------------------------ from outside

    def add_user(self, name: str, *, admin: bool = False) -> None:
        """A user whose key nobody knows."""
        key = ApiKey(f"key-{name}", name, "0" * 64, "", self.now)
        self.send(UserCreated(name, f"{name}@example.com", admin, key))

    def send(self, event: Event) -> Any:
        """Applies an event; returns its reply. Raises the DomainError that refuses it."""
        outcome = on_event(self.cluster, event, self.now, self._settings)
        self.cluster.apply(outcome.changes, self.now)
        if outcome.waiting is not None:
            self.cluster.note_waiting(
                outcome.waiting, outcome.waiting_version, outcome.reservations
            )
        if outcome.checkpoint is not None:
            self.cluster.note_checkpoint(*outcome.checkpoint)
        self._note_ended(outcome.changes)
        self._effects.extend(outcome.effects)
        for observe in self.observers:
            observe(event, outcome.reply)
        if not self._handling:
            self._handle_effects()
        return outcome.reply

    def call_at(self, when: float, action: Action) -> None:
        """Has something done at a time; what was asked for first comes first."""
        self._scheduled += 1
        heapq.heappush(self._actions, (max(when, self.now), self._scheduled, action))

    def tick(self) -> None:
        """Lets time pass for the cluster now, and again every TICK_SECONDS."""
        self.send(TimePassed())
        if self.now >= self._next_trim_at:
            self._next_trim_at = self.now + TRIM_SECONDS
            self.cluster.trim(self.now)
        # Time alone can change what is decided.
        self._plan_wanted = True
        self.call_at(self.now + TICK_SECONDS, self.tick)

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Lets things happen up to a time, or until `done` (asked after each moment)."""
        while not done():
            moment = self._next_moment()
            if moment is None or moment > until:
                self.now = max(self.now, until)
                return
            self.now = moment
            while self._actions and self._actions[0][0] <= moment:
                heapq.heappop(self._actions)[2]()
            self._plan_if_due()

    def plan(self) -> PlanApplied | None:
        """One cycle now; None if nothing waits."""
        begin = self._watch()
        snapshot = self.cluster.snapshot()
        self._plan_wanted = False
        self._next_cycle_at = self.now + self._pause
        if not len(snapshot.pending):
            return None
        plan = self._schedule(snapshot, self.now)
        self._note_effort(self._watch() - begin)
        applied = self.send(PlanMade(plan))
        assert isinstance(applied, PlanApplied)
        return applied

    # ------------------------------------------------------------------------------------ inside

    def _next_moment(self) -> float | None:
        moments = [self._actions[0][0]] if self._actions else []
        if self._plan_wanted:
            moments.append(max(self.now, self._next_cycle_at))
        return min(moments, default=None)

    def _plan_if_due(self) -> None:
        while self._plan_wanted and self.now >= self._next_cycle_at:
            self.plan()

    def _handle_effects(self) -> None:
        self._handling = True
        try:
            while self._effects:
                effect = self._effects.popleft()
                if isinstance(effect, WakeScheduler):
                    self._plan_wanted = True
                elif self.nodes is not None:
                    self.nodes.receive(effect)
        finally:
            self._handling = False
        for experiment_id in self._ended:
            self.cluster.evict(experiment_id)
        self._ended.clear()

    def _note_ended(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            entity = change.entity
            if isinstance(entity, Experiment) and entity.state.ended:
                self._ended.append(entity.id)

    def _note_effort(self, seconds: float) -> None:
        effort = self.effort
        effort.cycles += 1
        effort.seconds += seconds
        effort.longest_seconds = max(effort.longest_seconds, seconds)
