"""The checks that the other tests lean on do find faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from controlplane.core.invariants import InvariantViolated
from controlplane.domain.changes import Insert, Update
from controlplane.domain.model import Attempt, Experiment, GpuShare, Job
from controlplane.domain.states import AttemptState, State
from tests.unit.core.world import World, gang, spec

E = "ana.1"


@pytest.fixture
def world() -> World:
    """With a gang of two that runs."""
    world = World()
    world.connect()
    world.submit(spec(roles=gang(("worker", 2)), framework="jax"))
    world.plan()
    world.run("ana.1.worker.1-1", "ana.1.worker.2-1")
    return world


def a_gpu_given_twice(experiment: Experiment, job: Job, attempt: Attempt) -> object:
    return replace(attempt, id="x-1", gpus=(GpuShare("g", 1001),))


def a_second_live_attempt(experiment: Experiment, job: Job, attempt: Attempt) -> object:
    return replace(attempt, id="ana.1.worker.1-2", generation=2)


def an_unknown_node(experiment: Experiment, job: Job, attempt: Attempt) -> object:
    return replace(attempt, id="x-1", node_name="n9")


def too_many_cpus(experiment: Experiment, job: Job, attempt: Attempt) -> object:
    return replace(attempt, id="x-1", cpu_milli=7001)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (a_gpu_given_twice, "given 1001 thousandths"),
        (a_second_live_attempt, "two live attempts"),
        (an_unknown_node, "unknown node"),
        (too_many_cpus, "over capacity"),
        (lambda e, j, a: replace(a, id="x-1"), "is given twice"),
        (lambda e, j, a: replace(a, state=AttemptState.LOST), "not ended properly"),
        (lambda e, j, a: replace(j, state=State.FAILED), "has ended, but"),
        (lambda e, j, a: replace(e, state=State.STARTING), "but follows as"),
        (lambda e, j, a: replace(e, state=State.FINISHED, end_time=1.0), "has ended, but"),
        (lambda e, j, a: replace(e, end_time=1.0), "without an end"),
        (lambda e, j, a: replace(e, kill_requested=True), "has to be stopped"),
        (lambda e, j, a: replace(e, generation=2), "two generations"),
    ],
)
def test_a_fault_is_found(
    world: World, fault: Callable[[Experiment, Job, Attempt], object], words: str
) -> None:
    cluster = world.cluster
    given = (
        cluster.experiments[E],
        cluster.jobs["ana.1.worker.1"],
        cluster.attempts["ana.1.worker.1-1"],
    )
    wrong = fault(*given)
    assert isinstance(wrong, Experiment | Job | Attempt)
    known = wrong.id in {entity.id for entity in given}
    cluster.apply([Update(wrong) if known else Insert(wrong)], 1000.0)
    with pytest.raises(InvariantViolated, match=words):
        cluster.check_invariants()


def test_a_hidden_change_of_what_a_node_holds_is_found(world: World) -> None:
    world.cluster.usage["n1"].cpu_milli += 1
    with pytest.raises(InvariantViolated, match="usage of n1"):
        world.cluster.check_invariants()
