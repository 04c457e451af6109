"""What pods write: kept in a volume, each experiment in a folder of its own, read through us."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client as kube

from riseml import errors
from riseml.spec.model import RetryPolicy
from riseml.v1 import state_pb2
from tests.e2e.cluster.control import CONTROL
from tests.e2e.platform import POD_SECONDS, PodCluster, job, pod_cluster
from tests.integration.cluster import ENDED, output, submit, wait_state

pytestmark = pytest.mark.timeout(4 * POD_SECONDS)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Of the one node, which is this machine."""
    if not os.environ.get(CONTROL):
        pytest.skip("the folders of this cluster's nodes are not ours")
    made = Path(tempfile.mkdtemp(prefix="riseml-e2e-output-"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def platform(
    api: kube.ApiClient, request: pytest.FixtureRequest, image_prefix: str, folder: Path
) -> Iterator[PodCluster]:
    host = request.config.getoption("--control-plane-host")
    volume = {"output_volume": f"hostPath:{folder}", "pod_security": "privileged"}
    with pod_cluster(kube.CoreV1Api(api), host, image_prefix, **volume) as cluster:
        cluster.control_plane.stop()
        cluster.control_plane_options += ["--output-root", str(folder)]
        cluster.start_control_plane()
        yield cluster


def test_output_outlives_its_pod_and_is_read_by_name(platform: PodCluster, folder: Path) -> None:
    client = platform.client()
    ids = [submit(client, job(f"printf {n} > $OUTPUT_DIR/model; ls $OUTPUT_DIR")) for n in "ab"]
    for experiment_id, content in zip(ids, (b"a", b"b"), strict=True):
        found = wait_state(client, experiment_id, *ENDED, seconds=POD_SECONDS)
        assert found.state == state_pb2.STATE_FINISHED, found
        uri = f"output://{experiment_id}/"
        assert b"".join(r.data for r in client.storage.read(f"{uri}model")) == content
        names = {file.path for file in client.storage.list(uri)}
        assert names == {"model", "riseml-configuration.yml"}
        # Nothing of another experiment is in sight.
        assert set(output(client, f"{experiment_id}.train.1-1").decode().split()) == names
        path = folder / "admin" / "e2e" / experiment_id.partition(".")[2]
        configuration = yaml.safe_load((path / "riseml-configuration.yml").read_text())
        assert configuration["experiment"] == experiment_id
    with pytest.raises(errors.NotFound, match="none"):
        list(client.storage.read(f"output://{ids[0]}/none"))


def test_another_try_goes_on_with_what_the_first_left(platform: PodCluster) -> None:
    client = platform.client()
    script = (
        'if [ -f "$RISEML_RESUME_DIR/state" ]; then cat "$RISEML_RESUME_DIR/state"; exit 0; fi; '
        "echo saved > $OUTPUT_DIR/state; exit 1"
    )
    retry = RetryPolicy(max_retries=1, on_events=("error",))
    experiment_id = submit(client, job(script, retry=retry))
    found = wait_state(client, experiment_id, *ENDED, seconds=2 * POD_SECONDS)
    assert found.state == state_pb2.STATE_FINISHED, found
    assert output(client, f"{experiment_id}.train.1-2") == b"saved\n"
