"""Copies between this machine and ``data://`` or ``output://``, which go on where they stopped.

An upload grows a partial file on the server that takes its name at the end, when size and SHA-256
are right. A download grows a hidden file beside the target, whose name says which version of the
remote file it is part of.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from riseml.client import Client
from riseml.code_tree import open_regular
from riseml.errors import DataLoss, DeadlineExceeded, NotFound, TransferError, Unavailable
from riseml.files.errors import InvalidPath
from riseml.files.paths import parse_path
from riseml.retry import CALL, Backoff
from riseml.v1 import storage_service_pb2 as pb

SCHEMES: Final = ("data://", "output://")
CHUNK_BYTES: Final = 256 * 1024
SLOWEST_BYTES_PER_SECOND: Final = 50_000

_PARTIAL_SUFFIX: Final = ".riseml-part"

CopyProgress: TypeAlias = Callable[[str, int, int], None]
"""Told the name of a file, how many of its bytes are there, and how many it has."""


def is_remote(place: str) -> bool:
    """Whether a place is ``data://...`` or ``output://...``."""
    return place.startswith(SCHEMES)


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """A file or folder of the cluster."""

    tree: str
    """``data://`` or ``output://17/``: what paths in listings are relative to."""
    path: str
    """Without slashes at its ends; empty for the tree itself."""

    @property
    def uri(self) -> str:
        """As calls want it."""
        return f"{self.tree}{self.path}"

    @property
    def name(self) -> str:
        """Its last part; empty for the tree itself."""
        return self.path.rpartition("/")[2]

    def below(self, path: str) -> RemotePlace:
        """A place in it."""
        return RemotePlace(self.tree, f"{self.path}/{path}".strip("/"))

    def at(self, path: str) -> RemotePlace:
        """A place by its path in the tree."""
        return RemotePlace(self.tree, path.strip("/"))


def parse_place(text: str) -> RemotePlace:
    """Read ``data://a/b`` or ``output://17/a/b``. Raises TransferError."""
    for scheme in SCHEMES:
        if not text.startswith(scheme):
            continue
        rest = text.removeprefix(scheme)
        tree = scheme
        if scheme == "output://":
            id, _, rest = rest.partition("/")
            if not id:
                raise TransferError("Which experiment? Write output://17 or output://17/model.pkl.")
            tree = f"{scheme}{id}/"
        path = rest.strip("/")
        try:
            parse_path(path)
        except InvalidPath as error:
            raise TransferError(f"{text}: {error}. Paths cannot leave their tree.") from error
        return RemotePlace(tree, path)
    raise TransferError(f"{text!r} is neither data://PATH nor output://ID/PATH.")


