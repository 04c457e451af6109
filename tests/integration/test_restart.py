"""What was made before a restart is there after it, and can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from riseml import errors
from riseml.sync import sync_tree
from riseml.v1 import state_pb2
from tests.integration.cluster import (
    output,
    running_cluster,
    spec,
    submit,
    wait_for,
    wait_state,
)


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


def test_who_follows_a_log_that_retention_took_is_told_so_and_does_not_wait() -> None:
    with running_cluster() as cluster:
        client = cluster.client()
        experiment_id = submit(client, spec("echo gone"))
        wait_state(client, experiment_id, state_pb2.STATE_FINISHED)
        attempt_id = f"{experiment_id}.train.1-1"
        assert output(client, attempt_id) == b"gone\n"
        cluster.control_plane.stop()
        cluster.control_plane_options.append("--log-retention-days=0.000001")
        cluster.start_control_plane()
        logs = cluster.home / "control" / "logs"
        wait_for(lambda: not list(logs.rglob("*.log")), "the log to be removed")
        for follow in (True, False):
            answers = list(client.logs.tail(attempt_id, follow=follow))
            assert [a.WhichOneof("record") for a in answers] == ["gap", "eof"]
            assert answers[0].gap.reason == "removed by retention"
            assert answers[1].eof.final_offset == answers[0].gap.length_bytes > 0
