"""A control plane for pods whose Kubernetes does not answer: it serves, and says what it lacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from riseml import errors
from riseml.v1 import state_pb2
from tests.integration.cluster import Cluster, running_cluster, spec, submit, wait_for
from tests.integration.scripted_daemon import ScriptedDaemon


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("config")
    with running_cluster(*options(folder), node=False) as started:
        yield started


def options(folder: Path) -> tuple[str, ...]:
    """Of a Kubernetes where nobody listens."""
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "c", "user": {}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
            }
        )
    )
    config = folder / "controlplane.toml"
    config.write_text(
        f'[kubernetes]\nkubeconfig = "{kubeconfig}"\nnamespace = "jobs"\n'
        'control_plane_address = "riseml:7433"\nplatform_image = "riseml/platform:1"\n'
    )
    return ("--config", str(config), "--launcher", "kubernetes")


def test_it_takes_experiments_which_wait(cluster: Cluster) -> None:
    client = cluster.client()
    experiment_id = submit(client, spec("true"))
    assert client.experiments.get(experiment_id).experiment.state == state_pb2.STATE_PENDING
    client.experiments.kill(experiment_id)
    assert client.experiments.get(experiment_id).experiment.state == state_pb2.STATE_KILLED


def test_a_share_of_a_gpu_is_refused_with_what_to_do(cluster: Cluster) -> None:
    with pytest.raises(errors.InvalidRequest, match="given out whole"):
        submit(cluster.client(), spec("true", gpu_milli=500))


def test_no_daemon_can_join(cluster: Cluster) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        ScriptedDaemon(cluster, "n9")
    assert "nodes are those of Kubernetes" in str(refused.value)


def test_it_says_in_its_log_what_is_missing(cluster: Cluster) -> None:
    said = "nodes are not being watched"
    wait_for(lambda: said in cluster.control_plane.log(), f"{said!r} in the log")
    assert cluster.control_plane.running
