"""Beyond loopback everything is TLS with the cluster's own CA, for users and daemons alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from riseml import errors
from riseml.client import Client
from riseml.credentials import Credentials
from riseml.v1 import state_pb2
from tests.integration.cluster import Cluster, output, running_cluster, spec, submit, wait_state


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # On all addresses, as on a real network; the tests reach it by loopback.
    with running_cluster(host="0.0.0.0") as started:
        yield started


def test_a_job_runs_with_everything_encrypted(cluster: Cluster) -> None:
    client = cluster.client()
    assert client.system.info().tls
    experiment_id = submit(client, spec("echo over tls"))
    wait_state(client, experiment_id, state_pb2.STATE_FINISHED)
    assert output(client, f"{experiment_id}.train.1-1") == b"over tls\n"


def test_plain_text_is_not_answered(cluster: Cluster) -> None:
    port = cluster.address.rpartition(":")[2]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as refused:
            call: Any = channel.unary_unary("/riseml.v1.UserService/GetCaller")
            call(b"", timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_client_with_another_ca_does_not_send_its_key(cluster: Cluster) -> None:
    with running_cluster(host="0.0.0.0", node=False) as other:
        port = cluster.address.rpartition(":")[2]
        stranger = Client(
            Credentials(server=f"127.0.0.1:{port}", user="admin", api_key="x", ca_pem=other.ca_pem)
        )
        with stranger, pytest.raises(errors.Unavailable):
            stranger.users.caller()


def test_a_daemon_can_pin_the_ca_by_its_fingerprint(cluster: Cluster) -> None:
    made = cluster.client().nodes.create_token("n2")
    assert len(made.ca_fingerprint) == 64
    folder = cluster.home / "node" / "n2"
    folder.mkdir(mode=0o711)
    (folder / "token").write_text(json.dumps({"node_name": "n2", "token": made.token}))
    cluster.start_node("n2", options=("--ca-fingerprint", made.ca_fingerprint))
