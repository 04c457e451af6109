"""All that a container wrote is read once, however its files are rotated meanwhile."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noded.kubelet import log_files
from noded.kubelet.log_files import DRAIN_SECONDS, LogFiles, LogMissing


class Container:
    """Writes and rotates as a runtime and its kubelet do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written = b""
        self.opened: list[LogFiles] = []
        self._rotations = 0
        folder.mkdir()
        self.begin()

    def begin(self) -> None:
        (self.folder / "0.log").touch()

    def write(self, text: bytes, name: str = "0.log") -> None:
        self.written += text
        with (self.folder / name).open("ab") as file:
            file.write(text)

    def rename(self) -> str:
        self._rotations += 1
        name = f"0.log.20261127-{100000 + self._rotations}"
        (self.folder / "0.log").rename(self.folder / name)
        return name

    def rotate(self) -> str:
        name = self.rename()
        self.begin()
        return name

    def compress(self, name: str) -> None:
        plain, draft = self.folder / name, self.folder / f"{name}.tmp"
        draft.write_bytes(gzip.compress(plain.read_bytes()))
        draft.rename(self.folder / f"{name}.gz")
        plain.unlink()


class Reader:
    """Reads on whenever it is asked."""

    def __init__(self, files: LogFiles, since: float = 0.0) -> None:
        self.files = files
        self.number = files.begin(since)
        self.offset = 0
        self.got = b""

    def read(self, now: float = 0.0, *, ended: bool = False) -> bytes:
        self.files.look(now)
        while True:
            data = self.files.read(self.number, self.offset)
            self.got += data
            self.offset += len(data)
            if data:
                continue
            if not self.files.is_complete(self.number, now, ended=ended):
                return self.got
            self.number, self.offset = self.number + 1, 0


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    made = Container(tmp_path / "job")
    yield made
    for files in made.opened:
        files.close()


def reader(container: Container, since: float = 0.0) -> Reader:
    files = LogFiles(container.folder, 0.0)
    container.opened.append(files)
    return Reader(files, since)


def test_a_log_grows(container: Container) -> None:
    reading = reader(container)
    assert reading.read() == b""
    container.write(b"a\n")
    assert reading.read() == b"a\n"


def test_what_is_written_late_to_a_rotated_file_is_read_before_the_next(
    container: Container,
) -> None:
    container.write(b"a")
    reading = reader(container)
    assert reading.read() == b"a"
    name = container.rotate()
    container.write(b"b", name)
    assert reading.read(1.0) == b"ab"
    container.write(b"c", name)
    container.write(b"d")
    assert reading.read(1.0 + DRAIN_SECONDS / 2) == b"abc"
    assert reading.read(1.0 + DRAIN_SECONDS) == b"abcd"


def test_while_there_is_no_file_there_is_nothing_new(container: Container) -> None:
    container.write(b"a")
    reading = reader(container)
    container.rename()
    assert reading.read() == b"a"
    container.begin()
    container.write(b"b")
    assert reading.read() == b"a"
    assert reading.read(2.0) == b"ab"


def test_several_rotations_between_two_looks(container: Container) -> None:
    container.write(b"a")
    reading = reader(container)
    for text in (b"b", b"c", b"d"):
        container.rotate()
        container.write(text)
    assert reading.read(1.0) == b"a"
    assert reading.read(3.0, ended=True) == b"abcd"


def test_what_is_open_may_be_compressed_and_removed(container: Container) -> None:
    container.write(b"a")
    reading = reader(container)
    first = container.rotate()
    container.write(b"b")
    reading.files.look(0.0)
    container.compress(first)
    second = container.rotate()
    container.write(b"c")
    reading.files.look(0.0)
    (container.folder / f"{first}.gz").unlink()
    container.compress(second)
    assert reading.read(9.0, ended=True) == b"abc"


def test_old_files_are_found_whatever_their_form(container: Container) -> None:
    for text in (b"a", b"b", b"c"):
        container.write(text * 300_000)
        container.compress(container.rotate())
    container.write(b"d")
    container.rotate()
    container.write(b"e")
    (container.folder / "0.log.20261127-100009.tmp").write_bytes(b"half of it")
    assert reader(container).read(ended=True) == container.written


def test_files_that_are_too_old_are_passed_over(container: Container) -> None:
    container.write(b"a")
    name = container.rotate()
    os.utime(container.folder / name, (1000, 1000))
    container.write(b"b")
    container.rotate()
    container.write(b"c")
    assert reader(container, since=2000.0).read(ended=True) == b"bc"


def test_of_several_starts_the_last_counts(container: Container) -> None:
    container.write(b"a")
    (container.folder / "1.log").write_bytes(b"b")
    assert reader(container).read() == b"b"


def _nothing(container: Container) -> None:
    (container.folder / "0.log").unlink()


def _no_folder(container: Container) -> None:
    _nothing(container)
    container.folder.rmdir()


@pytest.mark.parametrize("spoil", [_nothing, _no_folder])
def test_a_log_that_is_not_there_is_named(
    container: Container, spoil: Callable[[Container], None]
) -> None:
    spoil(container)
    with pytest.raises(LogMissing, match="job"):
        LogFiles(container.folder, 0.0)


def test_a_gap_is_not_passed_over_in_silence(container: Container) -> None:
    reading = reader(container)
    (container.folder / container.rotate()).unlink()
    container.write(b"b")
    with pytest.raises(LogMissing, match="gone"):
        reading.read()
    container.rotate()
    with pytest.raises(LogMissing, match="faster"):
        reading.read()


def test_only_so_much_is_held(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "MOST_HELD_BYTES", 2)
    container.write(b"aa")
    reading = reader(container)
    container.rotate()
    container.write(b"b")
    reading.files.look(0.0)
    container.rotate()
    with pytest.raises(LogMissing, match="let go unread"):
        reading.read()
    assert Reader(reading.files).read(9.0, ended=True) == b"b"


def test_it_lets_go(container: Container) -> None:
    files = LogFiles(container.folder, 0.0)
    files.close()
    with pytest.raises(ValueError, match="closed"):
        files.read(0, 0)
