"""The content of files on its way from the control plane: received in pieces, kept by hash."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from pathlib import Path
from typing import Final

from noded.errors import CodeFetchFailed, NoSpaceLeft, StartFailed
from noded.trees import BlobPiece, RevisionSource, TreeFile

_FICLONE: Final = 0x40049409
_COPY_BYTES: Final = 8 << 20


def _uncounted(byte_count: int) -> None:
    """For who does not want to know how far it is."""


class BlobFolder:
    """Blobs under their SHA-256 in one directory that is ours alone; a name that exists is whole.

    They aren't synced: after a crash of the machine what lies there may be torn.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, sha256: bytes) -> str:
        """Where a blob lies, or would."""
        return f"{self.directory}/{sha256.hex()}"

    def missing(self, tree: Iterable[TreeFile]) -> list[TreeFile]:
        """The files whose content is not here."""
        missing = []
        for file in tree:
            try:
                if os.stat(self.path(file.sha256)).st_size != file.size_bytes:
                    missing.append(file)
            except FileNotFoundError:
                missing.append(file)
        return missing

    async def fetch(
        self,
        source: RevisionSource,
        revision_id: str,
        attempt_id: str,
        tree: Collection[TreeFile],
        received: Callable[[int], None] = _uncounted,
    ) -> None:
        """Brings in whatever of the tree is missing; `received` is told the bytes of each piece.

        Raises as the source does, ConnectionError also for what did not arrive or arrived damaged,
        and OSError of the disk. Blobs that are whole by then stay.
        """
        absent = {file.sha256 for file in self.missing(tree)}
        if not absent:
            return
        have = sorted({file.sha256 for file in tree} - absent)
        await self._receive(source.blobs(revision_id, attempt_id, have), absent, received)
        still = self.missing(tree)
        if still:
            raise ConnectionError(f"{len(still)} files are missing, {still[0].path} among them")

    async def _receive(
        self,
        pieces: AsyncIterator[BlobPiece],
        wanted: set[bytes],
        received: Callable[[int], None],
    ) -> None:
        temporary = self.directory / f"incoming-{secrets.token_hex(8)}"
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
                received(len(piece.data))
                if piece.last:
                    os.close(fd)
                    fd = -1
                    if digest.digest() != sha256:
                        raise ConnectionError(f"file {sha256.hex()[:12]} arrived damaged")
                    os.rename(temporary, self.path(sha256))
        finally:
            if fd >= 0:
                os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


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


def disk_error(error: OSError) -> StartFailed:
    """What the disk refused, as an error of ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpaceLeft(f"no space for the code on this node: {error.strerror}")
    return CodeFetchFailed(f"the code could not be put in place: {error}")


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
