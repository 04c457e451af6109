"""Outputs that the control plane sees itself need no daemon."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from riseml import errors
from riseml.v1 import state_pb2
from tests.integration.cluster import running_cluster, spec, submit, wait_state


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that users' uids can pass through."""
    made = Path(tempfile.mkdtemp(prefix="riseml-test-output-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_outputs_are_served_without_their_node(root: Path) -> None:
    with running_cluster("--output-root", str(root), node=False) as cluster:
        node = cluster.start_node(options=("--output-root", str(root)))
        client = cluster.client()
        experiment_id = submit(
            client, spec("mkdir $OUTPUT_DIR/a; printf weights > $OUTPUT_DIR/a/model")
        )
        wait_state(client, experiment_id, state_pb2.STATE_FINISHED)
        node.kill()
        uri = f"output://{experiment_id}/"
        assert "a/model" in {f.path for f in client.storage.list(uri, recursive=True)}
        assert b"".join(r.data for r in client.storage.read(f"{uri}a/model")) == b"weights"
        with pytest.raises(errors.NotFound, match="none"):
            list(client.storage.read(f"{uri}none"))
