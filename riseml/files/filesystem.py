"""The calls that change files, behind a protocol so that tests can make a disk full. Everything is
relative to an open directory; nothing follows a link at the end of a name.
"""

from __future__ import annotations

import os
from typing import Protocol


class FileSystem(Protocol):
    """What a file area asks of the operating system where it writes. All raise OSError."""

    def open(self, name: str, flags: int, mode: int, dir_fd: int) -> int: ...

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int: ...

    def sync(self, fd: int) -> None: ...

    def rename(self, old: str, new: str, dir_fd: int) -> None: ...

    def make_directory(self, name: str, mode: int, dir_fd: int) -> None: ...


class OsFileSystem:
    """The real one."""

    def open(self, name: str, flags: int, mode: int, dir_fd: int) -> int:
        return os.open(name, flags, mode, dir_fd=dir_fd)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def rename(self, old: str, new: str, dir_fd: int) -> None:
        os.rename(old, new, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    def make_directory(self, name: str, mode: int, dir_fd: int) -> None:
        os.mkdir(name, mode, dir_fd=dir_fd)
