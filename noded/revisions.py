"""The code of revisions on this node: fetched once, kept by content, copied for each attempt.

Blobs lie under their SHA-256 and are only ever whole; the directory is the daemon's alone. A
working directory is a
copy or a reflink, never a hard link: what a job does to its files never reaches the cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from noded.errors import CodeFetchFailed, NoSpaceLeft, StartFailed
from noded.uids import Identity
from riseml.files.errors import InvalidPath
from riseml.files.paths import parse_path

_FICLONE: Final = 0x40049409
_COPY_BYTES: Final = 8 << 20
FETCH_TRIES: Final = 5
MAX_IDLE_TREES: Final = 32


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One file of a revision."""

    path: str
    executable: bool
    size_bytes: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class BlobPiece:
    """A piece of a blob on its way here; `sha256` is set on a blob's first piece."""

    sha256: bytes
    data: bytes
    last: bool


class RevisionSource(Protocol):
    """Where revisions come from."""

    async def manifest(self, revision_id: str, attempt_id: str) -> tuple[TreeFile, ...]:
        """Raises CodeFetchFailed when it is refused for good, ConnectionError when trying again
        may help."""
        ...

    def blobs(
        self, revision_id: str, attempt_id: str, have: Iterable[bytes]
    ) -> AsyncIterator[BlobPiece]:
        """All blobs but those in `have`. Raises as `manifest`."""
        ...


