"""Waiting: tasks come and go for days, and who waits how long is measured.

Without preemption a task's wait is from its submission to its start. With it, what a task had done
since its last checkpoint (or since its start) is lost, and counts as waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from random import Random
from typing import Final, Protocol

from controlplane.domain.events import ExperimentSubmitted
from controlplane.scheduler.cycle import Scheduler
from controlplane.scheduler.policy import Ordering, Policy
from controlplane.simulation.cluster import VirtualCluster
from controlplane.simulation.machines import Machines, Run, connect_all
from controlplane.simulation.measures import Outcome
from controlplane.simulation.progress import Report, unheard
from controlplane.simulation.traces import TraceNode, TraceTask, split_over_nodes
from controlplane.simulation.workload import (
    Arrival,
    Load,
    arrivals_in_time,
    gpu_capacity_milli,
    sample,
    user_names,
)
from riseml.spec.model import GPU, RoleSpec, TrainSpec

# What is still there after this much time, beyond what is measured, never gets a turn.
PATIENCE_SECONDS: Final = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one seed."""

    outcomes: tuple[Outcome, ...]
    # Measured tasks that had not started when patience ended; their outcomes say how long they had
    # waited then.
    unfinished: int
    node_count: int
    gpu_count: int
    # Held GPUs, as a part of all, while was measured.
    utilization: float
    # In the time that was measured, whatever they met.
    preemptions: int
    lost_gpu_seconds: float
    cycles: int
    # Of processor time.
    cycle_seconds: float
    longest_cycle_seconds: float


class Arrivals(Protocol):
    """Where tasks come from."""

    def next(self) -> Arrival | None:
        """The next one; None after the last. Times only rise."""
        ...


@dataclass(slots=True)
class _Tracked:
    """A task that was submitted."""

    arrival: Arrival
    measured: bool
    started: float | None = None
    # What it had done by its last checkpoint, over all its runs.
    saved_seconds: float = 0.0
    ended: bool = False


def replay(
    nodes: Sequence[TraceNode],
    tasks: Sequence[TraceTask],
    policy: Policy,
    load: Load,
    seed: int,
    *,
    node_count: int = 128,
    pause_seconds: float = 0.0,
    report: Report = unheard,
) -> Result:
    """One run on so many nodes, drawn by the seed. Raises NothingFits.

    `pause_seconds`: virtual time between two cycles at least. A policy that goes by priority alone
    is given tasks with priorities.
    """
    if policy.order is Ordering.PRIORITY:
        load = replace(load, priorities=True)
    # What the plans say of those that wait, nobody reads here.
    policy = replace(policy, seed=seed, explain=False)
    chosen = sample(nodes, node_count, Random(f"nodes {seed}"))
    fitting = split_over_nodes(tasks, chosen)
    arrivals = arrivals_in_time(fitting, chosen, load, Random(f"arrivals {seed}"))
    return replay_arrivals(
        chosen, arrivals, policy, load, pause_seconds=pause_seconds, report=report
    )


def replay_arrivals(
    nodes: Sequence[TraceNode],
    arrivals: Arrivals,
    policy: Policy,
    load: Load,
    *,
    pause_seconds: float = 0.0,
    report: Report = unheard,
) -> Result:
    """One run of exactly this; what came in the load's measured time counts."""
    return _Replay(nodes, arrivals, policy, load, pause_seconds, report).result()


