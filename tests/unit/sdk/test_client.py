"""The client against a real gRPC server."""

from __future__ import annotations

import grpc
import pytest

from riseml import errors
from riseml.client import Client, connect
from riseml.credentials import Credentials
from riseml.retry import Backoff
from riseml.spec.model import TrainSpec
from riseml.transport import Transport
from riseml.v1 import state_pb2
from tests.unit.sdk.fake_cluster import FakeCluster, one
from tests.unit.sdk.fake_services import AT_ONCE, client_of

UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "restarting", "")
SPEC = TrainSpec("digits", ("true",))


def test_caller_is_known_by_the_key(client: Client) -> None:
    assert client.users.caller().name == "ana"


def test_wrong_key_says_to_log_in(address: str) -> None:
    with client_of(address, "wrong") as stranger, pytest.raises(errors.Unauthenticated) as caught:
        stranger.users.caller()
    assert "riseml user login" in caught.value.message


def test_lists_come_whole_over_many_pages(client: Client, cluster: FakeCluster) -> None:
    for name in ("bob", "carl"):
        client.users.create(name)
    assert [user.name for user in client.users.list()] == ["ana", "bob", "carl"]
    assert cluster.calls.count("ListUsers") == 3


def test_reading_of_a_list_stops_with_the_reader(client: Client, cluster: FakeCluster) -> None:
    for number in range(1, 6):
        cluster.put(one(f"ana.{number}"))
    assert next(client.experiments.list(page_size=1)).id == "ana.5"
    assert cluster.calls.count("ListExperiments") == 1


def test_lists_can_be_narrowed(client: Client, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1", state_pb2.STATE_FINISHED))
    cluster.put(one("ana.2"))
    found = client.experiments.list(states=[state_pb2.STATE_RUNNING], project="digits")
    assert [e.id for e in found] == ["ana.2"]


def test_read_is_repeated_after_unavailable(client: Client, cluster: FakeCluster) -> None:
    cluster.faults["GetCaller"] = [UNAVAILABLE, UNAVAILABLE]
    assert client.users.caller().name == "ana"
    assert cluster.calls.count("GetCaller") == 3


def test_creation_is_repeated_with_the_same_request_id(
    client: Client, cluster: FakeCluster
) -> None:
    cluster.faults["CreateExperiment"] = [UNAVAILABLE]
    assert client.experiments.create(SPEC).experiment.id == "ana.1"
    assert cluster.calls.count("CreateExperiment") == 2


def test_call_that_is_not_harmless_twice_is_sent_once(client: Client, cluster: FakeCluster) -> None:
    cluster.faults["RemoveFile"] = [UNAVAILABLE]
    with pytest.raises(errors.Unavailable):
        client.storage.remove("data://x")
    assert cluster.calls.count("RemoveFile") == 1


def test_other_errors_are_not_repeated(client: Client, cluster: FakeCluster) -> None:
    cluster.faults["GetCaller"] = [(grpc.StatusCode.RESOURCE_EXHAUSTED, "the disk is full", "FULL")]
    with pytest.raises(errors.ResourceExhausted) as caught:
        client.users.caller()
    assert cluster.calls.count("GetCaller") == 1
    assert (caught.value.message, caught.value.reason) == ("the disk is full", "FULL")
    assert caught.value.metadata == {"id": "x"}


def test_field_violations_come_with_their_paths(client: Client, cluster: FakeCluster) -> None:
    cluster.violations = (("train.image", "cannot be run here"),)
    cluster.faults["CreateExperiment"] = [(grpc.StatusCode.INVALID_ARGUMENT, "wrong", "SPEC")]
    with pytest.raises(errors.InvalidRequest) as caught:
        client.experiments.create(SPEC)
    assert caught.value.violations == (errors.FieldViolation("train.image", "cannot be run here"),)


def test_unknown_call_is_a_mismatch_of_versions(client: Client) -> None:
    with pytest.raises(errors.VersionMismatch, match="another version"):
        list(client.users.list_keys())


def test_nobody_there_says_how_to_start_a_cluster() -> None:
    credentials = Credentials("127.0.0.1:1", "key")
    with (
        Client(credentials, Transport(credentials, backoff=AT_ONCE)) as client,
        pytest.raises(errors.Unavailable, match="riseml up"),
    ):
        client.users.caller()


def test_pauses_between_tries_are_taken(address: str, cluster: FakeCluster) -> None:
    cluster.faults["GetCaller"] = [UNAVAILABLE, UNAVAILABLE]
    credentials = Credentials(address, "riseml_test-key")
    slept: list[float] = []
    transport = Transport(credentials, backoff=Backoff(tries=3), sleep=slept.append)
    with Client(credentials, transport) as client:
        client.users.caller()
    assert len(slept) == 2 and all(0.04 < pause < 0.3 for pause in slept)


def test_stream_ends_when_it_is_cancelled(client: Client, cluster: FakeCluster) -> None:
    cluster.put(one("ana.1"))
    stream = client.experiments.watch(change_number=1)
    cluster.put(one("ana.2"))
    found = []
    for change in stream:
        found.append(change.experiment.id)
        stream.cancel()
    assert found == ["ana.2"]


def test_connect_reads_the_environment(address: str, tmp_path: object) -> None:
    environ = {
        "RISEML_CONFIG_DIR": str(tmp_path),
        "RISEML_SERVER": address,
        "RISEML_API_KEY": "riseml_test-key",
    }
    with connect(environ) as client:
        assert client.users.caller().name == "ana"


def test_beyond_loopback_nothing_is_sent_in_the_clear() -> None:
    """The name resolves to loopback, where a plain-text server could answer: it must not be
    asked.
    """
    credentials = Credentials("localhost.:1", "key")
    assert not credentials.loopback
    with (
        Client(credentials, Transport(credentials, backoff=AT_ONCE)) as client,
        pytest.raises(errors.Unavailable),
    ):
        client.users.caller()
