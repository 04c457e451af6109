from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from riseml.files.area import FileArea, Finish
from riseml.files.errors import (
    ContentMismatch,
    FileAreaError,
    InvalidPath,
    NoSpace,
    NotFound,
    OffsetMismatch,
    WrongKind,
)
from riseml.files.filesystem import OsFileSystem
from riseml.files.paths import parse_path


@pytest.fixture
def area(tmp_path: Path) -> FileArea:
    root = tmp_path / "root"
    root.mkdir()
    return FileArea(root)


def finish(content: bytes) -> Finish:
    return Finish(len(content), hashlib.sha256(content).digest())


def test_a_file_written_in_pieces_reads_back_whole(area: FileArea) -> None:
    assert area.write("a/b/model.bin", 0, b"abc").partial_size_bytes == 3
    assert area.stat("a/b/model.bin").entry is None
    assert area.stat("a/b/model.bin").partial_size_bytes == 3
    done = area.write("a/b/model.bin", 3, b"def", finish(b"abcdef"))
    assert done.entry is not None and done.entry.size_bytes == 6
    assert area.read("a/b/model.bin", 2, 3).data == b"cde"
    assert area.read("a/b/model.bin", 0, 100).total_size_bytes == 6
    assert area.read("a/b/model.bin", 99, 5).data == b""
    assert area.stat("a/b/model.bin").partial_size_bytes == 0


def test_an_unfinished_upload_is_not_listed_and_leaves_the_old_file(area: FileArea) -> None:
    area.write("f", 0, b"old", finish(b"old"))
    area.write("f", 0, b"newer")
    assert [e.path for e in area.list_files("")] == ["f"]
    assert area.read("f", 0, 10).data == b"old"


def test_a_write_that_does_not_continue_at_the_end_is_refused(area: FileArea) -> None:
    area.write("f", 0, b"abc")
    with pytest.raises(OffsetMismatch, match="3 bytes, not 2"):
        area.write("f", 2, b"x")


def test_writing_from_zero_starts_anew(area: FileArea) -> None:
    area.write("f", 0, b"garbage")
    area.write("f", 0, b"ok", finish(b"ok"))
    assert area.read("f", 0, 10).data == b"ok"


@pytest.mark.parametrize("announced", [Finish(2, hashlib.sha256(b"abc").digest()), finish(b"xyz")])
def test_content_that_differs_from_what_was_announced_is_not_put_in_place(
    area: FileArea, announced: Finish
) -> None:
    with pytest.raises(ContentMismatch):
        area.write("f", 0, b"abc", announced)
    status = area.stat("f")
    assert status.entry is None and status.partial_size_bytes == 0


def test_lists_are_sorted_by_parts_and_continue_after_any_entry(area: FileArea) -> None:
    for path in ("a/x", "a/y/z", "a-b", "b", "c/d"):
        area.write(path, 0, b"1", finish(b"1"))
    everything = [e.path for e in area.list_files("", recursive=True)]
    assert everything == ["a", "a/x", "a/y", "a/y/z", "a-b", "b", "c", "c/d"]
    assert [e.path for e in area.list_files("a", recursive=True)] == ["a/x", "a/y", "a/y/z"]
    assert [e.path for e in area.list_files("")] == ["a", "a-b", "b", "c"]
    for index, after in enumerate(everything):
        assert [
            e.path for e in area.list_files("", recursive=True, after_path=after)
        ] == everything[index + 1 :]
        paged = area.list_files("", recursive=True, after_path=after, limit=2)
        assert [e.path for e in paged] == everything[index + 1 : index + 3]


def test_a_listed_file_is_itself(area: FileArea) -> None:
    area.write("a/x", 0, b"1", finish(b"1"))
    assert [e.path for e in area.list_files("a/x")] == ["a/x"]