class Copier:
    """Copies files one after the other; each lost connection is waited for a few times."""

    def __init__(
        self,
        client: Client,
        *,
        progress: CopyProgress | None = None,
        backoff: Backoff = CALL,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._storage = client.storage
        self._progress = progress or (lambda name, done, total: None)
        self._backoff = backoff
        self._sleep = sleep

    def upload(self, source: Path, target: RemotePlace) -> None:
        """One regular file. Raises TransferError, or what the calls raise."""
        restarted = False
        pauses = self._backoff.pauses()
        best = -1
        while True:
            offset = self._uploaded(target)
            if offset > best:
                best, pauses = offset, self._backoff.pauses()
            try:
                self._upload_from(source, target, offset)
                return
            except DataLoss:
                # What lay there was part of another file.
                if restarted or offset == 0:
                    raise
                restarted = True
            except (Unavailable, DeadlineExceeded):
                pause = next(pauses, None)
                if pause is None:
                    raise
                self._sleep(pause)

    def upload_tree(self, source: Path, target: RemotePlace) -> int:
        """A folder with all regular files in it; returns their number. Files that are there
        already stay.
        """
        present = self._present(target)
        count = 0
        # All are looked at before the first is sent: a folder with a link in it is not half copied.
        for path, file in list(_local_files(source)):
            count += 1
            status = file.stat()
            known = present.get(path)
            if (
                known is not None
                and known.size_bytes == status.st_size
                and known.modify_time.seconds >= int(status.st_mtime)
            ):
                continue
            self.upload(file, target.below(path))
        return count

    def download(self, source: RemotePlace, target: Path, info: pb.FileInfo | None = None) -> None:
        """One file, to ``target`` itself. Raises TransferError, NotFound, or what the calls
        raise.
        """
        if info is None:
            info = self._storage.stat(source.uri).file
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(_partial_name(target.name, info))
            self._fill(source, partial, info)
            stamp = info.modify_time.seconds * 10**9 + info.modify_time.nanos
            os.utime(partial, ns=(stamp, stamp))
            os.replace(partial, target)
        except OSError as error:
            raise TransferError(f"{error.filename or target}: {error.strerror}.") from error

    def download_tree(self, source: RemotePlace, target: Path) -> int:
        """All files below a folder; returns their number. Those that are there unchanged are not
        fetched.
        """
        count = 0
        for info in self._storage.list(source.uri, recursive=True):
            path = _inside(source, info.path)
            local = target.joinpath(*path)
            if info.directory:
                local.mkdir(parents=True, exist_ok=True)
                continue
            count += 1
            if not _is_same(local, info):
                self.download(source.at(info.path), local, info)
        return count

    def _uploaded(self, target: RemotePlace) -> int:
        try:
            return self._storage.stat(target.uri).partial_size_bytes
        except NotFound:
            return 0

    def _present(self, target: RemotePlace) -> dict[str, pb.FileInfo]:
        prefix = f"{target.path}/" if target.path else ""
        try:
            found = list(self._storage.list(target.uri, recursive=True))
        except NotFound:
            return {}
        return {info.path.removeprefix(prefix): info for info in found if not info.directory}

    def _upload_from(self, source: Path, target: RemotePlace, offset: int) -> None:
        try:
            descriptor = open_regular(source)
            with os.fdopen(descriptor, "rb") as opened:
                total = os.fstat(descriptor).st_size
                if offset > total:
                    offset = 0
                chunks = self._chunks(opened, target, offset, total)
                self._storage.write(
                    chunks, seconds=60 + (total - offset) / SLOWEST_BYTES_PER_SECOND
                )
        except OSError as error:
            raise TransferError(f"{source}: {error.strerror}.") from error

    def _chunks(
        self, opened: BinaryIO, target: RemotePlace, offset: int, total: int
    ) -> Iterator[pb.WriteFileRequest]:
        """From ``offset`` on; what lies before it is only read for the hash of the whole."""
        digest = hashlib.sha256()
        left = offset
        while left:
            block = opened.read(min(CHUNK_BYTES, left))
            if not block:
                raise TransferError(f"{target.name} became shorter while it was copied.")
            digest.update(block)
            left -= len(block)
        self._progress(target.name, offset, total)
        uri = target.uri
        done = offset
        while done < total:
            data = opened.read(min(CHUNK_BYTES, total - done))
            if not data:
                raise TransferError(f"{target.name} became shorter while it was copied.")
            digest.update(data)
            yield pb.WriteFileRequest(uri=uri, offset=done if uri else 0, data=data)
            uri = ""
            done += len(data)
            self._progress(target.name, done, total)
        yield pb.WriteFileRequest(
            uri=uri,
            offset=done if uri else 0,
            finish=True,
            total_size_bytes=total,
            sha256=digest.digest(),
        )

    def _fill(self, source: RemotePlace, partial: Path, info: pb.FileInfo) -> None:
        """Append to the partial file until it is whole."""
        pauses = self._backoff.pauses()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(partial, flags, 0o644), "ab") as opened:
            while True:
                before = opened.tell()
                try:
                    self._read_from(source, opened.tell(), info, opened.write)
                    opened.flush()
                    break
                except (Unavailable, DeadlineExceeded):
                    opened.flush()
                    if opened.tell() > before:
                        pauses = self._backoff.pauses()
                    pause = next(pauses, None)
                    if pause is None:
                        raise
                self._sleep(pause)

    def _read_from(
        self, source: RemotePlace, offset: int, info: pb.FileInfo, write: Callable[[bytes], int]
    ) -> None:
        total = info.size_bytes
        self._progress(source.name, offset, total)
        if offset >= total:
            return
        for answer in self._storage.read(source.uri, offset):
            if answer.offset != offset:
                raise TransferError(f"{source.uri}: the server left bytes out. Copy it again.")
            data = answer.data[: total - offset]
            write(data)
            offset += len(data)
            self._progress(source.name, offset, total)
            if offset >= total:
                return
        if offset < total:
            raise TransferError(f"{source.uri} became shorter while it was copied. Copy it again.")


def _local_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Regular files below a folder with their relative paths; refuses what is neither file nor
    folder.
    """
    for here, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files + [f for f in folders if Path(here, f).is_symlink()]):
            file = Path(here, name)
            if file.is_symlink() or not file.is_file():
                raise TransferError(
                    f"{file}: is a link or no regular file, and only files are copied. "
                    "Remove it, or copy its target on its own."
                )
            yield file.relative_to(folder).as_posix(), file


def _inside(source: RemotePlace, path: str) -> tuple[str, ...]:
    """The parts of a listed path below the folder that is copied; never out of it."""
    try:
        parts = parse_path(path)
    except InvalidPath as error:
        raise TransferError(f"The server names a path that leaves its folder: {path!r}.") from error
    root = parse_path(source.path)
    if parts[: len(root)] != root:
        raise TransferError(f"The server names a path outside of {source.uri}: {path!r}.")
    return parts[len(root) :]


def _partial_name(name: str, info: pb.FileInfo) -> str:
    stamp = info.modify_time.seconds * 10**9 + info.modify_time.nanos
    return f".{name}.{info.size_bytes:x}-{stamp:x}{_PARTIAL_SUFFIX}"


def _is_same(local: Path, info: pb.FileInfo) -> bool:
    with contextlib.suppress(OSError):
        status = local.lstat()
        stamp = info.modify_time.seconds * 10**9 + info.modify_time.nanos
        return status.st_size == info.size_bytes and abs(status.st_mtime_ns - stamp) < 1000
    return False
