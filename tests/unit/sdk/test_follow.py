"""An experiment from its first state to its last, with its output in between."""

from __future__ import annotations

import threading
from collections.abc import Callable

import grpc
import pytest

from riseml.client import Client
from riseml.cri import encode
from riseml.errors import NotFound
from riseml.follow import Follower, past_lines
from riseml.states import JobNames
from riseml.v1 import experiment_pb2, state_pb2
from tests.unit.sdk.fake_cluster import FakeCluster, one
from tests.unit.sdk.fake_services import AT_ONCE

SECOND = 10**9
ATTEMPT = "ana.1.train.1-1"


def line(seconds: int, text: str) -> bytes:
    return encode(seconds * SECOND, "stdout", f"{text}\n".encode())


def ended(id: str = "ana.1", exit_code: int = 0) -> experiment_pb2.Experiment:
    state = state_pb2.STATE_FAILED if exit_code else state_pb2.STATE_FINISHED
    made = one(id, state)
    attempt = made.jobs[0].attempts[0]
    attempt.exit_code = exit_code
    attempt.end_time.seconds = 1_010
    made.end_time.seconds = 1_010
    return made


def follow(client: Client, id: str = "ana.1") -> Follower:
    return Follower(client, id, backoff=AT_ONCE, sleep=lambda _: None)


def shown(follower: Follower, at: dict[str, Callable[[], None]] | None = None) -> list[str]:
    """The lines with their names; ``at`` does something when a line appears."""
    found = []
    for got in follower:
        text = f"{follower.names.prefix(got.source, 'ana')} {got.text.decode()}"
        found.append(text)
        if at and text in at:
            at.pop(text)()
    return found


def test_states_and_output_come_in_order(client: Client, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1", state_pb2.STATE_PENDING))

    def start() -> None:
        cluster.write_log(ATTEMPT, line(1_001, "loss 0.5"))
        cluster.put(one("ana.1"))

    def finish() -> None:
        cluster.put(ended())
        cluster.write_log(ATTEMPT, line(1_002, "done"), end=True)

    lines = shown(follow(client), {"1 --> PENDING": start, "1.train loss 0.5": finish})
    assert lines == [
        "1 --> PENDING",
        "1 --> RUNNING",
        "1.train loss 0.5",
        "1.train done",
        "1 --> FINISHED",
    ]


def test_failure_names_the_exit_code(client: Client, cluster: FakeCluster) -> None:
    cluster.put(ended(exit_code=3))
    cluster.write_log(ATTEMPT, line(1_001, "oops"), end=True)
    assert shown(follow(client)) == ["1.train oops", "1 --> FAILED (exit code 3)"]


def test_why_it_waits_is_told_when_it_changes(client: Client, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1", state_pb2.STATE_PENDING, pending_reasons=["no free GPU"]))

    def change() -> None:
        cluster.put(one("ana.1", state_pb2.STATE_PENDING, pending_reasons=["no free GPU"]))
        cluster.put(one("ana.1", state_pb2.STATE_PENDING, pending_reasons=["no node"]))

    def finish() -> None:
        cluster.write_log(ATTEMPT, b"", end=True)
        cluster.put(ended())

    lines = shown(
        follow(client),
        {"1 --> PENDING (no free GPU)": change, "1 --> PENDING (no node)": finish},
    )
    assert lines == ["1 --> PENDING (no free GPU)", "1 --> PENDING (no node)", "1 --> FINISHED"]


@pytest.mark.parametrize("method", ["TailLogs", "WatchExperiments"])
def test_lost_connections_change_nothing(client: Client, cluster: FakeCluster, method: str) -> None:
    cluster.faults[method] = [(grpc.StatusCode.UNAVAILABLE, "away", "")] * 2
    cluster.cut_logs_after = [1, 2]
    cluster.put(one("ana.1"))
    cluster.write_log(ATTEMPT, line(1_001, "one") + line(1_002, "two"))

    def finish() -> None:
        cluster.write_log(ATTEMPT, b"", end=True)
        cluster.put(ended())

    lines = shown(follow(client), {"1.train two": finish})
    assert lines == ["1 --> RUNNING", "1.train one", "1.train two", "1 --> FINISHED"]


def test_compacted_changes_are_caught_up(client: Client, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1"))
    follower = follow(client)
    cluster.faults["WatchExperiments"] = [
        (grpc.StatusCode.OUT_OF_RANGE, "too old", "CHANGES_COMPACTED")
    ]
    cluster.write_log(ATTEMPT, line(1_001, "one"), end=True)
    cluster.experiments["ana.1"] = ended()
    assert shown(follower)[-1] == "1 --> FINISHED"


def test_unknown_experiment_is_told_at_once(client: Client) -> None:
    with pytest.raises(NotFound):
        follow(client, "ana.9")


def test_error_of_a_stream_reaches_the_reader(client: Client, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1"))
    cluster.faults["TailLogs"] = [(grpc.StatusCode.NOT_FOUND, "no log", "")]
    with pytest.raises(NotFound, match="no log"):
        shown(follow(client))


def test_reader_may_leave_early_and_no_thread_stays(client: Client, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1"))
    cluster.write_log(ATTEMPT, line(1_001, "one") * 50)
    lines = iter(follow(client))
    next(lines)
    lines.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name == "riseml-follow-ana.1":
            thread.join(10)
            assert not thread.is_alive()


def test_past_lines_merge_jobs_and_show_what_they_went_through(
    client: Client, cluster: FakeCluster
) -> None:
    made = ended(exit_code=1)
    second = made.jobs.add(id="ana.1.train.2", experiment_id="ana.1", type="train", number=2)
    attempt = second.attempts.add(id="ana.1.train.2-1", job_id=second.id, node_name="n2")
    attempt.start_time.seconds = 1_000
    cluster.put(made)
    cluster.write_log(ATTEMPT, line(1_001, "one") + line(1_003, "three"), end=True)
    cluster.write_log("ana.1.train.2-1", line(1_002, "two"), end=True)
    names = JobNames()
    lines = [
        f"{names.prefix(got.source, 'ana')} {got.text.decode()}"
        for got in past_lines(client, "ana.1", names=names)
    ]
    assert lines == [
        "1.train.1 --> RUNNING (on n1)",
        "1.train.2 --> RUNNING (on n2)",
        "1.train.1 one",
        "1.train.2 two",
        "1.train.1 three",
        "1 --> FAILED (exit code 1)",
    ]


def test_set_ends_after_the_child_that_ended_in_the_same_moment(
    client: Client, cluster: FakeCluster
) -> None:
    root = ended()
    del root.jobs[:]
    root.set.child_count = 2
    cluster.put(root)
    for number in (1, 2):
        child = ended(f"ana.1.{number}")
        child.child_number = number
        cluster.put(child)
        cluster.write_log(f"ana.1.{number}.train.1-1", b"", end=True)
    names = JobNames()
    found = [(got.source, got.text) for got in past_lines(client, "ana.1", names=names)]
    assert found[-1] == ("ana.1", b"--> FINISHED")
    assert {source for source, _ in found[-3:-1]} == {"ana.1.1", "ana.1.2"}
