"""The single writer: takes events, asks the reactor, commits a batch at once, then answers and
acts.

One batch goes through these steps, and no next batch begins before the commit is through:

1. take all events that have queued up;
2. let the reactor turn each into changes and effects, and apply the changes to memory;
3. if something may now be placed, let the scheduler plan (see below) and apply its plan;
4. commit all changes in one transaction, in the store's own thread;
5. answer the callers, publish to the watchers, hand the effects to the launcher.

If the commit fails, memory is ahead of the store: it is rebuilt from what was committed, every
caller of the batch is told that nothing was changed, and no effect happens.

Each batch has a price of its own (a commit, two changes of threads, a cycle), so small ones are
avoided where nobody notices: under load the next batch waits a moment for company, and reports that
neither free nor start anything wait for the next batch that is needed anyway.

The scheduler runs inside the batch (step 3) as long as its last cycles took little time: placement
is then committed together with what caused it. When cycles get longer it plans in a thread of its
own on an immutable snapshot, and the plan comes back as an event that the applier checks against
the present; and after a long cycle there is a pause, so that a long queue does not slow everything
else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from controlplane.core.cluster import Cluster
from controlplane.core.reactor import on_event
from controlplane.core.settings import DEFAULTS, Settings
from controlplane.cycles import Cycles, PlannedCycle
from controlplane.domain.changes import Change
from controlplane.domain.effects import Effect, PlanApplied, WakeScheduler
from controlplane.domain.errors import DomainError, StoreUnavailable
from controlplane.domain.events import Event, PlanMade
from controlplane.domain.model import Attempt, Experiment, Job
from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import Snapshot
from controlplane.feed import ChangeFeed
from controlplane.launch.protocol import Launcher
from controlplane.store.protocol import Store

logger = logging.getLogger(__name__)

# Events taken into one batch at most: bounds how long the first of them waits for the last.
BATCH_LIMIT: Final = 512
# After a batch of so many events others are likely to come at once: the next batch begins no sooner
# than this after it, unless as many wait already.
GATHER_FROM: Final = 2
GATHER_SECONDS: Final = 0.002
# What is posted with `soon=False` waits for another event at most so long.
LATER_SECONDS: Final = 0.01
# A scheduling cycle that took longer than this moves to its own thread.
INLINE_CYCLE_SECONDS: Final = 0.003
# Longer cycles are followed by a pause of so many times their length.
UNPACED_CYCLE_SECONDS: Final = 0.001
PAUSE_PER_CYCLE: Final = 4.0
# Pause after a failed commit, so that a full disk is not hammered.
RELOAD_SECONDS: Final = 0.2

REACTOR_FAILED: Final = (
    "The control plane failed on this request; its log has the details. Nothing was changed."
)
SCHEDULER_FAILED: Final = "the scheduler failed; waiting jobs stay"


@dataclass(slots=True)
class _Pending:
    """An event and who waits for its outcome (nobody, for reports)."""

    event: Event
    answer: asyncio.Future[Any] | None


# Who waits, and the reply or the error that it gets after the commit.
_Answer = tuple[asyncio.Future[Any], Any, DomainError | None]

Schedule = Callable[[Snapshot, float], Plan]


class Runtime:
    """Owns the cluster. Everything that changes it goes through `submit` or `post`.

    `cluster` may be ahead of the store while a batch is being committed; `committed` is not.
    """

    def __init__(
        self,
        store: Store,
        launcher: Launcher,
        schedule: Schedule,
        *,
        prepare: Callable[[], None] | None = None,
        settings: Settings = DEFAULTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._launcher = launcher
        self._schedule = schedule
        # Done once, in the scheduler's thread, before the first cycle; None when it is done.
        self._prepare = prepare
        self.settings: Final = settings
        self._clock = clock
        live = store.load(clock())
        half_life = settings.use_half_life_seconds
        self.cluster = Cluster.from_live_state(live, use_half_life_seconds=half_life)
        self.feed = ChangeFeed(live.change_number)
        self.cycles = Cycles()
        self._change_number = live.change_number
        self._queue: deque[_Pending] = deque()
        self._arrived = asyncio.Event()
        self._stopping = False
        # Whether what waits in the queue is to be taken now, and what ends that it is not.
        self._due = False
        self._later: asyncio.TimerHandle | None = None
        # Events in the last batch, and the monotonic time at which it was through.
        self._last_batch = 0
        self._last_end = 0.0
        # Set while memory and store agree.
        self._settled = asyncio.Event()
        self._settled.set()
        self._store_thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._scheduler_thread = ThreadPoolExecutor(1, thread_name_prefix="scheduler")
        self._preparing: asyncio.Future[None] | None = None
        self._planning: asyncio.Future[PlannedCycle] | None = None
        # Plans that wait to be applied, then what came of those of the batch in hand.
        self._planned_cycles: list[PlannedCycle] = []
        self._applied: list[tuple[PlannedCycle, PlanApplied]] = []
        self._plan_wanted = True
        self._last_cycle_seconds = 0.0
        # Monotonic time before which no cycle begins.
        self._next_cycle_at = 0.0
        # The last failure to commit, for `system info`; "" when the store works.
        self.store_fault = ""

    async def submit(self, event: Event) -> Any:
        """The reply to an event, once it is committed. Raises the DomainError that refused it."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append(_Pending(event, answer))
        self._take_now()
        return await answer

    def post(self, event: Event, *, soon: bool = True) -> None:
        """An event that nobody waits for. What a failed commit loses is told again later.

        Events are taken in the order in which they come; one that is not needed soon may wait a
        little for the next that is.
        """
        self._queue.append(_Pending(event, None))
        if soon:
            self._take_now()
        elif not self._due and self._later is None:
            loop = asyncio.get_running_loop()
            self._later = loop.call_later(LATER_SECONDS, self._take_now)

    def _take_now(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._due = True
        self._arrived.set()

    async def committed(self) -> Cluster:
        """The cluster at a moment when all of it is committed: for answers to the outside.

        It is true until the caller awaits the next time.
        """
        while not self._settled.is_set():
            await self._settled.wait()
        return self.cluster

    def wake_scheduler(self) -> None:
        """Has it plan although nothing happened: time alone can change what it decides."""
        self._plan_wanted = True
        self._arrived.set()

    def stop(self) -> None:
        """Lets `run` return after the batch in hand."""
        self._stopping = True
        self._arrived.set()

    async def run(self) -> None:
        """Processes batches until `stop`."""
        while not self._stopping:
            if not self._due and not self._plan_due:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            # Handlers that are ready to submit get to do so: larger batches, fewer commits.
            await asyncio.sleep(self._moment_for_company())
            await self._run_batch()
            self._last_end = time.monotonic()
        if self._later is not None:
            self._later.cancel()
        for pending in self._queue:
            if pending.answer is not None and not pending.answer.done():
                pending.answer.set_exception(
                    StoreUnavailable("The control plane is stopping; try again in a moment.")
                )
        self._queue.clear()
        self._store_thread.shutdown()
        self._scheduler_thread.shutdown(cancel_futures=True)

    def _moment_for_company(self) -> float:
        """Seconds until the next batch begins."""
        if self._last_batch < GATHER_FROM or len(self._queue) >= self._last_batch:
            return 0.0
        return max(0.0, self._last_end + GATHER_SECONDS - time.monotonic())

    @property
    def _plan_due(self) -> bool:
        """Whether a cycle is wanted, none is under way, and the last one was long enough ago."""
        wanted = self._plan_wanted and self._planning is None and self._preparing is None
        return wanted and time.monotonic() >= self._next_cycle_at

    async def _run_batch(self) -> None:
        now = self._clock()
        changes: list[Change] = []
        effects: list[Effect] = []
        answers: list[_Answer] = []
        self._last_batch = min(len(self._queue), BATCH_LIMIT)
        self._due = len(self._queue) > BATCH_LIMIT
        if self._later is not None:
            self._later.cancel()
            self._later = None
        for _ in range(self._last_batch):
            pending = self._queue.popleft()
            reply: Any = None
            error: DomainError | None = None
            try:
                reply = self._react(pending.event, now, changes, effects)
            except DomainError as refused:
                error = refused
                if pending.answer is None:
                    logger.warning("%s: %s", type(pending.event).__name__, refused.message)
            if pending.answer is not None:
                answers.append((pending.answer, reply, error))
        self._plan(now, changes, effects)
        if changes:
            self._settled.clear()
            try:
                await self._commit(changes)
            except StoreUnavailable as fault:
                await self._recover(fault, answers)
                return
            finally:
                self._settled.set()
        for answer, reply, error in answers:
            if answer.done():
                continue
            if error is None:
                answer.set_result(reply)
            else:
                answer.set_exception(error)
        if changes:
            self._publish(changes)
        self._record_cycles()
        for effect in effects:
            if not isinstance(effect, WakeScheduler):
                self._launcher.dispatch(effect)

    def _react(self, event: Event, now: float, changes: list[Change], effects: list[Effect]) -> Any:
        try:
            outcome = on_event(self.cluster, event, now, self.settings)
        except DomainError:
            raise
        except Exception as fault:
            # The reactor has changed nothing yet: what it fails on is no one else's trouble.
            logger.exception("%s cannot be handled", type(event).__name__)
            raise DomainError(REACTOR_FAILED, reason="INTERNAL") from fault
        self.cluster.apply(outcome.changes, now)
        if outcome.waiting is not None:
            self.cluster.note_waiting(
                outcome.waiting, outcome.waiting_version, outcome.reservations
            )
        if outcome.checkpoint is not None:
            self.cluster.note_checkpoint(*outcome.checkpoint)
        if isinstance(event, PlanMade) and isinstance(outcome.reply, PlanApplied):
            self._note_applied(event.plan, outcome.reply)
        changes.extend(outcome.changes)
        for effect in outcome.effects:
            if isinstance(effect, WakeScheduler):
                self._plan_wanted = True
            else:
                effects.append(effect)
        return outcome.reply

    def _plan(self, now: float, changes: list[Change], effects: list[Effect]) -> None:
        if not self._plan_due:
            return
        self._plan_wanted = False
        snapshot = self.cluster.snapshot()
        if not snapshot.pending:
            return
        if self._prepare is not None:
            self._begin_preparing(self._prepare)
            return
        if self._last_cycle_seconds <= INLINE_CYCLE_SECONDS:
            try:
                planned = self._timed_schedule(snapshot, now)
            except Exception:
                logger.exception(SCHEDULER_FAILED)
                return
            self._pace()
            self._planned_cycles.append(planned)
            try:
                self._react(PlanMade(planned.plan), now, changes, effects)
            except DomainError as refused:
                logger.error("the plan was refused: %s", refused.message)
            return
        loop = asyncio.get_running_loop()
        self._planning = loop.run_in_executor(
            self._scheduler_thread, self._timed_schedule, snapshot, now
        )
        self._planning.add_done_callback(self._planned)

    def _begin_preparing(self, prepare: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._preparing = loop.run_in_executor(self._scheduler_thread, prepare)
        self._preparing.add_done_callback(self._prepared)

    def _prepared(self, preparing: asyncio.Future[None]) -> None:
        self._preparing = None
        if preparing.cancelled():
            return
        error = preparing.exception()
        if error is not None:
            # The next cycle that is wanted tries again.
            logger.error(SCHEDULER_FAILED, exc_info=error)
            return
        self._prepare = None
        self.wake_scheduler()

    def _timed_schedule(self, snapshot: Snapshot, now: float) -> PlannedCycle:
        begin = time.perf_counter()
        try:
            plan = self._schedule(snapshot, now)
        finally:
            self._last_cycle_seconds = time.perf_counter() - begin
        return PlannedCycle(snapshot, now, self._last_cycle_seconds, plan)

    def _pace(self) -> None:
        """Long cycles come seldom: they leave most of the processor to everything else."""
        if self._last_cycle_seconds > UNPACED_CYCLE_SECONDS:
            pause = self._last_cycle_seconds * PAUSE_PER_CYCLE
            self._next_cycle_at = time.monotonic() + pause
            asyncio.get_running_loop().call_later(pause, self._arrived.set)

    def _planned(self, planning: asyncio.Future[PlannedCycle]) -> None:
        self._planning = None
        if planning.cancelled():
            return
        self._pace()
        error = planning.exception()
        if error is not None:
            logger.error(SCHEDULER_FAILED, exc_info=error)
            return
        planned = planning.result()
        self._planned_cycles.append(planned)
        self.post(PlanMade(planned.plan))

    def _note_applied(self, plan: Plan, applied: PlanApplied) -> None:
        """What came of a plan is a cycle of the record once it is committed."""
        for place, planned in enumerate(self._planned_cycles):
            if planned.plan is plan:
                del self._planned_cycles[: place + 1]
                self._applied.append((planned, applied))
                return

    def _record_cycles(self) -> None:
        for planned, applied in self._applied:
            self.cycles.record(planned, applied)
        self._applied.clear()

    async def _commit(self, changes: list[Change]) -> None:
        number = self._change_number + 1
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._store_thread, self._store.commit, changes, number)
        self._change_number = number
        if self.store_fault:
            logger.info("the store works again")
            self.store_fault = ""

    async def _recover(
        self,
        fault: StoreUnavailable,
        answers: list[_Answer],
    ) -> None:
        """Goes back to what was committed last; memory is ahead of it."""
        if not self.store_fault:
            logger.error("commit failed, nothing was changed: %s", fault.message)
        self.store_fault = fault.message
        self._applied.clear()
        while not self._stopping and not await self._reload():
            _refuse(answers, fault)
            await asyncio.sleep(RELOAD_SECONDS)
        # Reports and effects of the batch are gone: daemons that connect anew tell and hear all.
        self._launcher.resync()
        self._plan_wanted = True
        _refuse(answers, fault)
        await asyncio.sleep(RELOAD_SECONDS)

    async def _reload(self) -> bool:
        """Memory as the store has it; False if the store cannot even be read."""
        loop = asyncio.get_running_loop()
        try:
            live = await loop.run_in_executor(self._store_thread, self._store.load, self._clock())
        except StoreUnavailable as worse:
            self.store_fault = worse.message
            return False
        # Versions go on, so that a plan for the abandoned state is recognised as old.
        self.cluster = Cluster.from_live_state(
            live,
            self.cluster.snapshot().version + 1,
            use_half_life_seconds=self.settings.use_half_life_seconds,
            use_is_fresh_at=self._clock(),
        )
        return True

    def _publish(self, changes: list[Change]) -> None:
        touched: dict[str, Experiment] = {}
        for change in changes:
            entity = change.entity
            if isinstance(entity, Experiment):
                touched[entity.id] = entity
            elif isinstance(entity, Job | Attempt) and entity.experiment_id not in touched:
                experiment = self.cluster.experiments.get(entity.experiment_id)
                if experiment is not None:
                    touched[experiment.id] = experiment
        self.feed.publish(self._change_number, touched.values())
        for experiment in touched.values():
            if experiment.state.ended:
                self.cluster.evict(experiment.id)


def _refuse(answers: list[_Answer], fault: StoreUnavailable) -> None:
    """Tells every caller of a batch that nothing was changed."""
    for answer, _, _ in answers:
        if not answer.done():
            answer.set_exception(fault)
