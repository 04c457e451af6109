"""utilization_policy: told at half time, stopped at the end, as max_duration does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.core.idle import watched
from controlplane.domain.events import GpusIdle, NodeDrained
from riseml.spec.model import GIB, Resources, RetryPolicy, UtilizationPolicy
from tests.unit.core.world import World, gang, gpu, spec

E, A, B = "ana.1", "ana.1.worker.1-1", "ana.1.worker.2-1"
TWO_GPUS = Resources(cpu_milli=1000, memory_bytes=GIB, gpu_milli=2000)


def world(run: bool = True, **fields: object) -> World:
    """A gang of two with two GPUs each, on two nodes."""
    made = World()
    made.now = 1_764_065_520.0
    for name in ("n1", "n2"):
        made.connect(name, gpus=tuple(gpu(f"{name}-{i}", i) for i in range(2)))
    policy = UtilizationPolicy(10, 1800)
    given = {"framework": "jax", "utilization_policy": policy, **fields}
    made.submit(spec(roles=gang(("worker", 2), resources=TWO_GPUS), **given))
    made.plan()
    if run:
        made.run(A, B)
    return made


def test_all_gpus_of_a_gang_are_watched_once_all_of_it_runs() -> None:
    made = world(run=False)
    made.run(A)
    assert not list(watched(made.cluster)), "a gang that is partly up waits for the rest"
    made.run(B)
    (one,) = watched(made.cluster)
    assert sorted(one.gpus) == ["n1-0", "n1-1", "n2-0", "n2-1"]
    assert (one.experiment_id, one.generation, one.noticed) == (E, 1, False)
    assert (one.min_percent, one.window_seconds) == (10, 1800)
    made.kill(E)
    assert not list(watched(made.cluster)), "it is being stopped"


def test_a_gpu_that_is_shared_is_watched_as_a_whole() -> None:
    made = World()
    made.connect(gpus=(gpu("g0"),))
    half = replace(TWO_GPUS, gpu_milli=500)
    made.submit(
        spec(
            roles=gang(("train", 1), resources=half), utilization_policy=UtilizationPolicy(10, 1800)
        )
    )
    made.plan()
    made.run("ana.1.train.1-1")
    (one,) = watched(made.cluster)
    assert one.gpus == ("g0",)


def test_the_user_is_told_at_half_time_and_that_it_is_over() -> None:
    made = world()
    made.send(GpusIdle(E, 1, made.now - 900))
    told = made.experiment(E)
    assert (told.state.value, told.reason) == ("RUNNING", "LOW_UTILIZATION")
    assert told.message == (
        "all of its GPUs have been below 10 % since 25 Nov 09:57 UTC: it is stopped when that "
        "lasts 30m"
    )
    assert next(watched(made.cluster)).noticed
    made.send(GpusIdle(E, 1, None))
    assert (made.reason(E), made.experiment(E).message) == ("", "")


def test_at_the_end_it_is_stopped_and_failed_whatever_retry_says() -> None:
    made = world(retry=RetryPolicy(("error", "interruption"), 3))
    made.send(GpusIdle(E, 1, made.now - 1800, stop=True))
    assert made.stopped == {A: "utilization_policy", B: "utilization_policy"}
    made.exit(A, 0)
    made.exit(B, None, exit_signal=15, reason="utilization_policy")
    ended = made.experiment(E)
    assert (ended.state.value, ended.reason) == ("FAILED", "UTILIZATION_POLICY")
    assert ended.message == "all of its GPUs stayed below 10 % for 30m (utilization_policy)"


@pytest.mark.parametrize("stop", [False, True])
def test_what_is_told_of_an_earlier_attempt_means_nothing(stop: bool) -> None:
    made = world()
    made.send(GpusIdle(E, 2, made.now, stop))
    made.send(GpusIdle("ana.9", 1, made.now, stop))
    assert (made.state(E), made.reason(E)) == ("RUNNING", "")
    assert not made.stopped


def test_a_new_attempt_begins_without_the_old_ones_note() -> None:
    made = world()
    made.send(GpusIdle(E, 1, made.now - 900))
    made.send(NodeDrained("n2"))
    for attempt in (A, B):
        made.exit(attempt, None, exit_signal=15)
    made.connect("n3", gpus=tuple(gpu(f"n3-{i}", i) for i in range(2)))
    made.plan()
    made.run("ana.1.worker.1-2", "ana.1.worker.2-2")
    assert (made.state(E), made.reason(E)) == ("RUNNING", "")
    assert not next(watched(made.cluster)).noticed


def test_a_kill_is_said_first() -> None:
    made = world()
    made.send(GpusIdle(E, 1, made.now - 900))
    made.kill(E)
    assert made.reason(E) == "KILL_REQUESTED"
    made.send(GpusIdle(E, 1, made.now - 1800, stop=True))
    made.exit(A, None, exit_signal=15)
    made.exit(B, None, exit_signal=15)
    assert made.state(E) == "KILLED"