class _Replay:
    def __init__(
        self,
        nodes: Sequence[TraceNode],
        arrivals: Arrivals,
        policy: Policy,
        load: Load,
        pause_seconds: float,
        report: Report,
    ) -> None:
        self._report = report
        self._arrivals = arrivals
        self._load = load
        # Equals of one queue never stop each other: they are done with as soon as they run.
        self._may_preempt = policy.preemption and load.priorities
        self._begin = load.warm_up_seconds
        self._end = load.warm_up_seconds + load.measured_seconds
        self._nodes = nodes
        self._tracked: dict[str, _Tracked] = {}
        # Measured tasks of which something is still to be learned.
        self._open = 0
        self._all_came = False
        self._preemptions = 0
        self._lost = 0.0
        self._held_seconds = 0.0
        self._held_since = 0.0
        schedule = Scheduler(policy).schedule
        self._cluster = VirtualCluster(schedule, pause_seconds=pause_seconds)
        self._machines = Machines(
            self._cluster, self._seconds_to_run, checkpoint_seconds=load.checkpoint_seconds
        )
        self._machines.on_start = self._started
        self._machines.on_end = self._stopped
        self._cluster.nodes = self._machines

    def result(self) -> Result:
        cluster = self._cluster
        for name in user_names(self._load):
            cluster.add_user(name)
        connect_all(cluster, self._nodes)
        cluster.tick()
        self._expect_next()
        cluster.run(self._end + PATIENCE_SECONDS, lambda: self._all_came and not self._open)
        self._count_held()
        measured = [one for one in self._tracked.values() if one.measured]
        capacity = gpu_capacity_milli(self._nodes)
        return Result(
            outcomes=tuple([self._outcome(one) for one in measured]),
            unfinished=sum(one.started is None for one in measured),
            node_count=len(self._nodes),
            gpu_count=capacity // GPU,
            utilization=self._held_seconds / (capacity * (self._end - self._begin)),
            preemptions=self._preemptions,
            lost_gpu_seconds=self._lost,
            cycles=cluster.effort.cycles,
            cycle_seconds=cluster.effort.seconds,
            longest_cycle_seconds=cluster.effort.longest_seconds,
        )

    # ---------------------------------------------------------------------------------- arrivals

    def _expect_next(self) -> None:
        arrival = self._arrivals.next()
        if arrival is None:
            self._all_came = True
            return
        self._cluster.call_at(arrival.time, lambda: self._submit(arrival))

    def _submit(self, arrival: Arrival) -> None:
        measured = self._begin <= arrival.time < self._end
        self._all_came = arrival.time >= self._end
        self._report(arrival.time / self._end)
        spec = self._spec(arrival)
        experiment, _ = self._cluster.send(ExperimentSubmitted(arrival.user_name, "", spec))
        self._tracked[experiment.id] = _Tracked(arrival, measured)
        self._open += measured
        self._expect_next()

    def _spec(self, arrival: Arrival) -> TrainSpec:
        task = arrival.task
        return TrainSpec(
            project="replay",
            run=("true",),
            roles=(RoleSpec("worker", task.members, task.resources),),
            framework="pytorch" if task.members > 1 else None,
            priority=arrival.priority,
            max_duration_seconds=ceil(arrival.estimate_seconds),
        )

    # -------------------------------------------------------------------------- starts and ends

    def _seconds_to_run(self, experiment_id: str) -> float:
        tracked = self._tracked[experiment_id]
        return tracked.arrival.duration_seconds - tracked.saved_seconds

    def _started(self, experiment_id: str, run: Run) -> None:
        self._count_held()
        tracked = self._tracked[experiment_id]
        if not tracked.ended:
            tracked.started = run.start_time
        if not self._may_preempt:
            self._close(tracked)

    def _stopped(self, experiment_id: str, run: Run, done: bool) -> None:
        self._count_held()
        tracked = self._tracked[experiment_id]
        if done:
            self._close(tracked)
            return
        now = self._cluster.now
        if self._begin <= now < self._end:
            self._preemptions += 1
            self._lost += run.gpu_milli / GPU * (now - run.saved_time)
        if not tracked.ended:
            tracked.saved_seconds += run.saved_time - run.start_time

    def _close(self, tracked: _Tracked) -> None:
        if tracked.measured and not tracked.ended:
            tracked.ended = True
            self._open -= 1

    def _count_held(self) -> None:
        """Called before what is held changes."""
        now = self._cluster.now
        counted = max(0.0, min(now, self._end) - max(self._held_since, self._begin))
        self._held_seconds += counted * self._machines.held_gpu_milli
        self._held_since = now

    def _outcome(self, tracked: _Tracked) -> Outcome:
        arrival = tracked.arrival
        until = self._cluster.now if tracked.started is None else tracked.started
        # What it had done when it started for the last time, it had not waited.
        until -= tracked.saved_seconds
        return Outcome(
            arrival.task.gpu_milli,
            arrival.duration_seconds,
            until - arrival.time,
            arrival.user_name,
            arrival.priority,
        )
