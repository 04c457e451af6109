"""Who may do what, asked of a real control plane: nothing anonymous, nothing of others, daemons
apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from controlplane.rpc.access import ACCESS, Access
from riseml import errors
from riseml.client import Client
from riseml.v1 import state_pb2
from tests.integration.cluster import Cluster, running_cluster, spec, submit
from tests.integration.empty_calls import Method, call_empty, methods


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(node=False) as started:
        yield started


@pytest.fixture(scope="module")
def ana(cluster: Cluster) -> Client:
    return user(cluster, "ana")


@pytest.fixture(scope="module")
def paul(cluster: Cluster) -> Client:
    return user(cluster, "paul")


def user(cluster: Cluster, name: str) -> Client:
    created = cluster.client().users.create(name)
    return cluster.client_as(name, created.api_key)


@pytest.mark.parametrize("method", methods(), ids=lambda m: m[0].rpartition(".")[2])
@pytest.mark.parametrize("key", [None, "riseml_wrong", ""])
def test_no_call_is_answered_without_a_valid_credential(
    cluster: Cluster, method: Method, key: str | None
) -> None:
    with grpc.insecure_channel(cluster.address) as channel:
        code, details = call_empty(channel, method, key)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    assert info.domain == "riseml"


def test_health_is_served_to_anyone_and_reflection_to_users(cluster: Cluster) -> None:
    with grpc.insecure_channel(cluster.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "riseml.v1.ExperimentService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as refused:
            list(reflection.ServerReflectionInfo(iter([request]), timeout=10))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        metadata = (("authorization", f"Bearer {cluster.admin_key}"),)
        (listed,) = reflection.ServerReflectionInfo(iter([request]), timeout=10, metadata=metadata)
    names = {service.name for service in listed.list_services_response.service}
    assert {"riseml.v1.ExperimentService", "riseml.v1.DaemonService"} <= names


@pytest.mark.parametrize(
    "method",
    [m for m in methods() if ACCESS[m[0]] is Access.ADMIN],
    ids=lambda m: m[0].rpartition(".")[2],
)
def test_users_may_not_do_what_admins_do(cluster: Cluster, ana: Client, method: Method) -> None:
    with grpc.insecure_channel(cluster.address) as channel:
        code, _ = call_empty(channel, method, ana.credentials.api_key)
    assert code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "method", [m for m in methods() if ACCESS[m[0]] is Access.NODE], ids=lambda m: m[0][-12:]
)
def test_users_keys_open_nothing_of_the_daemons_and_node_tokens_nothing_of_the_users(
    cluster: Cluster, method: Method
) -> None:
    token = cluster.client().nodes.create_token("n7").token
    with grpc.insecure_channel(cluster.address) as channel:
        code, _ = call_empty(channel, method, cluster.admin_key)
        assert code is grpc.StatusCode.UNAUTHENTICATED
        caller = ("/riseml.v1.UserService/GetCaller", False, False)
        code, _ = call_empty(channel, caller, token)
        assert code is grpc.StatusCode.UNAUTHENTICATED


def test_experiments_of_others_exist_and_that_is_all(
    cluster: Cluster, ana: Client, paul: Client
) -> None:
    experiment_id = submit(ana, spec("echo secret"))
    for forbidden in (
        lambda: paul.experiments.get(experiment_id),
        lambda: paul.experiments.kill(experiment_id),
        lambda: list(paul.logs.tail(experiment_id)),
        lambda: list(paul.results.list(experiment_id)),
        lambda: list(paul.storage.list(f"output://{experiment_id}/")),
        lambda: list(paul.experiments.watch(experiment_id)),
    ):
        with pytest.raises(errors.NotFound):
            forbidden()
    assert not list(paul.experiments.list())
    (seen,) = [e for e in paul.experiments.list(user_name="*") if e.id == experiment_id]
    assert seen.state == state_pb2.STATE_PENDING
    assert not seen.jobs
    assert not seen.HasField("spec")
    assert cluster.client().experiments.get(experiment_id).experiment.spec.run == ["echo secret"]


def test_a_disabled_user_is_refused_at_once(cluster: Cluster) -> None:
    eve = user(cluster, "eve")
    assert eve.users.caller().name == "eve"
    cluster.client().users.update("eve", enabled=False)
    with pytest.raises(errors.Unauthenticated, match="disabled"):
        eve.users.caller()


def test_a_revoked_key_opens_nothing(cluster: Cluster) -> None:
    admin = cluster.client()
    admin.users.create("ben")
    made = admin.users.create_key(user_name="ben", description="for a robot")
    robot = cluster.client_as("ben", made.api_key)
    assert robot.users.caller().name == "ben"
    robot.users.delete_key(made.key.id)
    with pytest.raises(errors.Unauthenticated):
        robot.users.caller()


def test_wrong_fields_are_named(cluster: Cluster, ana: Client) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        submit(ana, spec("true", cpu_milli=-1))
    assert any("cpus" in v.path for v in refused.value.violations)


def test_an_image_is_refused_at_submission_with_a_reason(ana: Client) -> None:
    from dataclasses import replace

    with pytest.raises(errors.InvalidRequest, match="cannot run images"):
        submit(ana, replace(spec("true"), image="pytorch/pytorch:2.9.0"))
