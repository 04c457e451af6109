"""Experiments that run, were preempted, ended, or wait for their turn; sets."""

from __future__ import annotations

from dataclasses import replace

from controlplane.domain.decision_record import DecisionRecord
from controlplane.domain.model import Experiment, GpuShare
from controlplane.domain.plan import Decision, DecisionKind, PendingCode, PendingReason
from controlplane.domain.snapshot import MemberPlacement
from controlplane.domain.states import State
from controlplane.explain.explanation import Explanation
from controlplane.explain.running import (
    explain_ended,
    explain_foreign,
    explain_running,
    explain_turn,
)
from controlplane.explain.sets import explain_set
from riseml.spec.model import TrainSpec
from tests.unit.explain.traces import CLOCK, HOUR, NOON

SPEC = TrainSpec(project="digits", run=("true",), max_duration_seconds=4 * 3600, concurrency=2)
RUNNING = Experiment(
    "ana.17", "ana", 17, 0, None, "digits", "", SPEC, (), State.RUNNING, NOON - 2 * HOUR,
    start_time=NOON - HOUR,
)  # fmt: skip
INDEXES = {"n1-0": 0, "n1-1": 1, "n1-2": 2, "n1-3": 3}
HERE = (
    MemberPlacement("ana.17.train.1", "n1", tuple(GpuShare(f"n1-{i}", 1000) for i in range(4))),
)


def record(kind: DecisionKind, hours_ago: float, message: str = "", *more: str) -> DecisionRecord:
    decision = Decision("ana.17", kind, HERE, message, more)
    return DecisionRecord(int(100 - 10 * hours_ago), NOON - hours_ago * HOUR, decision)


PLACED = record(
    DecisionKind.PLACED,
    1,
    "Of 3 nodes with room it leaves the most whole",
    "n2: would have split an empty node",
)
PREEMPTED = record(DecisionKind.PREEMPTED, 3, "bo.4 has a higher priority; 2 GPU-hours were lost")


def test_running_says_where_and_why_there() -> None:
    found = explain_running(RUNNING, HERE, [PLACED], INDEXES, CLOCK)
    assert found.summary == "ana.17 runs on n1 (GPUs 0-3) since 11:00."
    assert found.lines == (
        "It was placed there in cycle 90: of 3 nodes with room it leaves the most whole.",
        "Next best were:",
        "  n2: would have split an empty node",
        "Its max_duration of 4h ends it at 15:00 at the latest.",
    )
    assert found.members == HERE and found.cycle_number == 90


def test_running_tells_of_earlier_preemptions() -> None:
    records = [record(DecisionKind.PLACED, 4), PREEMPTED, PLACED]
    found = explain_running(RUNNING, HERE, records, INDEXES, CLOCK)
    assert found.lines[-2:] == (
        "It was preempted 1 time:",
        "  At 09:00: bo.4 has a higher priority; 2 GPU-hours were lost.",
    )


def test_running_without_a_record_says_so() -> None:
    found = explain_running(RUNNING, (), [], INDEXES, CLOCK)
    assert found.summary == "ana.17 runs since 11:00."
    assert found.lines[0] == "The decision that placed it is not on record any more."


def test_being_stopped_is_said() -> None:
    stopping = replace(RUNNING, reason="KILL_REQUESTED", message="killed by ana")
    found = explain_running(stopping, HERE, [], INDEXES, CLOCK)
    assert found.summary == "ana.17 runs on n1 (GPUs 0-3) since 11:00 (killed by ana)."


def test_ended_is_told_plainly() -> None:
    failed = replace(
        RUNNING, state=State.FAILED, end_time=NOON, message="train.1 ended with exit code 3\nlog"
    )
    found = explain_ended(failed, HERE, [PLACED], INDEXES, CLOCK)
    assert found.summary == "ana.17 failed at 12:00: train.1 ended with exit code 3."
    assert found.lines[0] == "It waited 1h and ran 1h on n1 (GPUs 0-3)."


def test_ended_without_having_run() -> None:
    killed = replace(
        RUNNING, state=State.KILLED, start_time=None, end_time=NOON, message="killed by ana"
    )
    found = explain_ended(killed, (), [], INDEXES, CLOCK)
    assert found.lines == ("It never ran; it had waited 2h.",)


def test_of_others_is_told_what_they_hold_and_nothing_more() -> None:
    secret = replace(RUNNING, message="exit code of secret.py")
    found = explain_foreign(secret, HERE, INDEXES)
    assert found.summary == "ana.17 is RUNNING and holds n1 (GPUs 0-3)."
    assert found.lines == ("What else there is to know, ana and admins are told.",)
    assert "secret" not in str(found.lines)


CHILD = replace(RUNNING, id="ana.17.5", set_id="ana.17", child_number=5, state=State.CREATED)


def test_a_child_waits_for_its_turn() -> None:
    found = explain_turn(CHILD, ["ana.17.1", "ana.17.2"], 2)
    assert (
        found.summary == "ana.17.5 waits for its turn: at most 2 children of ana.17 may run at "
        "once."
    )
    assert found.lines[:2] == ("Those are ana.17.1 and ana.17.2 now.", "2 children come before it.")
    assert explain_turn(CHILD, ["ana.17.1"], 0).lines[:2] == (
        "That is ana.17.1 now.",
        "It is the next.",
    )


def test_a_set_tells_of_its_children_together() -> None:
    busy = (PendingReason(PendingCode.GPUS_BUSY, "all is busy"),)
    children = [
        Explanation("ana.17.1", State.RUNNING, "ana.17.1 runs on n1.", members=HERE),
        *[
            Explanation(f"ana.17.{i}", State.PENDING, f"ana.17.{i} waits.", ("n1 is full.",), busy)
            for i in (2, 3, 4)
        ],
    ]
    counts = {State.FINISHED: 2, State.RUNNING: 1, State.PENDING: 3, State.CREATED: 4}
    family = replace(RUNNING, child_count=10)
    found = explain_set(family, counts, children)
    assert found.summary == (
        "ana.17 is a set of 10 children: 2 finished, 1 running, 3 waiting for a place, 4 waiting "
        "for their turn."
    )
    assert found.lines == (
        "At most 2 children run at once, by its `concurrency`.",
        "ana.17.1 runs on n1.",
        "ana.17.2 waits.",
        "  n1 is full.",
        "2 more children wait for the same reasons.",
    )
    assert found.reasons == busy and found.members == HERE
