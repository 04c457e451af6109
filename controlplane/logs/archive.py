"""The archive of what jobs wrote: one file per attempt and kind, addressed by byte offset.

Bytes are accepted only at the archive's own end: a repetition is dropped, a gap is refused and the
sender is told where to go on. So whatever is lost or sent twice between daemon and control plane,
the archive holds each byte once and in order.

Synchronous; callers on the event loop run it in the archive's thread. Bytes are handed to the disk
(fdatasync) at the end of a log and at least once a second while it grows: `kill -9` of the control
plane loses nothing, a power cut at most the last second, which shows as a lower end.
"""

from __future__ import annotations

import contextlib
import enum
import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from controlplane.domain.errors import InvalidRequest, ResourceExhausted

OPEN_FILES: Final = 256
SYNC_SECONDS: Final = 1.0


class Kind(enum.Enum):
    """What is kept; the value is the file's suffix."""

    OUTPUT = "log"
    RESULTS = "results"


class FileOps(Protocol):
    """The calls through which bytes reach the disk; tests put faults behind them."""

    def write(self, descriptor: int, data: bytes | memoryview) -> int: ...

    def fdatasync(self, descriptor: int) -> None: ...


class OsFileOps:
    """The real thing."""

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        return os.write(descriptor, data)

    def fdatasync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)


@dataclass(slots=True)
class _Open:
    descriptor: int
    end: int
    synced_at: float
    dirty: bool = False


class Archive:
    """Logs below one folder. Appends come from one thread; reads may come from any."""

    def __init__(self, root: Path, *, file_ops: FileOps | None = None) -> None:
        self._root = root
        self._file_ops = file_ops or OsFileOps()
        self._open: OrderedDict[tuple[str, Kind], _Open] = OrderedDict()
        # Retention has removed what ended until then, in seconds since the epoch.
        self.removed_until = 0.0
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, attempt_id: str, kind: Kind = Kind.OUTPUT) -> Path:
        """Where an attempt's bytes lie: one folder per user and experiment number."""
        if not attempt_id or "/" in attempt_id or attempt_id.startswith("."):
            raise InvalidRequest(f"{attempt_id!r} is not an attempt's id")
        user, number, *_ = [*attempt_id.split("."), "-"]
        return self._root / user / number / f"{attempt_id}.{kind.value}"

    def end(self, attempt_id: str, kind: Kind = Kind.OUTPUT) -> int:
        """Length in bytes; 0 when nothing came yet."""
        opened = self._open.get((attempt_id, kind))
        if opened is not None:
            return opened.end
        try:
            return self.path(attempt_id, kind).stat().st_size
        except FileNotFoundError:
            return 0

    def is_open(self, attempt_id: str, kind: Kind = Kind.OUTPUT) -> bool:
        """Whether it grew lately: its end is to be told to `append`. May be asked by any thread."""
        return (attempt_id, kind) in self._open

    def append(
        self,
        attempt_id: str,
        kind: Kind,
        offset: int,
        data: bytes,
        *,
        final: bool = False,
    ) -> int:
        """Adds `data`, which begins at `offset`, and returns the end, where to go on.

        What is already there is skipped; what would leave a gap is not stored. Raises
        ResourceExhausted when the disk does not take it: the bytes that got through are kept.
        """
        if not data and not final:
            return self.end(attempt_id, kind)
        if final and not data and (attempt_id, kind) not in self._open:
            return self.end(attempt_id, kind)
        try:
            opened = self._opened(attempt_id, kind)
            skip = opened.end - offset
            if skip < 0:
                return opened.end
            if skip < len(data):
                view = memoryview(data)[skip:]
                while view:
                    written = self._file_ops.write(opened.descriptor, view)
                    opened.end += written
                    opened.dirty = True
                    view = view[written:]
            self._sync(opened, final=final)
        except OSError as fault:
            raise ResourceExhausted(
                f"The log archive cannot be written: {fault.strerror}. Free space under "
                f"{self._root}; daemons keep the output and send it again.",
                reason="LOG_ARCHIVE_FULL",
                metadata={"errno": str(fault.errno)},
            ) from fault
        if final:
            self._close((attempt_id, kind))
        return opened.end

    def read(self, attempt_id: str, kind: Kind, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`; empty at the end."""
        try:
            with self.path(attempt_id, kind).open("rb", buffering=0) as file:
                return os.pread(file.fileno(), length, offset)
        except FileNotFoundError:
            return b""

    def remove(self, attempt_id: str) -> None:
        """Deletes an attempt's bytes, for retention."""
        for kind in Kind:
            self._close((attempt_id, kind))
            path = self.path(attempt_id, kind)
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()

    def close(self) -> None:
        """Hands everything to the disk and closes the files."""
        for key in list(self._open):
            opened = self._open[key]
            if opened.dirty:
                self._file_ops.fdatasync(opened.descriptor)
            self._close(key)

    def _opened(self, attempt_id: str, kind: Kind) -> _Open:
        key = (attempt_id, kind)
        opened = self._open.get(key)
        if opened is None:
            path = self.path(attempt_id, kind)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            opened = _Open(descriptor, os.fstat(descriptor).st_size, time.monotonic())
            self._open[key] = opened
            if len(self._open) > OPEN_FILES:
                oldest = next(iter(self._open))
                if self._open[oldest].dirty:
                    self._file_ops.fdatasync(self._open[oldest].descriptor)
                self._close(oldest)
        else:
            self._open.move_to_end(key)
        return opened

    def _sync(self, opened: _Open, *, final: bool) -> None:
        now = time.monotonic()
        if opened.dirty and (final or now - opened.synced_at >= SYNC_SECONDS):
            self._file_ops.fdatasync(opened.descriptor)
            opened.dirty = False
            opened.synced_at = now

    def _close(self, key: tuple[str, Kind]) -> None:
        opened = self._open.pop(key, None)
        if opened is not None:
            os.close(opened.descriptor)