class RevisionCache:
    """Manifests and blobs below `root`, at most about `max_bytes`, least recently used first
    out."""

    def __init__(
        self,
        root: Path,
        source: RevisionSource,
        max_bytes: int,
        boot_id: str,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._root = root
        self._blobs = root / "blobs"
        self._source = source
        self._max_bytes = max_bytes
        self._wait = wait
        self._trees: dict[str, tuple[TreeFile, ...]] = {}
        self._fetching: dict[str, asyncio.Task[tuple[TreeFile, ...]]] = {}
        self._users: dict[str, int] = {}
        self._open(boot_id)

    def _open(self, boot_id: str) -> None:
        """Starts empty after a reboot: blobs aren't synced, and a crash of the machine may have
        torn them."""
        marker = self._root / "boot_id"
        with contextlib.suppress(FileNotFoundError):
            if marker.read_text() == boot_id:
                return
        shutil.rmtree(self._root, ignore_errors=True)
        self._blobs.mkdir(parents=True, mode=0o700)
        marker.write_text(boot_id)

    @contextlib.asynccontextmanager
    async def hold(self, revision_id: str, attempt_id: str) -> AsyncIterator[tuple[TreeFile, ...]]:
        """The files of a revision, all in the cache for as long as the block lasts.

        Raises CodeFetchFailed or NoSpaceLeft. While the control plane is away it waits and tries
        again.
        """
        self._users[revision_id] = self._users.get(revision_id, 0) + 1
        try:
            yield await self._tree(revision_id, attempt_id)
        finally:
            self._users[revision_id] -= 1
            if not self._users[revision_id]:
                del self._users[revision_id]

    async def _tree(self, revision_id: str, attempt_id: str) -> tuple[TreeFile, ...]:
        while True:
            tree = self._trees.get(revision_id)
            if tree is not None and self._missing(tree) == []:
                return tree
            task = self._fetching.get(revision_id)
            ours = task is None
            if task is None:
                task = asyncio.create_task(self._fetch(revision_id, attempt_id))
                self._fetching[revision_id] = task
                task.add_done_callback(lambda _: self._fetching.pop(revision_id, None))
            # An attempt that is stopped meanwhile takes nothing away from others that wait for it,
            try:
                return await asyncio.shield(task)
            except CodeFetchFailed:
                # not even when the code is refused to it because it is over.
                if ours:
                    raise

    async def _fetch(self, revision_id: str, attempt_id: str) -> tuple[TreeFile, ...]:
        problem = ""
        for tries in range(FETCH_TRIES):
            try:
                return await self._fetch_once(revision_id, attempt_id)
            except ConnectionError as error:
                problem = str(error)
            except OSError as error:
                raise _disk_error(error) from error
            await self._wait(min(5.0, 0.2 * 2**tries))
        raise CodeFetchFailed(f"the code of revision {revision_id[:12]} did not arrive: {problem}")

    async def _fetch_once(self, revision_id: str, attempt_id: str) -> tuple[TreeFile, ...]:
        tree = self._trees.get(revision_id)
        if tree is None:
            tree = checked_tree(await self._source.manifest(revision_id, attempt_id))
            self._remember(revision_id, tree)
        missing = self._missing(tree)
        if missing:
            await asyncio.to_thread(self._make_room, sum(f.size_bytes for f in missing))
            absent = {f.sha256 for f in missing}
            have = sorted({f.sha256 for f in tree} - absent)
            await self._receive(self._source.blobs(revision_id, attempt_id, have), absent)
            still = self._missing(tree)
            if still:
                raise ConnectionError(f"{len(still)} files are missing, {still[0].path} among them")
        return tree

    def _remember(self, revision_id: str, tree: tuple[TreeFile, ...]) -> None:
        idle = [known for known in self._trees if known not in self._users]
        for known in idle[: max(0, len(self._trees) - MAX_IDLE_TREES)]:
            del self._trees[known]
        self._trees[revision_id] = tree

    async def _receive(self, pieces: AsyncIterator[BlobPiece], wanted: set[bytes]) -> None:
        temporary = self._blobs / f"incoming-{secrets.token_hex(8)}"
        digest, sha256, fd = hashlib.sha256(), b"", -1
        try:
            async for piece in pieces:
                if piece.sha256:
                    sha256, digest = piece.sha256, hashlib.sha256()
                    if fd >= 0:
                        os.close(fd)
                    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                if fd < 0 or sha256 not in wanted:
                    raise CodeFetchFailed("the control plane sent a file that was not asked for")
                digest.update(piece.data)
                _write_all(fd, piece.data)
                if piece.last:
                    os.close(fd)
                    fd = -1
                    if digest.digest() != sha256:
                        raise ConnectionError(f"file {sha256.hex()[:12]} arrived damaged")
                    os.rename(temporary, self._blob(sha256))
        finally:
            if fd >= 0:
                os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()

    def _missing(self, tree: tuple[TreeFile, ...]) -> list[TreeFile]:
        missing = []
        for file in tree:
            try:
                if os.stat(self._blob(file.sha256)).st_size != file.size_bytes:
                    missing.append(file)
            except FileNotFoundError:
                missing.append(file)
        return missing

    def _blob(self, sha256: bytes) -> str:
        return f"{self._blobs}/{sha256.hex()}"

    def read(self, file: TreeFile) -> bytes:
        """The content of a file that is held."""
        with open(self._blob(file.sha256), "rb") as blob:
            return blob.read()

    def copy(self, tree: tuple[TreeFile, ...], target: Path, identity: Identity) -> None:
        """Makes the directory `target` with the tree's files, owned by `identity`, private. Blocks.

        It may exist, empty. Nobody but the daemon can enter it before all is there: a job of the
        same user could put links in our way otherwise. Raises NoSpaceLeft or CodeFetchFailed.
        """
        try:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(target)
            os.mkdir(target, 0o700)
            made = {""}
            for file in tree:
                self._make_parents(target, file.path, made, identity)
                self._copy_file(file, f"{target}/{file.path}", identity)
                os.utime(self._blob(file.sha256))
            if identity.separate:
                os.chown(target, identity.uid, identity.gid)
        except OSError as error:
            raise _disk_error(error) from error

    def _make_parents(self, target: Path, path: str, made: set[str], identity: Identity) -> None:
        parent = path.rpartition("/")[0]
        if parent in made:
            return
        self._make_parents(target, parent, made, identity)
        os.mkdir(target / parent, 0o755)
        if identity.separate:
            os.chown(target / parent, identity.uid, identity.gid)
        made.add(parent)

    def _copy_file(self, file: TreeFile, to: str, identity: Identity) -> None:
        source = os.open(self._blob(file.sha256), os.O_RDONLY | os.O_CLOEXEC)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            target = os.open(to, flags, 0o755 if file.executable else 0o644)
            try:
                clone_or_copy(source, target, file.size_bytes)
                if identity.separate:
                    os.fchown(target, identity.uid, identity.gid)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _make_room(self, needed_bytes: int) -> None:
        """Removes what was used least recently and is held by nobody. Blocks."""
        held = {f.sha256.hex() for r in list(self._users) for f in self._trees.get(r, ())}
        found = []
        total = needed_bytes
        for entry in os.scandir(self._blobs):
            status = entry.stat(follow_symlinks=False)
            total += status.st_size
            if entry.name not in held:
                found.append((status.st_mtime, status.st_size, entry.name))
        for _, size, name in sorted(found):
            if total <= self._max_bytes:
                break
            os.unlink(self._blobs / name)
            total -= size


def checked_tree(files: Iterable[TreeFile]) -> tuple[TreeFile, ...]:
    """The manifest's files, once all of their paths are known to stay in the tree. Raises
    CodeFetchFailed."""
    tree = tuple(files)
    seen: set[str] = set()
    for file in tree:
        try:
            parts = parse_path(file.path)
        except InvalidPath as error:
            raise CodeFetchFailed(f"the revision has a path that is refused: {error}") from error
        if not parts or "/".join(parts) != file.path or file.path in seen or len(file.sha256) != 32:
            raise CodeFetchFailed(f"the revision's manifest is malformed at {file.path!r}")
        seen.add(file.path)
    return tree


def clone_or_copy(source: int, target: int, size_bytes: int) -> None:
    """Fills an empty file from another: shared blocks where the file system can, copied bytes
    elsewhere."""
    if not size_bytes:
        return
    with contextlib.suppress(OSError):
        fcntl.ioctl(target, _FICLONE, source)
        return
    done = 0
    while done < size_bytes:
        count = os.sendfile(target, source, done, min(_COPY_BYTES, size_bytes - done))
        if not count:
            raise OSError(errno.EIO, "the cached file is shorter than it should be")
        done += count


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _disk_error(error: OSError) -> StartFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceLeft(f"no space for the code on this node: {error.strerror}")
    return CodeFetchFailed(f"the code could not be put in place: {error}")
