"""Gathers what an explanation is made of: the last cycle or a trial, the records, the estimates.

Questions to the scheduler may take as long as cycles do, so they are asked in a thread of their
own, one at a time; what a cycle saw of an experiment is found once.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import isfinite
from typing import Final, TypeVar

from controlplane.core.cluster import Cluster
from controlplane.core.dry_run import DryRun, dry_run
from controlplane.cycles import Cycle
from controlplane.decisions import DecisionLog
from controlplane.domain.decision_record import DecisionRecord
from controlplane.domain.events import ExperimentSubmitted
from controlplane.domain.model import Attempt, Experiment
from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import MemberPlacement, Snapshot
from controlplane.domain.states import State
from controlplane.explain.estimates import EstimateBook
from controlplane.explain.explanation import Explanation, StartEstimate
from controlplane.explain.places import GpuIndexes
from controlplane.explain.planned import explain_plan, explain_set_plan, placed_child, waiting_child
from controlplane.explain.running import (
    explain_ended,
    explain_foreign,
    explain_running,
    explain_turn,
    history,
)
from controlplane.explain.sets import CHILDREN_TOLD, explain_set
from controlplane.explain.suggest import suggest
from controlplane.explain.trial import find_gang, with_gangs
from controlplane.explain.waiting import Seen, explain_waiting
from controlplane.explain.words import Clock
from controlplane.rpc.backend import Backend
from controlplane.rpc.caller import Caller
from controlplane.trials import Trials

# What the search for suggestions takes at most, beyond the try in hand.
SUGGEST_SECONDS: Final = 3.0
# Answers that are kept for the next one who asks about the same cycle.
KEPT_ANSWERS: Final = 64

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the scheduler said of one experiment."""

    seen: Seen
    estimate: StartEstimate | None
    # None: nobody has looked for any.
    suggestions: tuple[str, ...] | None


