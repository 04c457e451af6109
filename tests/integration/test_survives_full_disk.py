"""A full disk under the daemon's spool or the database: a clear error, jobs go on, nothing is
corrupted.

These tests fill a small tmpfs, which only root can mount; the same faults are injected at our own
file protocols in the unit tests of the archive, the file area, the shipper and the store.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from riseml.errors import ResourceExhausted, RisemlError
from riseml.sync import sync_tree
from riseml.v1 import state_pb2
from tests.integration.cluster import (
    DEADLINE_SECONDS,
    output,
    running_cluster,
    spec,
    submit,
    wait_for,
    wait_state,
)
from tests.integration.small_disk import fill, needs_root, small_disk


@needs_root
@pytest.mark.timeout(120)
def test_a_full_database_disk_refuses_clearly_and_goes_on_when_there_is_space_again() -> None:
    with running_cluster(node=False) as cluster:
        cluster.control_plane.stop()
        database = cluster.home / "control" / "db"
        kept = {path.name: path.read_bytes() for path in database.iterdir()}
        with small_disk(database, "4m"):
            for name, content in kept.items():
                (database / name).write_bytes(content)
            cluster.start_control_plane()
            cluster.start_node()
            folder = cluster.home / "shared"
            folder.mkdir()
            folder.chmod(0o777)
            client = cluster.client()
            job = f"while [ ! -e {folder}/stop ]; do echo tick; sleep 0.05; done; echo end"
            running = submit(client, spec(job))
            wait_state(client, running, state_pb2.STATE_RUNNING)

            ballast = fill(database)
            acknowledged: list[str] = []

            def refused() -> RisemlError | None:
                try:
                    acknowledged.append(submit(client, spec("true", cpu_milli=4_000_000)))
                except RisemlError as error:
                    return error
                return None

            error = wait_for(refused, "the full disk to be noticed")
            assert "full" in str(error).lower() or "space" in str(error).lower()
            info = client.system.info()
            assert any("space" in w.lower() or "full" in w.lower() for w in info.warnings)
            state = client.experiments.get(running).experiment.state
            assert state == state_pb2.STATE_RUNNING, "a full disk ended a job"

            ballast.unlink()
            wait_for(lambda: refused() is None, "submissions to work again")
            (folder / "stop").touch()
            wait_state(client, running, state_pb2.STATE_FINISHED)
            assert output(client, f"{running}.train.1-1").endswith(b"tick\nend\n")

            cluster.control_plane.kill()
            cluster.start_control_plane()
            listed = {e.id for e in client.experiments.list()}
            assert {running, *acknowledged} <= listed, "an acknowledged experiment is gone"
            cluster.nodes["n1"].kill()
            cluster.control_plane.stop()


@needs_root
@pytest.mark.timeout(120)
def test_a_full_spool_disk_leaves_the_job_running_and_names_what_was_lost() -> None:
    with running_cluster(node=False) as cluster, small_disk(cluster.home / "node", "3m"):
        cluster.control_plane.stop()
        cluster.start_control_plane()
        cluster.start_node()
        folder = cluster.home / "shared"
        folder.mkdir()
        folder.chmod(0o777)
        client = cluster.client()
        job = (
            f"echo first; while [ ! -e {folder}/print ]; do sleep 0.05; done; "
            f"yes 0123456789 | head -c 300000; touch {folder}/printed; "
            f"while [ ! -e {folder}/stop ]; do sleep 0.05; done; echo last; exit 5"
        )
        experiment_id = submit(client, spec(job))
        wait_state(client, experiment_id, state_pb2.STATE_RUNNING)
        attempt_id = f"{experiment_id}.train.1-1"
        wait_for(lambda: output(client, attempt_id, follow=False) == b"first\n", "the first line")

        ballast = fill(cluster.home / "node")
        (folder / "print").touch()
        # The pipe is drained although nothing can be written: the job is not held up.
        wait_for((folder / "printed").exists, "the job to print and go on")
        assert client.experiments.get(experiment_id).experiment.state == state_pb2.STATE_RUNNING
        ballast.unlink()
        gap = b"bytes of output were lost here: No space left on device"
        wait_for(lambda: gap in output(client, attempt_id, follow=False), "the gap to be told")
        (folder / "stop").touch()

        ended = wait_state(client, experiment_id, state_pb2.STATE_FAILED, seconds=DEADLINE_SECONDS)
        assert "5" in ended.message
        printed = output(client, attempt_id)
        assert printed.startswith(b"first\n")
        assert printed.endswith(b"last\n")
        cluster.nodes["n1"].stop()


@needs_root
@pytest.mark.timeout(120)
def test_a_full_archive_disk_loses_nothing_and_a_full_code_store_refuses_clearly(
    tmp_path: Path,
) -> None:
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(running_cluster(node=False))
        cluster.control_plane.stop()
        disk = stack.enter_context(small_disk(cluster.home / "full", "12m"))
        for name in ("logs", "blobs"):
            shutil.rmtree(cluster.home / "control" / name, ignore_errors=True)
            (disk / name).mkdir(mode=0o700)
            (cluster.home / "control" / name).symlink_to(disk / name)
        cluster.start_control_plane()
        cluster.start_node()
        folder = cluster.home / "shared"
        folder.mkdir()
        folder.chmod(0o777)
        client = cluster.client()
        job = (
            f"echo first; while [ ! -e {folder}/print ]; do sleep 0.05; done; "
            f"head -c 3000000 /dev/urandom | base64 > {folder}/printed; "
            f"cat {folder}/printed; touch {folder}/done; exit 5"
        )
        experiment_id = submit(client, spec(job))
        attempt_id = f"{experiment_id}.train.1-1"
        wait_for(lambda: output(client, attempt_id, follow=False) == b"first\n", "the first line")

        ballast = fill(disk)
        (folder / "print").touch()
        wait_for((folder / "done").exists, "the job to print all that it has")
        wait_for(lambda: "not stored yet" in cluster.nodes["n1"].log(), "the daemon to be told")
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "big").write_bytes(os.urandom(1 << 20))
        with pytest.raises(ResourceExhausted, match="Free space under"):
            sync_tree(client, tmp_path / "code", "digits", cache=tmp_path / "cache")
        assert not list((disk / "blobs").rglob(".partial-*"))

        ballast.unlink()
        sync_tree(client, tmp_path / "code", "digits", cache=tmp_path / "cache")
        assert wait_state(client, experiment_id, state_pb2.STATE_FAILED).message
        assert output(client, attempt_id) == b"first\n" + (folder / "printed").read_bytes()
        for program in (cluster.nodes["n1"], cluster.control_plane):
            assert program.stop() == 0