def test_links_are_neither_followed_nor_shown(area: FileArea, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (area.root / "link").symlink_to(tmp_path / "secret")
    (area.root / "dir").symlink_to(tmp_path)
    assert area.list_files("", recursive=True) == []
    operations: list[Callable[[], object]] = [
        lambda: area.read("link", 0, 1),
        lambda: area.read("dir/secret", 0, 1),
        lambda: area.stat("link"),
        lambda: area.list_files("dir"),
        lambda: area.write("dir/new", 0, b"x"),
        lambda: area.remove("dir/secret"),
        lambda: area.make_directories("dir/new"),
    ]
    for operation in operations:
        with pytest.raises(WrongKind):
            operation()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["root", "secret"]


def test_writing_over_a_link_replaces_the_link(area: FileArea, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (area.root / "link").symlink_to(tmp_path / "secret")
    area.write("link", 0, b"mine", finish(b"mine"))
    assert (tmp_path / "secret").read_text() == "s"
    assert not (area.root / "link").is_symlink()


def test_a_partial_file_that_is_a_link_is_not_written_through(
    area: FileArea, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("s")
    (area.root / ".f.riseml-partial").symlink_to(tmp_path / "secret")
    with pytest.raises(WrongKind):
        area.write("f", 0, b"x")
    assert (tmp_path / "secret").read_text() == "s"


def test_removing_a_tree_removes_links_but_not_what_they_point_to(
    area: FileArea, tmp_path: Path
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("s")
    area.write("t/a/b", 0, b"1", finish(b"1"))
    (area.root / "t" / "out").symlink_to(tmp_path / "kept")
    with pytest.raises(WrongKind, match="recursive"):
        area.remove("t")
    assert area.remove("t", recursive=True) == 4
    assert (tmp_path / "kept" / "file").exists()
    with pytest.raises(NotFound):
        area.remove("t")


def test_a_fifo_blocks_nobody(area: FileArea) -> None:
    os.mkfifo(area.root / "pipe")
    with pytest.raises(WrongKind):
        area.read("pipe", 0, 1)
    assert area.list_files("") == []


def test_a_name_that_is_not_unicode_is_left_out_of_lists(area: FileArea) -> None:
    os.close(os.open(os.fsencode(area.root) + b"/\xff", os.O_CREAT | os.O_WRONLY))
    area.write("ok", 0, b"1", finish(b"1"))
    assert [e.path for e in area.list_files("")] == ["ok"]


class FullDisk(OsFileSystem):
    """Takes `room` bytes, then is full."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = super().write(fd, data[: self.room], offset)
        self.room -= count
        return count


def test_a_full_disk_is_said_and_the_upload_goes_on_later(tmp_path: Path) -> None:
    disk = FullDisk(room=5)
    area = FileArea(tmp_path, file_system=disk)
    area.write("f", 0, b"abc")
    with pytest.raises(NoSpace, match="free some space"):
        area.write("f", 3, b"defg")
    assert area.stat("f").partial_size_bytes == 3
    disk.room = 100
    area.write("f", 3, b"defg", finish(b"abcdefg"))
    assert area.read("f", 0, 10).data == b"abcdefg"


hostile_part = st.sampled_from(
    ["..", ".", "", "~", "a", "b", "link", "\0", "..\\", "é", " ", "/", "root"]
) | st.text(max_size=6)
hostile_path = st.lists(hostile_part, max_size=6).map("/".join) | st.text(max_size=20)


@given(hostile_path)
def test_a_parsed_path_never_leaves_its_tree(path: str) -> None:
    try:
        parts = parse_path(path)
    except InvalidPath:
        return
    joined = os.path.normpath(os.path.join("/root/tree", *parts))
    assert joined == "/".join(("/root/tree", *parts))


@given(hostile_path, hostile_path)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)
def test_no_operation_touches_anything_outside(tmp_path: Path, path: str, other: str) -> None:
    # Examples share tmp_path; what one leaves in its tree must not be there for the next.
    around = Path(tempfile.mkdtemp(dir=tmp_path))
    root = around / "root"
    root.mkdir()
    outside = around / "outside"
    outside.mkdir()
    (outside / "a").write_text("untouched")
    (root / "link").symlink_to(outside)
    area = FileArea(root)
    operations: list[Callable[[], object]] = [
        lambda: area.write(path, 0, b"x", finish(b"x")),
        lambda: area.write(path + "/a", 0, b"x", finish(b"x")),
        lambda: area.read(path, 0, 10),
        lambda: area.list_files(path, recursive=True, after_path=other),
        lambda: os.close(area.make_directories(other)),
        lambda: area.remove(other, recursive=True),
        lambda: area.stat(path),
    ]
    for operation in operations:
        try:
            operation()
        except FileAreaError:
            continue
    assert sorted(p.name for p in around.iterdir()) == ["outside", "root"]
    assert [p.name for p in outside.iterdir()] == ["a"]
    assert (outside / "a").read_text() == "untouched"
