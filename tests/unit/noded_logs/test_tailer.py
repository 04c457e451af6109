from __future__ import annotations

from pathlib import Path

import pytest

from noded.logs.tailer import FileTailer, LogGone, SegmentTailer


def segment(folder: Path, start: int, data: bytes) -> Path:
    path = folder / f"{start:020d}.log"
    with path.open("ab") as file:
        file.write(data)
    return path


def read_all(tailer: SegmentTailer, offset: int = 0) -> bytes:
    data = b""
    while chunk := tailer.read(offset + len(data)):
        data += chunk
    return data


def test_a_log_is_read_through_rotations_from_any_offset(tmp_path: Path) -> None:
    lines = [b"%d\n" % number for number in range(300)]
    whole = b"".join(lines)
    at = 0
    for first in range(0, 300, 100):
        part = b"".join(lines[first : first + 100])
        segment(tmp_path, at, part)
        at += len(part)
    for offset in range(0, len(whole) + 1, 7):
        tailer = SegmentTailer(str(tmp_path), chunk_bytes=64)
        assert read_all(tailer, offset) == whole[offset:]
        tailer.close()


def test_chunks_end_with_a_line(tmp_path: Path) -> None:
    segment(tmp_path, 0, b"first\nsecond\nthi")
    tailer = SegmentTailer(str(tmp_path), chunk_bytes=10)
    assert tailer.read(0) == b"first\n"
    assert tailer.read(6) == b"second\n"
    assert tailer.read(13) == b""
    assert tailer.read(13, ended=True) == b"thi"
    segment(tmp_path, 0, b"rd\n")
    assert tailer.read(13) == b"third\n"
    tailer.close()


def test_nothing_is_lost_between_the_last_read_and_the_rotation(tmp_path: Path) -> None:
    segment(tmp_path, 0, b"a\n")
    tailer = SegmentTailer(str(tmp_path))
    assert tailer.read(0) == b"a\n"
    assert tailer.read(2) == b""
    segment(tmp_path, 0, b"b\n")
    segment(tmp_path, 4, b"c\n")
    assert read_all(tailer, 2) == b"b\nc\n"
    tailer.close()


def test_acknowledged_segments_go_but_never_the_newest(tmp_path: Path) -> None:
    first, second = segment(tmp_path, 0, b"a\n"), segment(tmp_path, 2, b"b\n")
    third = segment(tmp_path, 4, b"c\n")
    tailer = SegmentTailer(str(tmp_path))
    tailer.release(3)
    assert (first.exists(), second.exists(), third.exists()) == (False, True, True)
    tailer.release(6)
    assert (second.exists(), third.exists()) == (False, True)
    assert tailer.size() == 6
    with pytest.raises(LogGone) as gone:
        tailer.read(0)
    assert gone.value.next_offset == 4
    assert tailer.read(4) == b"c\n"
    tailer.close()


def test_a_log_that_has_not_begun_is_empty(tmp_path: Path) -> None:
    tailer = SegmentTailer(str(tmp_path / "none"))
    assert (tailer.read(0), tailer.size()) == (b"", 0)
    assert FileTailer(str(tmp_path / "none")).read(0) == b""


def test_results_are_never_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("root's")
    (tmp_path / "results.jsonl").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        FileTailer(str(tmp_path / "results.jsonl")).read(0)
