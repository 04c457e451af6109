"""States in words."""

from __future__ import annotations

import pytest

from riseml.states import JobNames, StateNotes, deciding_attempt, how_it_ended, state_name
from riseml.v1 import experiment_pb2, job_pb2, state_pb2
from tests.unit.sdk.fake_cluster import one


def notes(*messages: experiment_pb2.Experiment) -> list[str]:
    made = StateNotes("ana.1")
    found = [f"{about} {text}" for m in messages for _, about, text in made.changes(m, 5)]
    return found + [f"{about} {text}" for about, text in made.last_words()]


def test_repeated_messages_say_nothing_new() -> None:
    assert notes(one("ana.1"), one("ana.1"), one("ana.1")) == ["ana.1 --> RUNNING"]


def test_start_names_the_node() -> None:
    assert notes(one("ana.1", state_pb2.STATE_STARTING)) == ["ana.1 --> STARTING (on n1)"]


def test_return_to_the_queue_says_why() -> None:
    back = one("ana.1", state_pb2.STATE_PENDING, reason="PREEMPTED", message="ana.2 came first")
    assert notes(one("ana.1"), back, one("ana.1")) == [
        "ana.1 --> RUNNING",
        "ana.1 --> PENDING (ana.2 came first)",
        "ana.1 --> RUNNING",
    ]


def test_that_gpus_are_idle_is_told_while_it_runs_and_that_it_is_over() -> None:
    idle = one("ana.1", reason="LOW_UTILIZATION", message="all of its GPUs have been below 10 %")
    assert notes(one("ana.1"), idle, idle, one("ana.1")) == [
        "ana.1 --> RUNNING",
        "ana.1 --> RUNNING (all of its GPUs have been below 10 %)",
        "ana.1 --> RUNNING",
    ]


def test_children_end_where_they_end_and_their_set_at_the_end() -> None:
    root = one("ana.1", state_pb2.STATE_FINISHED)
    del root.jobs[:]
    child = one("ana.1.1", state_pb2.STATE_FINISHED)
    assert notes(root, child) == ["ana.1.1 --> FINISHED", "ana.1 --> FINISHED"]


def test_message_of_several_lines_is_told_by_its_first() -> None:
    failed = one("ana.1", state_pb2.STATE_FAILED, message="the build failed\n$ pip\nERROR: no")
    assert notes(failed) == ["ana.1 --> FAILED (the build failed)"]


def test_jobs_of_a_gang_are_told_one_by_one() -> None:
    made = one("ana.1")
    second = made.jobs.add(id="ana.1.train.2", type="train", number=2)
    second.state = state_pb2.STATE_STARTING
    assert notes(made) == [
        "ana.1.train.1 --> RUNNING (on n1)",
        "ana.1.train.2 --> STARTING",
        "ana.1 --> RUNNING",
    ]


def test_only_job_of_its_type_needs_no_number() -> None:
    names = JobNames()
    names.learn(one("ana.1"))
    assert names.prefix("ana.1.train.1-1", "ana") == "1.train"
    assert names.prefix("ana.1.train.1-1", "bob") == "ana.1.train"
    assert names.prefix("ana.1", "ana") == "1"
    assert names.prefix("not an id") == "not an id"
    crowd = one("ana.2")
    crowd.jobs.add(id="ana.2.train.2", type="train", number=2)
    names.learn(crowd)
    assert names.prefix("ana.2.train.1-1", "ana") == "2.train.1"


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (job_pb2.Attempt(exit_code=0), "exit code 0"),
        (job_pb2.Attempt(exit_code=3), "exit code 3"),
        (job_pb2.Attempt(exit_signal=9), "SIGKILL"),
        (job_pb2.Attempt(exit_signal=99), "signal 99"),
        (job_pb2.Attempt(), ""),
    ],
)
def test_ends_have_words(attempt: job_pb2.Attempt, words: str) -> None:
    assert how_it_ended(attempt) == words


def test_first_failure_decides() -> None:
    made = one("ana.1", state_pb2.STATE_FAILED)
    for number, (code, end) in enumerate(((0, 5), (7, 20), (8, 10)), 2):
        job = made.jobs.add(id=f"ana.1.worker.{number}", type="worker", number=number)
        attempt = job.attempts.add(id=f"{job.id}-1", exit_code=code)
        attempt.end_time.seconds = end
    found = deciding_attempt(made)
    assert found is not None and found.exit_code == 8


def test_state_of_a_newer_server_has_a_name() -> None:
    assert state_name(state_pb2.STATE_RUNNING) == "RUNNING"
    assert state_name(99) == "STATE_99"  # type: ignore[arg-type]
