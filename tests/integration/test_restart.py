"""What was made before a restart is there after it, and can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from riseml import errors
from riseml.sync import sync_tree
from riseml.v1 import state_pb2
from tests.integration.cluster import running_cluster, spec, submit


def test_the_same_code_is_the_same_revision_after_a_restart(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('hello')\n")
    with running_cluster(node=False) as cluster:
        client = cluster.client()
        first = sync_tree(client, tmp_path, "digits", cache=tmp_path.parent / "cache")
        assert cluster.control_plane.stop() == 0
        cluster.start_control_plane()
        again = sync_tree(client, tmp_path, "digits", cache=tmp_path.parent / "cache")
        assert again.id == first.id
        assert [p.name for p in client.projects.list()] == ["digits"]


def test_a_repeated_request_makes_nothing_twice_even_over_a_restart() -> None:
    with running_cluster(node=False) as cluster:
        client = cluster.client()
        first = client.experiments.create(spec("true"), request_id="the-same").experiment
        cluster.control_plane.kill()
        cluster.start_control_plane()
        again = client.experiments.create(spec("true"), request_id="the-same").experiment
        assert again.id == first.id
        assert len(list(client.experiments.list())) == 1


def test_numbers_go_on_and_a_watch_of_before_is_told_to_list_again() -> None:
    with running_cluster(node=False) as cluster:
        client = cluster.client()
        first = submit(client, spec("true"))
        number = client.experiments.get(first).change_number
        second = submit(client, spec("true"))
        cluster.control_plane.stop()
        cluster.start_control_plane()
        assert submit(client, spec("true")) == "admin.3"
        states = {e.id: e.state for e in client.experiments.list()}
        assert states == dict.fromkeys((first, second, "admin.3"), state_pb2.STATE_PENDING)
        with pytest.raises(errors.ChangesCompacted):
            list(client.experiments.watch(change_number=number))
