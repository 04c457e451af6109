"""The files of one container's log: the one that is written, and those it was rotated into.

The runtime writes `0.log`. A kubelet renames it to `0.log.20261127-104500` and lets the runtime
begin a new one; at the next rotation it compresses that to `0.log.20261127-104500.gz`, and of old
ones it removes all but a few. Files are opened while they have their names and kept open: what is
not read yet can neither be renamed nor removed away.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import BinaryIO, Final

CHUNK_BYTES: Final = 256 << 10
MOST_HELD_BYTES: Final = 256 << 20
"""Of files that were rotated; the oldest are let go first."""
DRAIN_SECONDS: Final = 1.0
"""The runtime may write to a file for a moment after it began the next one."""


class LogMissing(Exception):
    """There is no such log here, or a part of it is gone. The message says which."""


class LogFiles:
    """One container's log. `now` is monotonic seconds everywhere."""

    def __init__(self, folder: Path, now: float) -> None:
        """Raises LogMissing: then, or in a moment, it may be there."""
        self._folder = folder
        self._current = _current(folder)
        self._seen: set[str] = set()
        self._parts: list[_Part] = []
        self._first = 0
        self._behind = True
        if not self._catch_up(now):
            self.close()
            raise LogMissing(f"{self._current} is being rotated")

    def look(self, now: float) -> None:
        """Finds out about rotations; has to be called more often than files are rotated. Raises
        LogMissing if it was not."""
        if not self._behind:
            last = self._parts[-1]
            try:
                if os.stat(self._current).st_ino == last.inode:
                    return
            except FileNotFoundError:
                # Between two files, or the pod is gone.
                return
            fresh = [path for path in self._rotated() if _plain(path) not in self._seen]
            if not fresh:
                raise LogMissing(f"{self._current} is another file, and the one before is gone")
            # The first is the one that we have open.
            if fresh[0].suffix != ".gz" and os.stat(fresh[0]).st_ino != last.inode:
                raise LogMissing(f"{self._current} was rotated faster than it was looked at")
            self._seen.add(_plain(fresh[0]))
            last.ended_at = now
        self._behind = not self._catch_up(now)
        self._let_go()

    def _catch_up(self, now: float) -> bool:
        """Opens what is new, and last what is being written; false while there is no such file."""
        while True:
            for path in self._rotated():
                if _plain(path) not in self._seen:
                    self._take(path, now)
            try:
                current = _Part(self._current)
            except FileNotFoundError:
                return False
            # It may have been rotated since we listed.
            if all(_plain(path) in self._seen for path in self._rotated()):
                self._parts.append(current)
                self._behind = False
                return True
            current.close()

    def begin(self, since: float) -> int:
        """The number of the first part that may hold what was written at `since` (seconds since the
        epoch) or later."""
        for offset, part in enumerate(self._parts[:-1]):
            if part.written_at >= since:
                return self._first + offset
        return self._first + len(self._parts) - 1

    def read(self, number: int, offset: int) -> bytes:
        """What part `number` holds there, at most a chunk. Raises LogMissing."""
        return self._part(number).read(offset)

    def is_complete(self, number: int, now: float, *, ended: bool) -> bool:
        """Whether a part that was read to its end gets nothing more, and another follows."""
        part = self._part(number)
        if part is self._parts[-1]:
            return False
        return ended or part.ended_at is None or now - part.ended_at >= DRAIN_SECONDS

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def _part(self, number: int) -> _Part:
        if number < self._first:
            raise LogMissing(f"the oldest files of {self._folder} were let go unread")
        return self._parts[number - self._first]

    def _rotated(self) -> list[Path]:
        """Oldest first. One that is just being compressed counts once."""
        found: dict[str, Path] = {}
        for path in sorted(self._folder.glob(f"{self._current.name}.*")):
            # Compressed into NAME.tmp first; of two forms the plain one comes first here.
            if path.suffix != ".tmp":
                found.setdefault(_plain(path), path)
        return [found[name] for name in sorted(found)]

    def _take(self, path: Path, now: float) -> None:
        self._seen.add(_plain(path))
        for form in (path, path.with_name(f"{path.name}.gz")):
            try:
                part = _Part(form)
            except FileNotFoundError:
                # It was compressed meanwhile, or removed.
                continue
            part.ended_at = now
            self._parts.append(part)
            return

    def _let_go(self) -> None:
        held = sum(part.size for part in self._parts[:-1])
        while held > MOST_HELD_BYTES:
            oldest = self._parts.pop(0)
            self._first += 1
            held -= oldest.size
            oldest.close()


class _Part:
    """One file, open."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb", buffering=0)
        self.inode = os.fstat(self._file.fileno()).st_ino
        self.ended_at: float | None = None
        """When it was seen to be rotated."""
        self._packed = path.suffix == ".gz"
        self._unpacked: gzip.GzipFile | None = None
        self._unpacked_to = 0

    @property
    def size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    @property
    def written_at(self) -> float:
        """When it was written to last, or later."""
        return os.fstat(self._file.fileno()).st_mtime

    def read(self, offset: int) -> bytes:
        if not self._packed:
            return os.pread(self._file.fileno(), CHUNK_BYTES, offset)
        if self._unpacked is None or offset != self._unpacked_to:
            self._file.seek(0)
            self._unpacked = gzip.GzipFile(fileobj=self._file)
            self._unpacked.seek(offset)
        data = self._unpacked.read(CHUNK_BYTES)
        self._unpacked_to = offset + len(data)
        return data

    def close(self) -> None:
        self._file.close()


def _plain(path: Path) -> str:
    return path.name.removesuffix(".gz")


def _current(folder: Path) -> Path:
    """The log of the container's last start: containers of jobs have one."""
    try:
        numbers = [int(path.stem) for path in folder.glob("*.log") if path.stem.isdigit()]
    except OSError as error:
        raise LogMissing(f"{folder} cannot be read: {error.strerror}") from error
    if not numbers:
        raise LogMissing(f"there is no log in {folder}")
    return folder / f"{max(numbers)}.log"
