"""A folder to the server: only what is missing travels, through broken connections."""

from __future__ import annotations

import hashlib
from pathlib import Path

import grpc
import pytest

from riseml.client import Client
from riseml.errors import SyncError, Unavailable
from riseml.sync import Progress, sync_tree
from tests.unit.sdk.fake_cluster import FakeCluster
from tests.unit.sdk.fake_services import AT_ONCE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    made.mkdir()
    (made / "train.py").write_bytes(b"print(1)\n")
    (made / "big.bin").write_bytes(bytes(range(256)) * 2500)
    (made / "empty").touch()
    (made / "run.sh").write_text("#!/bin/sh\n")
    (made / "run.sh").chmod(0o755)
    return made


def send(client: Client, root: Path, progress: list[Progress] | None = None) -> str:
    return sync_tree(
        client,
        root,
        "digits",
        cache=root.parent / "cache",
        progress=None if progress is None else progress.append,
        backoff=AT_ONCE,
        sleep=lambda _: None,
    ).id


def test_all_content_arrives_with_modes(client: Client, cluster: FakeCluster, root: Path) -> None:
    entries = cluster.revisions[send(client, root)]
    assert [e.path for e in entries] == ["big.bin", "empty", "run.sh", "train.py"]
    assert [e.mode for e in entries] == [0o644, 0o644, 0o755, 0o644]
    for entry in entries:
        content = (root / entry.path).read_bytes()
        assert entry.size_bytes == len(content)
        assert cluster.blobs[entry.sha256] == content


def test_what_is_there_already_is_not_sent_again(
    client: Client, cluster: FakeCluster, root: Path
) -> None:
    first = send(client, root)
    cluster.calls.clear()
    told: list[Progress] = []
    send(client, root, told)
    assert "UploadBlobs" not in cluster.calls
    assert [p.total_bytes for p in told if p.phase == "send"] == [0]
    assert first in cluster.revisions


def test_only_a_changed_file_is_sent(client: Client, cluster: FakeCluster, root: Path) -> None:
    send(client, root)
    (root / "train.py").write_bytes(b"print(2)\n")
    told: list[Progress] = []
    send(client, root, told)
    assert {p.total_bytes for p in told if p.phase == "send"} == {9}


def test_progress_reaches_its_end(client: Client, root: Path) -> None:
    told: list[Progress] = []
    send(client, root, told)
    for phase in ("hash", "send"):
        last = [p for p in told if p.phase == phase][-1]
        assert last.done_bytes == last.total_bytes > 600_000


@pytest.mark.parametrize("place", range(0, 6))
def test_broken_connection_goes_on_where_it_stopped(
    client: Client, cluster: FakeCluster, root: Path, place: int
) -> None:
    cluster.cut_upload_after = place
    entries = cluster.revisions[send(client, root)]
    assert all(e.sha256 in cluster.blobs for e in entries)
    assert cluster.calls.count("UploadBlobs") == 2


def test_server_that_stays_away_is_told(client: Client, cluster: FakeCluster, root: Path) -> None:
    cluster.faults["UploadBlobs"] = [(grpc.StatusCode.UNAVAILABLE, "away", "")] * 99
    with pytest.raises(Unavailable):
        send(client, root)
    assert cluster.calls.count("UploadBlobs") == AT_ONCE.tries


def test_file_that_changes_while_it_is_sent_is_noticed(
    client: Client, cluster: FakeCluster, root: Path
) -> None:
    def change(progress: Progress) -> None:
        if progress.phase == "send" and progress.done_bytes == 0:
            (root / "big.bin").write_bytes(bytes(640_000))

    with pytest.raises(SyncError, match=r"big\.bin changed while it was sent"):
        sync_tree(client, root, "digits", cache=root.parent / "cache", progress=change)
    expected = hashlib.sha256(bytes(range(256)) * 2500).digest()
    assert expected not in cluster.blobs


def test_folder_without_files_is_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(SyncError, match="no files"):
        sync_tree(client, tmp_path, "digits", cache=tmp_path)
