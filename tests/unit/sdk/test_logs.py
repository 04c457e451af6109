"""Bytes of logs come exactly once, whatever happens to the connection."""

from __future__ import annotations

import threading

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from riseml.client import Client
from riseml.errors import NotFound, RisemlError, Unavailable
from riseml.logs import LogBytes, LogEnd, LogHole, LogReader
from riseml.v1 import log_service_pb2 as pb
from tests.unit.sdk.fake_cluster import FakeCluster
from tests.unit.sdk.fake_services import AT_ONCE


def reader(client: Client, id: str = "ana.1", **more: object) -> LogReader:
    return LogReader(client, id, backoff=AT_ONCE, sleep=lambda _: None, **more)  # type: ignore[arg-type]


def read(made: LogReader) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for record in made:
        if isinstance(record, LogBytes):
            assert record.offset == len(found.get(record.attempt_id, b""))
            found[record.attempt_id] = found.get(record.attempt_id, b"") + record.data
    return found


def test_log_of_several_attempts_comes_whole(client: Client, cluster: FakeCluster) -> None:
    cluster.logs = {"ana.1.train.1-1": b"first " * 9, "ana.1.train.1-2": b"second " * 9}
    assert read(reader(client)) == cluster.logs


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    logs=st.lists(st.binary(max_size=60), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 6), max_size=4),
    repeat=st.integers(0, 10),
)
def test_cut_connections_lose_and_double_nothing(
    client: Client, cluster: FakeCluster, logs: list[bytes], cuts: list[int], repeat: int
) -> None:
    cluster.logs = {f"ana.1.train.{n}-1": data for n, data in enumerate(logs, 1)}
    cluster.cut_logs_after = list(cuts)
    cluster.repeat_bytes = repeat
    assert read(reader(client)) == {a: d for a, d in cluster.logs.items() if d}


def test_follower_stays_until_the_end(client: Client, cluster: FakeCluster) -> None:
    cluster.write_log("ana.1.train.1-1", b"one ")
    found = []
    for record in reader(client, follow=True):
        found.append(record)
        if isinstance(record, LogBytes) and record.offset == 0:
            cluster.write_log("ana.1.train.1-1", b"two", end=True)
    assert b"".join(r.data for r in found if isinstance(r, LogBytes)) == b"one two"
    assert found[-1] == LogEnd("ana.1.train.1-1", 7, False)


def test_lost_connections_are_told(client: Client, cluster: FakeCluster) -> None:
    cluster.logs = {"ana.1.train.1-1": b"0123456789"}
    cluster.cut_logs_after = [1, 1]
    told: list[RisemlError] = []
    read(reader(client, on_lost=told.append))
    assert [type(error) for error in told] == [Unavailable]


def test_server_that_stays_away_ends_the_reading(client: Client, cluster: FakeCluster) -> None:
    cluster.faults["TailLogs"] = [(grpc.StatusCode.UNAVAILABLE, "away", "")] * 99
    with pytest.raises(Unavailable):
        read(reader(client))
    assert cluster.calls.count("TailLogs") == AT_ONCE.tries


def test_other_errors_come_through_at_once(client: Client, cluster: FakeCluster) -> None:
    cluster.faults["TailLogs"] = [(grpc.StatusCode.NOT_FOUND, "none", "")] * 9
    with pytest.raises(NotFound):
        read(reader(client))
    assert cluster.calls.count("TailLogs") == 1


def test_cursors_of_one_reader_start_another(client: Client, cluster: FakeCluster) -> None:
    cluster.logs = {"ana.1.train.1-1": b"one "}
    first = reader(client)
    read(first)
    cluster.logs["ana.1.train.1-1"] += b"two"
    rest = [r for r in reader(client, cursors=first.cursors) if isinstance(r, LogBytes)]
    assert rest == [LogBytes("ana.1.train.1-1", 4, b"two")]


def test_cancel_ends_a_reader_that_waits(client: Client, cluster: FakeCluster) -> None:
    cluster.write_log("ana.1.train.1-1", b"one")
    made = reader(client, follow=True)
    thread = threading.Thread(target=lambda: read(made))
    thread.start()
    made.cancel()
    thread.join(10)
    assert not thread.is_alive()


def test_range_that_is_gone_is_told_once(client: Client) -> None:
    made = reader(client)
    gap = pb.TailLogsResponse(
        attempt_id="a", gap=pb.LogGap(offset=0, length_bytes=5, reason="retention")
    )
    chunk = pb.TailLogsResponse(attempt_id="a", chunk=pb.LogChunk(offset=5, data=b"x"))
    far = pb.TailLogsResponse(attempt_id="a", chunk=pb.LogChunk(offset=9, data=b"y"))
    records = [r for answer in (gap, gap, chunk, far) for r in made._records(answer)]
    assert records == [
        LogHole("a", 0, 5, "retention"),
        LogBytes("a", 5, b"x"),
        LogHole("a", 6, 3, "the server left it out"),
        LogBytes("a", 9, b"y"),
    ]
