"""What the token in a pod opens: the code of its own attempt, and nothing of anybody else's."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import grpc
import pytest

from riseml.client import Client
from riseml.sync import sync_tree
from riseml.v1 import daemon_service_pb2 as pb
from riseml.v1 import state_pb2
from tests.e2e.platform import POD_SECONDS, PodCluster, job
from tests.integration.cluster import wait_state
from tests.integration.empty_calls import call_empty, methods

pytestmark = pytest.mark.timeout(4 * POD_SECONDS)
FETCH = "/riseml.v1.DaemonService/FetchRevision"


def run_with_code(client: Client, folder: Path, text: str) -> tuple[str, str]:
    """The ids of an experiment that runs, and of its revision."""
    folder.mkdir()
    (folder / "secret.txt").write_text(text)
    revision = sync_tree(client, folder, "e2e", cache=folder.parent / "cache")
    wanted = job("trap 'exit 0' TERM; while :; do sleep 0.2; done")
    created = client.experiments.create(wanted, revision_id=revision.id).experiment
    wait_state(client, created.id, state_pb2.STATE_RUNNING, seconds=POD_SECONDS)
    return created.id, revision.id


def token_of(platform: PodCluster, attempt_id: str) -> str:
    """As the pod gets it, from a Secret."""
    (code,) = platform.pod_of(attempt_id).spec.init_containers
    (variable,) = [one for one in code.env if one.name == "RISEML_TOKEN"]
    key = variable.value_from.secret_key_ref
    secret = platform.core.read_namespaced_secret(key.name, platform.namespace)
    return base64.b64decode(secret.data[key.key]).decode()


def fetch(channel: grpc.Channel, token: str, attempt_id: str, revision_id: str) -> grpc.StatusCode:
    call: Any = channel.unary_stream(
        FETCH,
        request_serializer=pb.FetchRevisionRequest.SerializeToString,
        response_deserializer=pb.FetchRevisionResponse.FromString,
    )
    request = pb.FetchRevisionRequest(revision_id=revision_id, attempt_id=attempt_id)
    try:
        list(call(request, timeout=10, metadata=[("authorization", f"Bearer {token}")]))
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_a_jobs_token_opens_its_own_code_only(platform: PodCluster, tmp_path: Path) -> None:
    client = platform.client()
    own, own_code = run_with_code(client, tmp_path / "own", "mine")
    other, other_code = run_with_code(client, tmp_path / "other", "of somebody else")
    attempt = f"{own}.train.1-1"
    token = token_of(platform, attempt)
    credentials = grpc.ssl_channel_credentials(platform.ca_pem.encode())
    port = platform.address.rpartition(":")[2]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        assert fetch(channel, token, attempt, own_code) is grpc.StatusCode.OK
        for attempt_id, revision_id in (
            (attempt, other_code),
            (f"{other}.train.1-1", other_code),
            (f"{other}.train.1-1", own_code),
        ):
            code = fetch(channel, token, attempt_id, revision_id)
            assert code is grpc.StatusCode.NOT_FOUND
        for method in methods():
            if method[0] != FETCH:
                assert call_empty(channel, method, token)[0] is grpc.StatusCode.UNAUTHENTICATED
    # The job's own container has no credential of any kind.
    (container,) = platform.pod_of(attempt).spec.containers
    assert token not in str(container)
    for experiment_id in (own, other):
        client.experiments.kill(experiment_id)