class Explainer:
    """One per control plane."""

    def __init__(
        self,
        backend: Backend,
        trials: Trials,
        decisions: DecisionLog,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._backend = backend
        self._trials = trials
        self._decisions = decisions
        self._now = now
        self._book = EstimateBook()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="explain")
        # From the newest cycle, by experiment.
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        backend.runtime.cycles.observers.append(self._note_cycle)
        backend.runtime.feed.observers.append(self._note_ended)

    def close(self) -> None:
        self._thread.shutdown()

    # ------------------------------------------------------------------------------ explanations

    async def explain(
        self, experiment_id: str, caller: Caller, utc_offset_seconds: int, *, suggestions: bool
    ) -> Explanation:
        """Of one experiment or set. NotFound if there is none."""
        experiment = await self._backend.experiment(experiment_id)
        if not caller.may_see(experiment.user_name):
            members = await self._members(experiment)
            return explain_foreign(experiment, members, await self._indexes(members))
        clock = Clock(self._now(), utc_offset_seconds)
        if experiment.is_set:
            return await self._set(experiment, clock, suggestions)
        return await self._one(experiment, clock, suggestions)

    async def _one(self, experiment: Experiment, clock: Clock, suggestions: bool) -> Explanation:
        if experiment.state is State.PENDING:
            answer = await self._waiting(experiment, suggestions)
            if answer is not None:
                estimate = self._told(experiment.id, answer)
                found = await self._in_thread(
                    explain_waiting, answer.seen, clock, estimate, answer.suggestions or ()
                )
                if experiment.generation:
                    past = history(await self.records(experiment.id), clock)
                    found = replace(found, lines=(*past, *found.lines))
                return found
            experiment = await self._backend.experiment(experiment.id)
        if experiment.state is State.CREATED:
            return await self._turn(experiment)
        members = await self._members(experiment)
        indexes = await self._indexes(members)
        records = await self.records(experiment.id)
        tell = explain_ended if experiment.state.ended else explain_running
        return tell(experiment, members, records, indexes, clock)

    async def _turn(self, experiment: Experiment) -> Explanation:
        cluster = await self._backend.runtime.committed()
        children = list(cluster.children_of(experiment.set_id or ""))
        active = [one.id for one in children if one.state is not State.CREATED]
        before = sum(
            one.state is State.CREATED and one.child_number < experiment.child_number
            for one in children
        )
        return explain_turn(experiment, active, before)

    async def _set(self, experiment: Experiment, clock: Clock, suggestions: bool) -> Explanation:
        counts = await self._backend.read(self._backend.store.children_by_state, [experiment.id])
        cluster = await self._backend.runtime.committed()
        active = [
            child
            for child in cluster.children_of(experiment.id)
            if child.state is not State.CREATED and not child.state.ended
        ]
        active.sort(key=lambda child: child.child_number)
        told = [await self._one(child, clock, suggestions) for child in active[:CHILDREN_TOLD]]
        return explain_set(experiment, counts.get(experiment.id, {}), told)

    async def records(self, experiment_id: str) -> list[DecisionRecord]:
        """What is on record of an experiment, oldest first."""
        return await self._backend.read(self._decisions.read, experiment_id)

    # ------------------------------------------------------------------------------ from a cycle

    async def _waiting(self, experiment: Experiment, suggestions: bool) -> _Answer | None:
        """What the last cycle saw of it, or a trial now; None if it does not wait any more."""
        runtime = self._backend.runtime
        cycle = runtime.cycles.newest()
        if cycle is not None and experiment.id not in cycle.applied.started:
            known = self._answers.get(experiment.id)
            if known is not None and (known.suggestions is not None or not suggestions):
                return known
            answer = await self._in_thread(self._ask_cycle, cycle, experiment.id, suggestions)
            if answer is not None:
                if cycle is runtime.cycles.newest():
                    self._answers[experiment.id] = answer
                    if len(self._answers) > KEPT_ANSWERS:
                        self._answers.popitem(last=False)
                return answer
        # It came after the last cycle.
        snapshot = (await runtime.committed()).snapshot()
        return await self._in_thread(self._ask, snapshot, self._now(), experiment.id, suggestions)

    def _ask_cycle(self, cycle: Cycle, experiment_id: str, suggestions: bool) -> _Answer | None:
        """Blocking."""
        if cycle.snapshot is None or cycle.plan is None:
            return None
        rejected = {one.experiment_id: one.reason for one in cycle.applied.rejected}
        return self._ask(
            cycle.snapshot,
            cycle.start_time,
            experiment_id,
            suggestions,
            cycle.plan,
            cycle.number,
            rejected.get(experiment_id, ""),
        )

    def _ask(
        self,
        snapshot: Snapshot,
        now: float,
        experiment_id: str,
        suggestions: bool,
        plan: Plan | None = None,
        number: int = 0,
        rejected: str = "",
    ) -> _Answer | None:
        """Blocking. `plan` is what the scheduler answered to this snapshot."""
        if find_gang(snapshot, experiment_id) is None:
            return None
        trace = self._trials.trace(snapshot, now, experiment_id)
        if trace is None:
            return None
        if plan is None:
            plan = self._trials.schedule(snapshot, now)
        seen = Seen(snapshot, now, trace, plan.reservations, number, rejected)
        if any(one.experiment_id == experiment_id for one in plan.placements):
            return _Answer(seen, None, ())
        found: tuple[str, ...] | None = None
        if suggestions:
            deadline = time.monotonic() + SUGGEST_SECONDS
            found = suggest(
                snapshot,
                now,
                trace,
                plan.reservations,
                self._trials.placements,
                lambda: time.monotonic() < deadline,
            )
        return _Answer(seen, self._forecast(snapshot, now, experiment_id), found)

    def _forecast(self, snapshot: Snapshot, now: float, experiment_id: str) -> StartEstimate | None:
        found = self._trials.forecast(snapshot, now, experiment_id)
        if found is None or not isfinite(found.earliest):
            return None
        latest = found.latest
        if latest is not None and not isfinite(latest):
            latest = None
        return StartEstimate(found.earliest, latest, found.basis)

    # --------------------------------------------------------------------------------- estimates

    def _told(self, experiment_id: str, answer: _Answer) -> StartEstimate | None:
        """The estimate with the errors of the past, and remembered as told."""
        estimate = answer.estimate
        if estimate is None:
            return None
        self._book.foretold(
            experiment_id, answer.seen.now, estimate.earliest_time, estimate.latest_time
        )
        return self._book.with_past(estimate)

    def _note_cycle(self, cycle: Cycle) -> None:
        """Reservations say that something starts at some time at the latest."""
        self._answers.clear()
        for experiment_id in cycle.applied.started:
            self._book.started(experiment_id, cycle.start_time)
        for kept in cycle.plan.reservations if cycle.plan is not None else ():
            if isfinite(kept.start_time):
                self._book.foretold(
                    kept.experiment_id, cycle.start_time, cycle.start_time, kept.start_time
                )

    def _note_ended(self, changed: Collection[Experiment]) -> None:
        for experiment in changed:
            if experiment.state.ended:
                self._book.given_up(experiment.id)

    # ------------------------------------------------------------------------------------- plans

    async def plan(
        self, event: ExperimentSubmitted, utc_offset_seconds: int
    ) -> tuple[Explanation, tuple[str, ...]]:
        """What would become of a submission, and the warnings that it would get."""
        cluster = await self._backend.runtime.committed()
        now = self._now()
        trial = dry_run(cluster, event, now, self._backend.runtime.settings)
        snapshot = cluster.snapshot()
        clock = Clock(now, utc_offset_seconds)
        found = await self._in_thread(self._plan, snapshot, trial, clock)
        if found.estimate is not None:
            found = replace(found, estimate=self._book.with_past(found.estimate))
        return found, trial.warnings

    def _plan(self, snapshot: Snapshot, trial: DryRun, clock: Clock) -> Explanation:
        """Blocking."""
        picture = with_gangs(snapshot, trial.gangs)
        plan = self._trials.schedule(picture, clock.now)
        placements = {one.experiment_id: one.members for one in plan.placements}
        waits = next((g for g in trial.gangs if g.experiment_id not in placements), None)
        asked = trial.gangs[0] if waits is None else waits
        answer = self._ask(picture, clock.now, asked.experiment_id, True, plan)
        if answer is None:
            raise RuntimeError(f"{asked.experiment_id} does not wait where it was put")
        told = explain_plan(
            answer.seen,
            placements.get(asked.experiment_id, ()),
            clock,
            answer.estimate,
            answer.suggestions or (),
        )
        if not trial.experiment.is_set:
            return told
        children = [
            told
            if gang is asked
            else placed_child(gang, placements[gang.experiment_id])
            if gang.experiment_id in placements
            else waiting_child(gang, plan)
            for gang in trial.gangs
        ]
        return explain_set_plan(
            trial.experiment.id, trial.experiment.child_count, children, answer.seen, clock
        )

    # ------------------------------------------------------------------------------------- facts

    async def _members(self, experiment: Experiment) -> tuple[MemberPlacement, ...]:
        """What it holds; of one that has ended what its last attempts held. Of a set nothing."""
        if experiment.is_set:
            return ()
        jobs, attempts = await self._backend.jobs_of([experiment.id])
        gang = {job.id for job in jobs.get(experiment.id, ()) if job.rank >= 0}
        newest: list[Attempt] = []
        for job_id in gang:
            of_job = [one for one in attempts.get(job_id, ())]
            if of_job:
                newest.append(max(of_job, key=lambda one: one.generation))
        if not experiment.state.ended:
            newest = [one for one in newest if not one.state.ended]
        newest.sort(key=lambda one: (len(one.job_id), one.job_id))
        return tuple([_placement(one) for one in newest])

    async def _indexes(self, members: Sequence[MemberPlacement]) -> GpuIndexes:
        cluster: Cluster = await self._backend.runtime.committed()
        names = {member.node_name for member in members}
        nodes = [cluster.nodes[name] for name in names if name in cluster.nodes]
        return {gpu.uuid: gpu.index for node in nodes for gpu in node.inventory.gpus}

    async def _in_thread(self, function: Callable[..., Answer], *args: object) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)


def _placement(attempt: Attempt) -> MemberPlacement:
    return MemberPlacement(
        attempt.job_id,
        attempt.node_name,
        attempt.gpus,
        attempt.cpu_milli,
        attempt.memory_bytes,
        attempt.shm_bytes,
    )
