"""A tree of files below a root, reached only by paths that cannot leave it.

Each operation walks from the root one part at a time with O_NOFOLLOW, so neither a path nor a link
that somebody puts in the way while we look leads outside. Links and special files are neither shown
nor opened. Operations keep no state of their own: each stands for itself and can be repeated. All
block; call them off the event loop.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from riseml.files.errors import (
    ContentMismatch,
    FileAreaError,
    InvalidPath,
    NotFound,
    OffsetMismatch,
    WrongKind,
    from_os_error,
)
from riseml.files.filesystem import FileSystem, OsFileSystem
from riseml.files.paths import MAX_DEPTH, is_partial, parse_path, partial_name

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# For directories on the way: those of others may be passed through (o+x) and not listed.
_PASSAGE: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK the open of a FIFO that a job left behind would never return.
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HASH_CHUNK_BYTES: Final = 1 << 20

MAX_LIST: Final = 1000
MAX_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file or directory. `path` is relative to the area's root, `""` for the root itself."""

    path: str
    directory: bool
    size_bytes: int
    modify_time: float


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What `stat` finds: the file (None when it is absent) and how much of an unfinished upload
    lies there."""

    entry: FileEntry | None
    partial_size_bytes: int


@dataclass(frozen=True, slots=True)
class ReadResult:
    """Bytes from the offset asked for, fewer at the end of the file, and the file's size at that
    moment."""

    data: bytes
    total_size_bytes: int


@dataclass(frozen=True, slots=True)
class Finish:
    """What the whole file must be for an upload to take its name."""

    total_size_bytes: int
    sha256: bytes


class FileArea:
    """Files below `root`. The root itself is trusted and may be reached through links."""

    def __init__(
        self,
        root: Path,
        *,
        file_system: FileSystem | None = None,
        file_mode: int = 0o644,
        directory_mode: int = 0o755,
    ) -> None:
        self.root = root
        self._fs: FileSystem = file_system or OsFileSystem()
        self._file_mode = file_mode
        self._directory_mode = directory_mode

    def list_files(
        self, path: str, *, recursive: bool = False, after_path: str = "", limit: int = MAX_LIST
    ) -> list[FileEntry]:
        """Entries below the directory `path`, sorted by the parts of their paths, at most `limit`.

        `after_path` (an entry's path as it was returned) continues after that entry. A file lists
        as itself.
        """
        parts = parse_path(path)
        after = parse_path(after_path)
        with self._errors(path):
            status = self._stat_parts(parts)
            if status is None:
                raise NotFound(f"{path}: no such file or directory")
            if not stat.S_ISDIR(status.st_mode):
                return [] if after else [_entry(parts, status)]
            skip = after[len(parts) :] if after[: len(parts)] == parts else ()
            if after and not skip and after > parts:
                return []
            found: list[FileEntry] = []
            with self._directory(parts) as fd:
                self._walk(fd, parts, skip, recursive, limit, found)
            return found

    def stat(self, path: str) -> FileStatus:
        """The entry at `path`, or how much of it has been uploaded so far; both may be absent."""
        parts = parse_path(path)
        with self._errors(path):
            status = self._stat_parts(parts)
            partial_size = 0
            if parts and (status is None or not stat.S_ISDIR(status.st_mode)):
                partial = self._stat_raw((*parts[:-1], partial_name(parts[-1])))
                if partial is not None and stat.S_ISREG(partial.st_mode):
                    partial_size = partial.st_size
            return FileStatus(_entry(parts, status) if status else None, partial_size)

    def read(self, path: str, offset: int, length: int) -> ReadResult:
        """Up to `length` bytes (at most MAX_READ_BYTES) from `offset` on."""
        parts = _file_parts(path)
        if offset < 0 or length < 0:
            raise InvalidPath(f"{path}: offset and length must be >= 0")
        with self._errors(path), self._directory(parts[:-1]) as fd:
            file = os.open(parts[-1], os.O_RDONLY | _FILE, dir_fd=fd)
            try:
                status = _regular(path, file)
                data = os.pread(file, min(length, MAX_READ_BYTES), offset)
                return ReadResult(data, status.st_size)
            finally:
                os.close(file)

    def write(
        self, path: str, offset: int, data: bytes, finish: Finish | None = None
    ) -> FileStatus:
        """Adds `data` to the partial file at its end; 0 starts anew. With `finish`, puts the file
        in place.

        Raises OffsetMismatch when the partial file does not end at `offset`, ContentMismatch when
        what arrived is not what was announced (the partial file is removed then: another upload
        starts anew).
        """
        parts = _file_parts(path)
        name, partial = parts[-1], partial_name(parts[-1])
        if finish is not None and len(finish.sha256) != 32:
            raise InvalidPath(f"{path}: finishing a file needs its SHA-256, 32 bytes")
        with self._errors(path), self._directory(parts[:-1], create=True) as fd:
            target = _lstat(name, fd)
            if target is not None and stat.S_ISDIR(target.st_mode):
                raise WrongKind(f"{path}: is a directory")
            flags = os.O_RDWR | os.O_CREAT | _FILE | (os.O_TRUNC if offset == 0 else 0)
            file = self._fs.open(partial, flags, self._file_mode, fd)
            try:
                size = _regular(path, file).st_size
                if size != offset:
                    raise OffsetMismatch(
                        f"{path}: the unfinished upload has {size} bytes, not {offset}; go on there"
                    )
                self._write_all(file, data, offset)
                size += len(data)
                if finish is None:
                    return FileStatus(None, size)
                self._check(path, file, size, finish, partial, fd)
                self._fs.sync(file)
                self._fs.rename(partial, name, fd)
                self._fs.sync(fd)
                return FileStatus(_entry(parts, os.fstat(file)), 0)
            finally:
                os.close(file)

    def remove(self, path: str, *, recursive: bool = False) -> int:
        """Removes a file, or with `recursive` a directory with all below it; says how many entries
        went.

        A link is removed itself, never what it points to. Removing a file also drops its
        unfinished upload.
        """
        parts = _file_parts(path)
        with self._errors(path), self._directory(parts[:-1]) as fd:
            status = _lstat(parts[-1], fd)
            removed = 0
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial_name(parts[-1]), dir_fd=fd)
                removed = 1
            if status is None:
                if removed:
                    return removed
                raise NotFound(f"{path}: no such file or directory")
            if not stat.S_ISDIR(status.st_mode):
                os.unlink(parts[-1], dir_fd=fd)
                return removed + 1
            if not recursive:
                raise WrongKind(
                    f"{path}: is a directory; removing it needs `recursive` (`riseml rm -r`)"
                )
            return removed + self._remove_tree(parts[-1], fd, len(parts))

    def make_directories(self, path: str, mode: int | None = None) -> int:
        """Makes the directory `path` and what is missing above it; returns it opened, for the
        caller to close."""
        parts = parse_path(path)
        with self._errors(path):
            return self._open_directory(parts, create=True, mode=mode)

    def _check(
        self, path: str, file: int, size: int, finish: Finish, partial: str, fd: int
    ) -> None:
        problem = ""
        if size != finish.total_size_bytes:
            problem = f"{size} bytes arrived, {finish.total_size_bytes} were announced"
        elif _sha256(file, size) != finish.sha256:
            problem = "its SHA-256 is not the announced one"
        if problem:
            os.unlink(partial, dir_fd=fd)
            raise ContentMismatch(f"{path}: {problem}; copy it again")

    def _write_all(self, file: int, data: bytes, start: int) -> None:
        view = memoryview(data)
        position = start
        try:
            while view:
                written = self._fs.write(file, view, position)
                position += written
                view = view[written:]
        except OSError:
            # What the caller was told of stays; a half-written piece would shift the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(file, start)
            raise

    def _walk(
        self,
        fd: int,
        parts: tuple[str, ...],
        skip: tuple[str, ...],
        recursive: bool,
        limit: int,
        found: list[FileEntry],
    ) -> None:
        for name in sorted(_names(fd)):
            if skip and name < skip[0]:
                continue
            at_mark = bool(skip) and name == skip[0]
            status = _lstat(name, fd)
            if status is None or not _shown(status):
                continue
            here = (*parts, name)
            if not at_mark:
                found.append(_entry(here, status))
            if len(found) >= limit:
                return
            if recursive and stat.S_ISDIR(status.st_mode) and len(here) < MAX_DEPTH:
                with contextlib.suppress(OSError), _opened(name, fd) as below:
                    self._walk(below, here, skip[1:] if at_mark else (), True, limit, found)
                if len(found) >= limit:
                    return

    def _remove_tree(self, name: str, fd: int, depth: int) -> int:
        if depth >= MAX_DEPTH * 2:
            raise WrongKind(f"{name}: directories are nested deeper than {MAX_DEPTH * 2} levels")
        removed = 0
        with _opened(name, fd) as below:
            for child in os.listdir(below):
                status = _lstat(child, below)
                if status is None:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    removed += self._remove_tree(child, below, depth + 1)
                else:
                    os.unlink(child, dir_fd=below)
                    removed += 1
        os.rmdir(name, dir_fd=fd)
        return removed + 1

    def _stat_parts(self, parts: tuple[str, ...]) -> os.stat_result | None:
        status = self._stat_raw(parts)
        if status is not None and not _shown(status):
            raise WrongKind(
                f"{'/'.join(parts)}: is neither a file nor a directory (links are not followed)"
            )
        return status

    def _stat_raw(self, parts: tuple[str, ...]) -> os.stat_result | None:
        try:
            if not parts:
                return os.stat(self.root)
            with self._directory(parts[:-1]) as fd:
                return _lstat(parts[-1], fd)
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def _directory(self, parts: tuple[str, ...], create: bool = False) -> Iterator[int]:
        fd = self._open_directory(parts, create=create)
        try:
            yield fd
        finally:
            os.close(fd)

    def _open_directory(
        self, parts: tuple[str, ...], *, create: bool, mode: int | None = None
    ) -> int:
        kind = os.O_PATH if parts else os.O_RDONLY
        fd = os.open(self.root, kind | os.O_DIRECTORY | os.O_CLOEXEC)
        for position, part in enumerate(parts, 1):
            flags = _DIRECTORY if position == len(parts) else _PASSAGE
            try:
                try:
                    below = os.open(part, flags, dir_fd=fd)
                except FileNotFoundError:
                    if not create:
                        raise
                    with contextlib.suppress(FileExistsError):
                        self._fs.make_directory(part, mode or self._directory_mode, fd)
                    below = os.open(part, flags, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    @contextlib.contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileAreaError:
            raise
        except OSError as error:
            raise from_os_error(path, error) from error


def _file_parts(path: str) -> tuple[str, ...]:
    parts = parse_path(path)
    if not parts:
        raise InvalidPath("the root of a tree is not a file")
    return parts


def _names(fd: int) -> list[str]:
    return [name for name in os.listdir(fd) if not is_partial(name) and _encodable(name)]


def _encodable(name: str) -> bool:
    # A name that is not UTF-8 cannot be put on the wire; it is left out rather than spoiling the
    # whole listing.
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _lstat(name: str, fd: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _shown(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def _entry(parts: tuple[str, ...], status: os.stat_result) -> FileEntry:
    directory = stat.S_ISDIR(status.st_mode)
    return FileEntry(
        "/".join(parts), directory, 0 if directory else status.st_size, status.st_mtime
    )


def _regular(path: str, fd: int) -> os.stat_result:
    status = os.fstat(fd)
    if stat.S_ISDIR(status.st_mode):
        raise WrongKind(f"{path}: is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise WrongKind(f"{path}: is neither a file nor a directory")
    return status


@contextlib.contextmanager
def _opened(name: str, fd: int) -> Iterator[int]:
    below = os.open(name, _DIRECTORY, dir_fd=fd)
    try:
        yield below
    finally:
        os.close(below)


def _sha256(file: int, size: int) -> bytes:
    digest = hashlib.sha256()
    position = 0
    while position < size:
        chunk = os.pread(file, _HASH_CHUNK_BYTES, position)
        if not chunk:
            break
        digest.update(chunk)
        position += len(chunk)
    return digest.digest()
