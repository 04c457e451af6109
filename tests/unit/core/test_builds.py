"""Experiments with `install` steps show the preparation of their environment as build jobs."""

from __future__ import annotations

from controlplane.domain.effects import ForgetAttempt, StartAttempt
from riseml.spec.model import GIB, Resources, RetryPolicy
from tests.unit.core.world import World, gang, report, spec

E = "ana.1"
BUILD, MAIN = "ana.1.build.1-1", "ana.1.train.1-1"


def installing(**fields: object) -> World:
    world = World()
    world.connect()
    world.submit(spec(install=("pip install x",), **fields))
    world.plan()
    return world


def test_a_plain_experiment_builds_nothing() -> None:
    world = World()
    world.connect()
    world.submit(spec())
    world.plan()
    assert [job.type for job in world.cluster.jobs_of(E)] == ["train"]


def test_a_build_stands_beside_the_attempt_and_holds_nothing() -> None:
    world = installing()
    assert [job.id for job in world.cluster.jobs_of(E)] == ["ana.1.train.1", "ana.1.build.1"]
    build = world.attempt(BUILD)
    assert (build.node_name, build.cpu_milli, build.memory_bytes) == ("n1", 0, 0)
    assert world.attempt(MAIN).build_attempt_id == BUILD
    assert world.state("ana.1.build.1") == "CREATED"
    (start,) = (e for e in world.effects if isinstance(e, StartAttempt))
    assert (start.order.install, start.order.build_attempt_id) == (("pip install x",), BUILD)


def test_an_experiment_is_building_until_its_process_runs() -> None:
    world = installing()
    assert world.state(E) == "STARTING"
    world.report(MAIN, "PREPARING")
    world.report(BUILD, "RUNNING", start_time=world.now)
    assert (world.state(E), world.state("ana.1.train.1")) == ("BUILDING", "STARTING")
    assert world.state("ana.1.build.1") == "RUNNING"
    world.exit(BUILD, 0)
    assert ForgetAttempt("n1", BUILD) in world.effects
    assert (world.state(E), world.state("ana.1.build.1")) == ("STARTING", "FINISHED")
    world.run(MAIN)
    assert world.state(E) == "RUNNING"
    world.exit(MAIN, 0)
    assert world.state(E) == "FINISHED"


def test_a_failed_build_fails_the_experiment_through_the_attempt_it_was_for() -> None:
    world = installing()
    world.report(BUILD, "RUNNING")
    world.exit(BUILD, 1)
    assert world.state("ana.1.build.1") == "FAILED"
    assert world.state(E) == "STARTING"
    world.report(MAIN, "EXITED", reason="BUILD_FAILED", message="step 1 ended with exit code 1")
    ended = world.experiment(E)
    assert (ended.state.value, ended.reason, ended.message) == (
        "FAILED",
        "BUILD_FAILED",
        "step 1 ended with exit code 1",
    )


def test_each_node_of_a_gang_builds_once() -> None:
    world = World()
    half = Resources(cpu_milli=4000, memory_bytes=GIB)
    world.connect()
    world.connect("n2")
    roles = gang(("worker", 3), resources=half)
    world.submit(spec(install=("pip install x",), roles=roles, framework="jax"))
    world.plan()
    builds = [job.id for job in world.cluster.jobs_of(E) if job.type == "build"]
    assert builds == ["ana.1.build.1", "ana.1.build.2"]
    used = [world.attempt(f"ana.1.worker.{n}-1").build_attempt_id for n in (1, 2, 3)]
    assert used == ["ana.1.build.1-1", "ana.1.build.1-1", "ana.1.build.2-1"]


def test_killing_while_building_ends_the_build_with_the_attempt() -> None:
    world = installing()
    world.report(BUILD, "RUNNING")
    world.kill(E)
    assert world.stopped == {MAIN: "killed"}
    world.exit(MAIN, None)
    assert world.state(E) == "KILLED"
    assert world.state("ana.1.build.1") == "KILLED"
    assert world.attempt(BUILD).reason == "ENDED_WITH_JOB"
    world.exit(BUILD, None, exit_signal=15, final_log_offset=12)
    assert ForgetAttempt("n1", BUILD) in world.effects
    assert world.attempt(BUILD).final_log_offset == 12


def test_a_build_whose_end_was_never_told_was_good_if_the_process_ran() -> None:
    world = installing()
    world.run(MAIN)
    world.exit(MAIN, 0)
    assert (world.state(E), world.state("ana.1.build.1")) == ("FINISHED", "FINISHED")


def test_a_retry_builds_under_a_fresh_number() -> None:
    world = installing(retry=RetryPolicy(("error",), 1))
    world.run(MAIN)
    world.exit(MAIN, 1)
    world.plan()
    assert world.attempt("ana.1.train.1-2").build_attempt_id == "ana.1.build.2-2"
    assert [job.id for job in world.cluster.jobs_of(E)][1:] == ["ana.1.build.1", "ana.1.build.2"]


def test_a_node_that_comes_back_need_not_know_its_builds() -> None:
    world = installing()
    world.report(MAIN, "PREPARING")
    world.report(BUILD, "RUNNING")
    opened = world.connect(attempts=[report(MAIN, "PREPARING")])
    assert [order.attempt_id for order in opened.desired] == [MAIN]
    assert world.state(E) == "BUILDING"
    world.connect(boot_id="boot2", epoch=2)
    assert world.state(E) == "PENDING"
    assert world.attempt(BUILD).state.ended
