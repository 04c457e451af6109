"""Allocation: tasks arrive one by one, each is placed at once or dropped for good, none leaves.

The procedure of "Beware of Fragmentation" (Weng et al., USENIX ATC 2023): how much of all GPUs is
allocated once what arrived has asked for so much of them shows how well jobs are fitted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from controlplane.domain.events import ExperimentSubmitted, KillRequested
from controlplane.scheduler.cycle import Scheduler
from controlplane.scheduler.policy import Policy
from controlplane.simulation.cluster import VirtualCluster
from controlplane.simulation.machines import Machines, connect_all, renamed
from controlplane.simulation.progress import Report, unheard
from controlplane.simulation.traces import TraceNode, TraceTask
from controlplane.simulation.workload import arrivals_up_to, gpu_capacity_milli
from riseml.spec.model import RoleSpec, TrainSpec

USER: Final = "trace"
# Of the arrivals that the published figures are for, in % of what the cluster has.
FULL: Final = 100
OVERFULL: Final = 130
SECONDS_BETWEEN: Final = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one seed."""

    # Allocated GPUs, in % of all, when arrivals have asked for 0, 1, 2 ... 130 %.
    curve: tuple[float, ...]
    arrived: int
    placed: int
    # What the pictures and plans of all arrivals took, words on why left out, in seconds of
    # processor time (one thread does all of it).
    cycle_seconds: float

    @property
    def at_100(self) -> float:
        return self.curve[FULL]

    @property
    def at_130(self) -> float:
        return self.curve[OVERFULL]

    @property
    def decisions_per_second(self) -> float:
        """A decision is a place for a task, or that there is none."""
        return self.arrived / self.cycle_seconds


def allocate(
    nodes: Sequence[TraceNode],
    tasks: Sequence[TraceTask],
    policy: Policy,
    seed: int,
    *,
    shuffle_nodes: bool = False,
    report: Report = unheard,
) -> Result:
    """One run. With `shuffle_nodes` the seed also decides names and order of the nodes. Raises
    NothingFits."""
    if shuffle_nodes:
        nodes = renamed(nodes, Random(f"names {seed}"))
    capacity = gpu_capacity_milli(nodes)
    arrivals = arrivals_up_to(tasks, capacity * OVERFULL // 100, Random(f"tasks {seed}"))
    # Nobody asks why: words about those that are dropped would take as long as the decisions.
    chosen = replace(policy, seed=seed, explain=False)
    cluster = VirtualCluster(Scheduler(chosen).schedule)
    machines = Machines(cluster, lambda experiment_id: float("inf"))
    cluster.nodes = machines
    cluster.add_user(USER)
    connect_all(cluster, nodes)

    specs: dict[TraceTask, TrainSpec] = {}
    curve = [0.0]
    asked = placed = 0
    for number, task in enumerate(arrivals):
        report(number / len(arrivals))
        cluster.now += SECONDS_BETWEEN
        spec = specs.get(task)
        if spec is None:
            spec = specs[task] = _spec(task)
        experiment, _ = cluster.send(ExperimentSubmitted(USER, "", spec))
        applied = cluster.plan()
        if applied is not None and experiment.id in applied.started:
            placed += 1
        else:
            cluster.send(KillRequested(experiment.id))
        asked += task.gpu_milli
        allocated = 100.0 * machines.held_gpu_milli / capacity
        while len(curve) <= OVERFULL and asked * 100 >= capacity * len(curve):
            curve.append(allocated)
    return Result(tuple(curve), len(arrivals), placed, cluster.effort.seconds)


def _spec(task: TraceTask) -> TrainSpec:
    return TrainSpec(
        project="allocation",
        run=("true",),
        roles=(RoleSpec("worker", task.members, task.resources),),
    )
