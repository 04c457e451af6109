"""The file operations that a full or failing disk may refuse, behind a protocol.

Tests put faults in its place (ENOSPC, EIO) and see that jobs go on and errors are told. Paths are
plain strings: these calls stand in the path of every start.
"""

from __future__ import annotations

import os
from typing import Protocol


class Files(Protocol):
    """Small whole files. Every method raises OSError as the system does."""

    def make_directory(self, path: str, mode: int) -> None:
        """Makes one directory; FileExistsError where it exists."""
        ...

    def write_new(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Writes a file that did not exist. What was begun is removed when the write fails."""
        ...

    def write_atomic(self, path: str, data: bytes, *, durable: bool) -> None:
        """Replaces a file: readers and crashes find the old content or the new one, whole."""
        ...


class LocalFiles:
    """The real disk."""

    def make_directory(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    def write_new(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            _write_all(fd, data)
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(fd)

    def write_atomic(self, path: str, data: bytes, *, durable: bool) -> None:
        temporary = path + ".new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write_all(fd, data)
            if durable:
                os.fsync(fd)
        except OSError:
            os.unlink(temporary)
            raise
        finally:
            os.close(fd)
        os.rename(temporary, path)
        if durable:
            _sync_directory(os.path.dirname(path))


LOCAL_FILES = LocalFiles()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
