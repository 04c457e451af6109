"""Reads a growing log from any offset on.

A shim's log is a folder of segments, each named by the offset of its first byte, so resuming needs
no memory of rotations; a segment is over when one begins where it ends. Results are a single file.
Reads are from the page cache and short, so they happen in the loop's thread.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Final, Protocol

CHUNK_BYTES: Final = 256 << 10


class LogGone(Exception):
    """These bytes are no longer on this node: `next_offset` is the first that is."""

    def __init__(self, offset: int, next_offset: int) -> None:
        super().__init__(f"bytes {offset} to {next_offset} of the log are no longer on the node")
        self.next_offset = next_offset


class Tailer(Protocol):
    """One stream of bytes that grows at its end."""

    def read(self, offset: int, *, ended: bool = False) -> bytes:
        """What there is at `offset`, at most a chunk; empty: nothing yet. `ended`: nothing is
        added any more. Raises LogGone, and OSError where the disk refuses."""
        ...

    def size(self) -> int:
        """Where the stream ends now."""
        ...

    def release(self, offset: int) -> None:
        """Everything below `offset` has been stored elsewhere."""
        ...

    def close(self) -> None: ...


class SegmentTailer:
    """The segments of an attempt's log. Chunks end with a line's end, so that masking sees lines
    whole; only an ended log's may not (its shim was killed in the midst of a line)."""

    def __init__(self, directory: str, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._directory = directory
        self._chunk_bytes = chunk_bytes
        self._fd = -1
        self._start = 0
        self._listed: list[int] = []

    def read(self, offset: int, *, ended: bool = False) -> bytes:
        if self._fd < 0 or offset < self._start:
            if not self._open_for(offset):
                return b""
        while True:
            data = os.pread(self._fd, self._chunk_bytes, offset - self._start)
            if data:
                return data if ended else self._whole_lines(data)
            if not self._follow(offset):
                return b""

    def _whole_lines(self, data: bytes) -> bytes:
        if data[-1] == 10:
            return data
        if len(data) == self._chunk_bytes and b"\n" not in data:
            return data
        return data[: data.rfind(b"\n") + 1]

    def _open_for(self, offset: int) -> bool:
        starts = self._starts()
        if not starts:
            return False
        if starts[0] > offset:
            raise LogGone(offset, starts[0])
        self._open(max(start for start in starts if start <= offset))
        return True

    def _follow(self, offset: int) -> bool:
        """On to the segment that begins where this one ends. Looked for by name, so an idle log
        costs one failing open and no listing."""
        if offset == self._start:
            return False
        path = f"{self._directory}/{offset:020d}.log"
        if not os.path.exists(path):
            return False
        # It is made after the last write to this one; what came between our read and now is here.
        if os.fstat(self._fd).st_size > offset - self._start:
            return True
        self._open(offset)
        return True

    def _open(self, start: int) -> None:
        fd = os.open(f"{self._directory}/{start:020d}.log", os.O_RDONLY | os.O_CLOEXEC)
        self.close()
        self._fd, self._start = fd, start

    def _starts(self) -> list[int]:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        return sorted(int(name[:-4]) for name in names if name.endswith(".log"))

    def size(self) -> int:
        starts = self._starts()
        if not starts:
            return 0
        return starts[-1] + os.stat(f"{self._directory}/{starts[-1]:020d}.log").st_size

    def release(self, offset: int) -> None:
        """Deletes segments that lie wholly below `offset`, the newest never."""
        if self._fd >= 0 and offset < self._start:
            return
        starts = self._starts()
        for start, following in pairwise(starts):
            if following <= offset:
                os.unlink(f"{self._directory}/{start:020d}.log")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class FileTailer:
    """A single file that is only appended to, such as the results."""

    def __init__(self, path: str, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._path = path
        self._chunk_bytes = chunk_bytes
        self._fd = -1

    def read(self, offset: int, *, ended: bool = False) -> bytes:
        if self._fd < 0:
            try:
                # The job owns the folder's entry: never through a link, never a pipe that hangs.
                self._fd = os.open(
                    self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                )
            except FileNotFoundError:
                return b""
        return os.pread(self._fd, self._chunk_bytes, offset)

    def size(self) -> int:
        try:
            return os.stat(self._path, follow_symlinks=False).st_size
        except FileNotFoundError:
            return 0

    def release(self, offset: int) -> None:
        return

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
