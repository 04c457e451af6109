"""Copies that go on where they stopped and never leave their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from riseml.client import Client
from riseml.errors import DataLoss, NotFound, TransferError, Unavailable
from riseml.revisions import download_revision
from riseml.storage import Copier, parse_place
from riseml.sync import sync_tree
from riseml.v1 import project_pb2, storage_service_pb2
from tests.unit.sdk.fake_cluster import FakeCluster
from tests.unit.sdk.fake_services import AT_ONCE

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture
def copier(client: Client, told: list[tuple[str, int, int]]) -> Copier:
    return Copier(
        client,
        progress=lambda name, done, total: told.append((name, done, total)),
        backoff=AT_ONCE,
        sleep=lambda _: None,
    )


@pytest.mark.parametrize("content", [b"", b"x", CONTENT])
def test_upload_arrives_whole(
    copier: Copier, cluster: FakeCluster, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "f").write_bytes(content)
    copier.upload(tmp_path / "f", parse_place("data://a/f"))
    assert cluster.files == {"a/f": content} and not cluster.partial


@pytest.mark.parametrize("place", range(0, 5))
def test_broken_upload_goes_on(
    copier: Copier,
    cluster: FakeCluster,
    tmp_path: Path,
    told: list[tuple[str, int, int]],
    place: int,
) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    cluster.cut_write_after = place
    copier.upload(tmp_path / "f", parse_place("data://f"))
    assert cluster.files == {"f": CONTENT}
    assert told[-1] == ("f", len(CONTENT), len(CONTENT))


def test_upload_starts_anew_over_the_part_of_another_file(
    copier: Copier, cluster: FakeCluster, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(CONTENT)
    cluster.partial["f"] = b"something else"
    copier.upload(tmp_path / "f", parse_place("data://f"))
    assert cluster.files == {"f": CONTENT}


def test_upload_that_never_matches_is_given_up(
    client: Client, cluster: FakeCluster, tmp_path: Path
) -> None:
    import grpc

    (tmp_path / "f").write_bytes(b"x")
    cluster.faults["WriteFile"] = [(grpc.StatusCode.DATA_LOSS, "not the same", "")] * 9
    with pytest.raises(DataLoss):
        Copier(client, backoff=AT_ONCE, sleep=lambda _: None).upload(
            tmp_path / "f", parse_place("data://f")
        )


def test_tree_is_uploaded_once(copier: Copier, cluster: FakeCluster, tmp_path: Path) -> None:
    for name in ("a/one", "two"):
        file = tmp_path / "t" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        os.utime(file, (1_600_000_000, 1_600_000_000))
    assert copier.upload_tree(tmp_path / "t", parse_place("data://t")) == 2
    assert cluster.files == {"t/a/one": b"a/one", "t/two": b"two"}
    cluster.calls.clear()
    assert copier.upload_tree(tmp_path / "t", parse_place("data://t")) == 2
    assert "WriteFile" not in cluster.calls


def test_links_are_not_uploaded_nor_what_lies_beside_them(
    copier: Copier, cluster: FakeCluster, tmp_path: Path
) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "before").write_text("x")
    (tmp_path / "t" / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(TransferError, match="is a link"):
        copier.upload_tree(tmp_path / "t", parse_place("data://t"))
    assert not cluster.files
    with pytest.raises(TransferError):
        copier.upload(tmp_path / "t" / "passwd", parse_place("data://t"))


@pytest.mark.parametrize("place", [-1, 0, 1, 500])
def test_download_arrives_whole_through_broken_connections(
    copier: Copier, cluster: FakeCluster, tmp_path: Path, place: int
) -> None:
    cluster.files["a/f"] = CONTENT
    cluster.cut_read_after = place
    copier.download(parse_place("data://a/f"), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_download_goes_on_in_another_run(
    client: Client, cluster: FakeCluster, tmp_path: Path, told: list[tuple[str, int, int]]
) -> None:
    cluster.files["f"] = CONTENT
    cluster.cut_read_after = 10

    def give_up(seconds: float) -> None:
        raise Unavailable("given up")

    with pytest.raises(Unavailable):
        Copier(client, sleep=give_up).download(parse_place("data://f"), tmp_path / "f")
    assert not (tmp_path / "f").exists()
    Copier(client, progress=lambda *step: told.append(step)).download(
        parse_place("data://f"), tmp_path / "f"
    )
    assert told[0] == ("f", 10_000, len(CONTENT))
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_tree_is_downloaded_once(copier: Copier, cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.files = {"t/a/one": b"1", "t/two": b"2", "other": b"3"}
    assert copier.download_tree(parse_place("data://t"), tmp_path / "t") == 2
    assert (tmp_path / "t" / "a" / "one").read_bytes() == b"1"
    assert not (tmp_path / "t" / "other").exists()
    cluster.calls.clear()
    copier.download_tree(parse_place("data://t"), tmp_path / "t")
    assert "ReadFile" not in cluster.calls


@pytest.mark.parametrize("path", ["../evil", "t/../../evil", "/etc/evil", "elsewhere/x"])
def test_server_cannot_write_outside_of_the_folder(
    copier: Copier, client: Client, tmp_path: Path, path: str
) -> None:
    class Liar:
        def list(self, uri: str, recursive: bool) -> list[storage_service_pb2.FileInfo]:
            return [storage_service_pb2.FileInfo(path=path, size_bytes=1)]

    copier._storage = Liar()  # type: ignore[assignment]
    with pytest.raises(TransferError):
        copier.download_tree(parse_place("data://t"), tmp_path / "t")


def test_missing_file_is_told(copier: Copier, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        copier.download(parse_place("data://none"), tmp_path / "f")


@pytest.mark.parametrize(
    ("text", "tree", "path"),
    [
        ("data://", "data://", ""),
        ("data://a/b/", "data://", "a/b"),
        ("output://17", "output://17/", ""),
        ("output://17/a/b", "output://17/", "a/b"),
        ("output://ana.17.3/a", "output://ana.17.3/", "a"),
    ],
)
def test_places_are_read(text: str, tree: str, path: str) -> None:
    found = parse_place(text)
    assert (found.tree, found.path) == (tree, path)


@pytest.mark.parametrize("text", ["", "a", "file://a", "output://", "data://../x", "data://a/./b"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(TransferError):
        parse_place(text)


@pytest.fixture
def revision(client: Client, tmp_path: Path) -> str:
    root = tmp_path / "project"
    (root / "sub").mkdir(parents=True)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "sub" / "same").write_text("twice")
    (root / "same").write_text("twice")
    (root / "empty").touch()
    return sync_tree(client, root, "digits", cache=tmp_path / "cache").id


def test_code_comes_back_as_it_was_sent(client: Client, revision: str, tmp_path: Path) -> None:
    assert download_revision(client, revision, tmp_path / "back") == 4
    for name in ("run.sh", "sub/same", "same", "empty"):
        back, sent = tmp_path / "back" / name, tmp_path / "project" / name
        assert back.read_bytes() == sent.read_bytes()
        assert back.stat().st_mode & 0o111 == sent.stat().st_mode & 0o111


def test_only_missing_code_is_fetched(
    client: Client, cluster: FakeCluster, revision: str, tmp_path: Path
) -> None:
    download_revision(client, revision, tmp_path / "back")
    (tmp_path / "back" / "run.sh").unlink()
    seen: list[int] = []
    download_revision(
        client, revision, tmp_path / "back", progress=lambda name, done, total: seen.append(total)
    )
    assert set(seen) == {10}
    assert (tmp_path / "back" / "run.sh").exists()


def test_code_cannot_be_written_outside_of_the_folder(
    client: Client, cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.revisions["bad"] = [project_pb2.ManifestEntry(path="../evil", sha256=b"x" * 32)]
    with pytest.raises(TransferError, match="leaves"):
        download_revision(client, "bad", tmp_path / "back")


def test_damaged_code_is_not_kept(
    client: Client, cluster: FakeCluster, revision: str, tmp_path: Path
) -> None:
    for sha256 in cluster.blobs:
        cluster.blobs[sha256] = b"damaged!"
    with pytest.raises(TransferError, match="damaged"):
        download_revision(client, revision, tmp_path / "back")
    assert not list((tmp_path / "back").rglob("*.sh"))
