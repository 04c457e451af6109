"""Content-addressed code: blobs are whole or absent, manifests canonical."""

from __future__ import annotations

import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.code import manifest
from controlplane.code.blobs import Blobs
from controlplane.code.manifest import ManifestFile
from controlplane.domain.errors import DataLoss, InvalidRequest, NotFound


def entry(path: str, mode: int = 0o644, size: int = 1) -> ManifestFile:
    return ManifestFile(path, mode, size, hashlib.sha256(path.encode()).digest())


def test_a_blob_that_does_not_match_its_hash_is_not_kept(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    claimed = hashlib.sha256(b"what was said").digest()
    writer = blobs.writer("ana", claimed, 5)
    writer.write(b"other")
    with pytest.raises(DataLoss):
        writer.finish()
    writer.close()
    assert blobs.missing("ana", [claimed]) == [claimed]
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_closing_waits_for_a_chunk_that_another_thread_writes(tmp_path: Path) -> None:
    """Else the chunk goes to whatever file gets the descriptor's number next."""
    writer = Blobs(tmp_path).writer("ana", b"\0" * 32, 200 << 20)
    other = tmp_path / "other"
    chunk = b"x" * (50 << 20)
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(writer.write, chunk)
        writer.close()
        with other.open("wb"):
            with contextlib.suppress(ValueError):  # had it not begun yet
                writing.result()
            with pytest.raises(ValueError, match="not received any more"):
                writer.write(b"late")
    assert other.read_bytes() == b""
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p != other]


def test_what_a_cut_off_upload_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    kept = blobs.put("ana", b"whole")
    blobs.writer("ana", b"\1" * 32, 100).write(b"cut off he")
    assert Blobs(tmp_path).remove_partials() == 1
    assert blobs.missing("ana", [kept, b"\1" * 32]) == [b"\1" * 32]


def test_more_bytes_than_announced_are_refused_at_once(tmp_path: Path) -> None:
    writer = Blobs(tmp_path).writer("ana", b"\0" * 32, 3)
    with pytest.raises(DataLoss, match="longer than the 3 bytes"):
        writer.write(b"four")
    writer.close()


def test_knowing_the_hash_of_anothers_file_gives_nothing_away(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    sha256 = blobs.put("ana", b"secret")
    assert blobs.missing("ana", [sha256]) == []
    assert blobs.missing("paul", [sha256]) == [sha256]
    with pytest.raises(NotFound):
        list(blobs.chunks("paul", sha256))


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, 600_000])
def test_chunks_give_back_the_content(tmp_path: Path, size: int) -> None:
    blobs = Blobs(tmp_path)
    content = bytes(range(256)) * (size // 256 + 1)
    sha256 = blobs.put("ana", content[:size])
    assert b"".join(blobs.chunks("ana", sha256)) == content[:size]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../b", "a//b", "", "a/./b", ".git/config", "a\nb"]
)
def test_paths_that_leave_the_tree_or_are_not_normal_are_refused(path: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        manifest.check([entry(path)])
    assert refused.value.violations[0].path == "entries[0].path"


@pytest.mark.parametrize(
    "files",
    [
        [entry("b"), entry("a")],
        [entry("a"), entry("a")],
        [entry("a"), entry("a/b")],
        [entry("a", mode=0o777)],
        [entry("a", size=-1)],
        [entry("a", size=5 << 30)],
        [ManifestFile("a", 0o644, 1, b"short")],
    ],
)
def test_manifests_that_are_not_canonical_are_refused(files: list[ManifestFile]) -> None:
    with pytest.raises(InvalidRequest):
        manifest.check(files)


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1),
        unique=True,
    )
)
def test_a_manifest_reads_back_as_it_was_written(names: list[str]) -> None:
    files = tuple(entry(name.replace("/", "_")) for name in sorted(names))
    assert manifest.parse(manifest.render(files)) == files
