"""The code of revisions on this node: fetched once, kept by content, copied for each attempt.

Blobs lie under their SHA-256 and are only ever whole; the directory is the daemon's alone. A
working directory is a
copy or a reflink, never a hard link: what a job does to its files never reaches the cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from noded.blobs import BlobFolder, clone_or_copy, disk_error
from noded.errors import CodeFetchFailed
from noded.trees import RevisionSource, TreeFile, checked_tree
from noded.uids import Identity

FETCH_TRIES: Final = 5
MAX_IDLE_TREES: Final = 32


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
        self._blobs = BlobFolder(root / "blobs")
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
        self._blobs.directory.mkdir(parents=True, mode=0o700)
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
            if tree is not None and self._blobs.missing(tree) == []:
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
                raise disk_error(error) from error
            await self._wait(min(5.0, 0.2 * 2**tries))
        raise CodeFetchFailed(f"the code of revision {revision_id[:12]} did not arrive: {problem}")

    async def _fetch_once(self, revision_id: str, attempt_id: str) -> tuple[TreeFile, ...]:
        tree = self._trees.get(revision_id)
        if tree is None:
            tree = checked_tree(await self._source.manifest(revision_id, attempt_id))
            self._remember(revision_id, tree)
        missing = self._blobs.missing(tree)
        if missing:
            await asyncio.to_thread(self._make_room, sum(f.size_bytes for f in missing))
            await self._blobs.fetch(self._source, revision_id, attempt_id, tree)
        return tree

    def _remember(self, revision_id: str, tree: tuple[TreeFile, ...]) -> None:
        idle = [known for known in self._trees if known not in self._users]
        for known in idle[: max(0, len(self._trees) - MAX_IDLE_TREES)]:
            del self._trees[known]
        self._trees[revision_id] = tree

    def read(self, file: TreeFile) -> bytes:
        """The content of a file that is held."""
        with open(self._blobs.path(file.sha256), "rb") as blob:
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
                os.utime(self._blobs.path(file.sha256))
            if identity.separate:
                os.chown(target, identity.uid, identity.gid)
        except OSError as error:
            raise disk_error(error) from error

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
        source = os.open(self._blobs.path(file.sha256), os.O_RDONLY | os.O_CLOEXEC)
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
        for entry in os.scandir(self._blobs.directory):
            status = entry.stat(follow_symlinks=False)
            total += status.st_size
            if entry.name not in held:
                found.append((status.st_mtime, status.st_size, entry.name))
        for _, size, name in sorted(found):
            if total <= self._max_bytes:
                break
            os.unlink(self._blobs.directory / name)
            total -= size
