"""The log archive holds each byte once and in order, whatever is lost or sent twice."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.errors import InvalidRequest, ResourceExhausted
from controlplane.logs.archive import Archive, Kind
from controlplane.logs.window import offset_of_last_lines, offset_of_time

ATTEMPT = "ana.17.train.1-1"


class FullDisk:
    """Takes `room` bytes in all, then is full, until `room` is raised."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(self.room, len(data))
        self.room -= taken
        return os.write(descriptor, data[:taken])

    def fdatasync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)


def content(archive: Archive) -> bytes:
    return archive.read(ATTEMPT, Kind.OUTPUT, 0, 1 << 20)


def test_a_repetition_is_dropped_and_an_overlap_adds_only_what_is_new(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    assert archive.append(ATTEMPT, Kind.OUTPUT, 0, b"hello ") == 6
    assert archive.append(ATTEMPT, Kind.OUTPUT, 0, b"hello ") == 6
    assert archive.append(ATTEMPT, Kind.OUTPUT, 3, b"lo world") == 11
    assert content(archive) == b"hello world"


def test_a_gap_is_refused_and_the_sender_told_where_to_go_on(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.append(ATTEMPT, Kind.OUTPUT, 0, b"abc")
    assert archive.append(ATTEMPT, Kind.OUTPUT, 10, b"xyz") == 3
    assert content(archive) == b"abc"


@given(
    payload=st.binary(max_size=300),
    pieces=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 80)), max_size=40),
)
def test_any_order_of_pieces_leaves_a_prefix_of_the_truth(
    tmp_path_factory: pytest.TempPathFactory, payload: bytes, pieces: list[tuple[int, int]]
) -> None:
    archive = Archive(tmp_path_factory.mktemp("archive"))
    for offset, length in pieces:
        archive.append(ATTEMPT, Kind.OUTPUT, offset, payload[offset : offset + length])
    assert payload.startswith(content(archive))
    end = archive.end(ATTEMPT)
    archive.append(ATTEMPT, Kind.OUTPUT, end, payload[end:], final=True)
    assert content(archive) == payload


def test_a_full_disk_is_said_and_nothing_is_lost_or_doubled_afterwards(tmp_path: Path) -> None:
    disk = FullDisk(room=4)
    archive = Archive(tmp_path, file_ops=disk)
    with pytest.raises(ResourceExhausted, match="No space left"):
        archive.append(ATTEMPT, Kind.OUTPUT, 0, b"abcdefgh")
    assert archive.end(ATTEMPT) == 4
    disk.room = 100
    assert archive.append(ATTEMPT, Kind.OUTPUT, 4, b"efgh") == 8
    assert content(archive) == b"abcdefgh"


def test_it_goes_on_after_a_restart_and_after_the_final_piece(tmp_path: Path) -> None:
    Archive(tmp_path).append(ATTEMPT, Kind.OUTPUT, 0, b"one\n", final=True)
    again = Archive(tmp_path)
    assert again.append(ATTEMPT, Kind.OUTPUT, 4, b"two\n") == 8
    assert content(again) == b"one\ntwo\n"


def test_many_open_logs_do_not_keep_many_files_open(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for number in range(400):
        archive.append(f"ana.{number}.train.1-1", Kind.OUTPUT, 0, b"x")
    open_files = [
        entry
        for entry in os.listdir("/proc/self/fd")
        if str(tmp_path) in os.path.realpath(f"/proc/self/fd/{entry}")
    ]
    assert len(open_files) <= 256
    assert archive.append("ana.0.train.1-1", Kind.OUTPUT, 1, b"y") == 2


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b"])
def test_an_id_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest):
        Archive(tmp_path).path(name)


@pytest.mark.parametrize(
    ("lines", "expected"), [(1, b"line 9\n"), (3, b"line 7\nline 8\nline 9\n"), (50, None)]
)
def test_the_last_lines_are_found(tmp_path: Path, lines: int, expected: bytes | None) -> None:
    archive = Archive(tmp_path)
    text = b"".join(b"line %d\n" % n for n in range(10))
    archive.append(ATTEMPT, Kind.OUTPUT, 0, text)
    offset = offset_of_last_lines(archive, ATTEMPT, lines)
    assert text[offset:] == (expected if expected is not None else text)


def test_the_last_lines_are_found_across_blocks(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    text = b"".join(b"%06d %s\n" % (n, b"x" * 90) for n in range(5000))
    archive.append(ATTEMPT, Kind.OUTPUT, 0, text)
    offset = offset_of_last_lines(archive, ATTEMPT, 2000)
    assert text[offset:].count(b"\n") == 2000
    assert text[offset:].startswith(b"003000 ")


def test_a_time_is_found_by_search_and_nothing_printed_later_is_left_out(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    text = b"".join(
        b"2026-11-23T20:%02d:%02d.000000000Z stdout F %s\n" % (n // 60, n % 60, b"x" * 200)
        for n in range(3000)
    )
    archive.append(ATTEMPT, Kind.OUTPUT, 0, text)
    since = 1795464000.0 + 1800  # 2026-11-23T20:30:00Z
    offset = offset_of_time(archive, ATTEMPT, since)
    wanted = text.index(b"2026-11-23T20:30:00")
    assert offset <= wanted
    assert wanted - offset <= 64 * 1024
    assert text[offset:].startswith(b"2026-")
