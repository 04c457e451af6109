"""One job: what its node reports and what follows, with kills and time limits."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.effects import ForgetAttempt, StopAttempt
from controlplane.domain.errors import NotFound
from controlplane.domain.events import AttemptReported, KillRequested, TimePassed
from controlplane.domain.model import AttemptReport
from controlplane.domain.states import AttemptState
from tests.unit.core.world import World, gang, report, spec

E, JOB, A = "ana.1", "ana.1.train.1", "ana.1.train.1-1"


@pytest.fixture
def world() -> World:
    """With one experiment placed on n1."""
    world = World()
    world.connect()
    world.submit(spec())
    world.plan()
    return world


@pytest.mark.parametrize(
    ("reports", "experiment", "job"),
    [
        ([], "STARTING", "STARTING"),
        ([("ASSIGNED", {})], "STARTING", "STARTING"),
        ([("PREPARING", {})], "STARTING", "STARTING"),
        ([("PREPARING", {}), ("RUNNING", {})], "RUNNING", "RUNNING"),
        ([("RUNNING", {}), ("PREPARING", {})], "RUNNING", "RUNNING"),
        ([("RUNNING", {}), ("STOPPING", {})], "RUNNING", "RUNNING"),
        ([("RUNNING", {}), ("EXITED", {"exit_code": 0})], "FINISHED", "FINISHED"),
        ([("EXITED", {"exit_code": 0})], "FINISHED", "FINISHED"),
        ([("EXITED", {"exit_code": 0}), ("RUNNING", {})], "FINISHED", "FINISHED"),
        ([("EXITED", {"exit_code": 3})], "FAILED", "FAILED"),
        ([("EXITED", {"exit_signal": 11})], "FAILED", "FAILED"),
        ([("EXITED", {})], "FAILED", "FAILED"),
        ([("EXITED", {"reason": "BUILD_FAILED"})], "FAILED", "FAILED"),
        ([("EXITED", {"exit_code": 0}), ("EXITED", {"exit_code": 3})], "FINISHED", "FINISHED"),
        ([("RUNNING", {}), ("PREEMPTED", {})], "PENDING", "PENDING"),
        ([("RUNNING", {}), ("LOST", {})], "PENDING", "PENDING"),
        ([("RUNNING", {}), ("EXITED", {"reason": "NO_CONTACT"})], "PENDING", "PENDING"),
    ],
)
def test_reports_lead_to_states(
    world: World, reports: list[tuple[str, dict[str, Any]]], experiment: str, job: str
) -> None:
    for state, fields in reports:
        world.report(A, state, **fields)
    assert (world.state(E), world.state(JOB)) == (experiment, job)


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        ({"exit_code": 3}, "EXIT_CODE", "train.1 ended with exit code 3"),
        ({"exit_signal": 11}, "SIGNAL", "train.1 was ended by signal 11"),
        ({}, "NO_EXIT_STATUS", "train.1 ended without an exit status"),
        (
            {"reason": "BUILD_FAILED", "message": "pip said no"},
            "BUILD_FAILED",
            "pip said no",
        ),
        (
            {"reason": "OOM_KILLED", "exit_signal": 9},
            "OOM_KILLED",
            "train.1 was ended by signal 9 (OOM_KILLED)",
        ),
    ],
)
def test_a_failure_says_why(
    world: World, fields: dict[str, Any], reason: str, message: str
) -> None:
    world.report(A, "EXITED", **fields)
    ended = world.experiment(E)
    assert (ended.state.value, ended.reason, ended.message) == ("FAILED", reason, message)
    assert ended.end_time == world.now


def test_times_are_those_of_the_node_within_what_is_known(world: World) -> None:
    world.pass_time(10)
    world.report(A, "RUNNING", start_time=1004.0)
    assert world.experiment(E).start_time == 1004.0
    world.pass_time(10)
    world.report(A, "EXITED", exit_code=0, start_time=1004.0, end_time=9e9)
    assert world.attempt(A).end_time == world.now == 1020.0


def test_a_node_with_a_slow_clock_cannot_start_before_it_was_asked(world: World) -> None:
    world.report(A, "RUNNING", start_time=3.0)
    assert world.attempt(A).start_time == 1000.0


def test_a_repeated_report_changes_nothing(world: World) -> None:
    world.run(A)
    before = world.experiment(E)
    world.run(A)
    assert world.experiment(E) is before
    assert not world.effects


def test_a_recorded_end_lets_the_node_forget_and_frees_its_place(world: World) -> None:
    world.run(A)
    assert world.cluster.usage_of("n1").cpu_milli == 1000
    world.exit(A, 0)
    assert ForgetAttempt("n1", A) in world.effects
    assert world.woke
    assert world.cluster.usage_of("n1").cpu_milli == 0


def test_what_a_node_says_of_an_attempt_is_its_jobs_message_until_a_later_word(
    world: World,
) -> None:
    world.report(A, "PREPARING", message="fetching code")
    assert world.cluster.jobs[JOB].message == "fetching code"
    world.run(A)
    world.report(A, "PREPARING", message="fetching code")
    assert world.cluster.jobs[JOB].message == ""


def test_a_repeated_end_is_answered_again(world: World) -> None:
    world.exit(A, 0)
    world.exit(A, 0)
    assert world.effects == (ForgetAttempt("n1", A),)


def test_the_lengths_of_logs_may_come_after_the_end(world: World) -> None:
    world.exit(A, 0)
    world.exit(A, 0, final_log_offset=70, final_results_offset=0)
    assert world.attempt(A).final_log_offset == 70
    world.exit(A, 0, final_log_offset=99)
    assert world.attempt(A).final_log_offset == 70


def test_an_unknown_attempt_that_runs_is_stopped() -> None:
    world = World()
    world.send(AttemptReported("n1", report("eve.9.train.1-1", "RUNNING")))
    assert world.stopped == {"eve.9.train.1-1": "unknown"}


def test_an_unknown_attempt_that_ended_is_forgotten() -> None:
    world = World()
    world.send(AttemptReported("n1", report("eve.9.train.1-1", "EXITED")))
    assert world.effects == (ForgetAttempt("n1", "eve.9.train.1-1"),)


def test_no_node_can_speak_for_an_attempt_of_another(world: World) -> None:
    world.connect("n2")
    world.report(A, "EXITED", exit_code=0, node="n2")
    assert world.state(E) == "STARTING"


def test_killing_what_waits_ends_it_at_once() -> None:
    world = World()
    world.submit(spec())
    killed = world.kill(E)
    assert (killed.state.value, killed.reason, killed.message) == (
        "KILLED",
        "KILLED",
        "killed by ana",
    )
    assert world.state(JOB) == "KILLED"
    assert not world.stopped


def test_killing_what_runs_stops_it_and_waits_for_its_end(world: World) -> None:
    world.run(A)
    asked = world.kill(E)
    assert (asked.state.value, asked.reason, asked.kill_requested) == (
        "RUNNING",
        "KILL_REQUESTED",
        True,
    )
    assert world.effects == (StopAttempt("n1", A, "killed", None),)
    assert world.attempt(A).state is AttemptState.STOPPING
    world.report(A, "STOPPING", reason="killed")
    world.exit(A, None, exit_signal=15, reason="killed")
    ended = world.experiment(E)
    assert (ended.state.value, ended.reason, ended.message) == ("KILLED", "KILLED", "killed by ana")
    assert world.attempt(A).reason == "KILLED"


def test_what_was_killed_is_killed_even_if_it_ends_well(world: World) -> None:
    world.run(A)
    world.kill(E)
    world.exit(A, 0)
    assert world.state(E) == "KILLED"


def test_killing_again_changes_nothing_and_stops_nobody_twice(world: World) -> None:
    world.kill(E)
    before = world.experiment(E)
    world.kill(E)
    assert world.experiment(E) is before
    assert not world.effects


def test_force_kills_without_grace_even_what_is_being_stopped(world: World) -> None:
    world.kill(E)
    world.kill(E, force=True)
    assert world.effects == (StopAttempt("n1", A, "killed", 0.0),)


def test_killing_what_has_ended_changes_nothing(world: World) -> None:
    world.exit(A, 0)
    before = world.experiment(E)
    assert world.kill(E) is before


def test_killing_what_never_was_is_not_found() -> None:
    with pytest.raises(NotFound):
        World().send(KillRequested("ana.7"))


def test_a_late_running_report_does_not_undo_a_kill(world: World) -> None:
    world.kill(E)
    world.run(A)
    attempt = world.attempt(A)
    assert (attempt.state, attempt.start_time) == (AttemptState.STOPPING, 1000.0)
    assert world.state(E) == "RUNNING"


def limited() -> World:
    world = World()
    world.connect()
    world.submit(spec(max_duration_seconds=60))
    world.plan()
    return world


def test_max_duration_counts_from_the_start_of_its_processes() -> None:
    world = limited()
    world.pass_time(100)
    world.send(TimePassed())
    assert not world.stopped
    world.run(A)
    world.pass_time(59)
    world.send(TimePassed())
    assert not world.stopped


def test_max_duration_ends_what_runs_longer() -> None:
    world = limited()
    world.run(A)
    world.pass_time(60)
    world.send(TimePassed())
    assert world.stopped == {A: "max_duration"}
    assert world.state(E) == "RUNNING"
    world.send(TimePassed())
    assert not world.stopped
    world.exit(A, 0)
    ended = world.experiment(E)
    assert (ended.state.value, ended.reason) == ("FAILED", "MAX_DURATION")
    assert ended.message == "ran longer than its max_duration, 60 s"


def test_max_duration_of_a_gang_stops_all() -> None:
    world = World()
    world.connect()
    world.submit(spec(roles=gang(("worker", 2)), max_duration_seconds=60))
    world.plan()
    world.run("ana.1.worker.1-1", "ana.1.worker.2-1")
    world.pass_time(61)
    world.send(TimePassed())
    assert set(world.stopped) == {"ana.1.worker.1-1", "ana.1.worker.2-1"}
    world.exit("ana.1.worker.1-1", 0)
    world.exit("ana.1.worker.2-1", 0)
    assert world.reason(E) == "MAX_DURATION"


def test_an_ended_experiment_can_leave_memory_a_live_one_cannot(world: World) -> None:
    world.cluster.evict(E)
    assert E in world.cluster.experiments
    world.exit(A, 0)
    world.cluster.evict(E)
    assert not world.cluster.experiments
    assert not world.cluster.jobs
    assert not world.cluster.attempts
    world.send(AttemptReported("n1", AttemptReport(A, AttemptState.EXITED, exit_code=0)))
    assert world.effects == (ForgetAttempt("n1", A),)
