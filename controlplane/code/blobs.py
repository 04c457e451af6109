"""Content-addressed files: one folder per user, so that knowing a hash gives nothing of others
away.

A blob is written to a partial file, checked against its SHA-256, synced and renamed: a name that
exists is always whole. Synchronous; callers on the event loop use a thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from controlplane.domain.errors import DataLoss, NotFound, ResourceExhausted

CHUNK_BYTES: Final = 256 * 1024
PARTIAL_PREFIX: Final = ".partial-"


class BlobWriter:
    """Receives one blob in chunks; `finish` makes it visible, leaving early removes it.

    `close` may come from another thread while a chunk is being written: it waits for that, so the
    descriptor is never another file's by the time it is written to.
    """

    def __init__(self, target: Path, sha256: bytes, size_bytes: int) -> None:
        self._target = target
        self._expected = sha256
        self._size_bytes = size_bytes
        self._received = 0
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        self._partial: tuple[int, Path] | None = None
        self._closed = False

    def write(self, data: bytes) -> None:
        """Adds a chunk. Raises DataLoss as soon as more comes than was announced."""
        self._received += len(data)
        if self._received > self._size_bytes:
            raise DataLoss(
                f"Blob {self._expected.hex()} is longer than the {self._size_bytes} bytes "
                "announced; the file changed while it was sent. Run the command again.",
                reason="BLOB_MISMATCH",
            )
        self._hash.update(data)
        with self._writing() as (descriptor, _):
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]

    def finish(self) -> int:
        """Checks and stores the blob; returns its size."""
        if self._received != self._size_bytes or self._hash.digest() != self._expected:
            raise DataLoss(
                f"Blob {self._expected.hex()} does not match its hash; the file changed while "
                "it was sent. Run the command again.",
                reason="BLOB_MISMATCH",
            )
        with self._writing() as (descriptor, partial):
            os.fsync(descriptor)
            partial.rename(self._target)
        return self._received

    def close(self) -> None:
        """Ends the writer; what was not finished is removed."""
        with self._lock:
            self._closed = True
            if self._partial is not None:
                descriptor, partial = self._partial
                self._partial = None
                os.close(descriptor)
                partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[int, Path]]:
        """The partial file, made when it is needed first. Raises ResourceExhausted."""
        folder = self._target.parent
        with self._lock:
            if self._closed:
                raise ValueError("this blob is not received any more")
            try:
                if self._partial is None:
                    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                    descriptor, name = tempfile.mkstemp(dir=folder, prefix=PARTIAL_PREFIX)
                    self._partial = descriptor, Path(name)
                yield self._partial
            except OSError as fault:
                raise _disk_fault(fault, folder) from fault


class Blobs:
    """The blobs of all users below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True, mode=0o700)

    def remove_partials(self) -> int:
        """Removes what uploads left behind that a kill -9 cut off; how many. For the start, when no
        upload is under way.
        """
        partials = list(self._root.glob(f"*/*/{PARTIAL_PREFIX}*"))
        for partial in partials:
            partial.unlink(missing_ok=True)
        return len(partials)

    def path(self, user_name: str, sha256: bytes) -> Path:
        name = sha256.hex()
        return self._root / user_name / name[:2] / name

    def missing(self, user_name: str, hashes: Iterable[bytes]) -> list[bytes]:
        """Which of these the user has not stored, each once, in the order asked."""
        return [h for h in dict.fromkeys(hashes) if not self.path(user_name, h).exists()]

    def writer(self, user_name: str, sha256: bytes, size_bytes: int) -> BlobWriter:
        return BlobWriter(self.path(user_name, sha256), sha256, size_bytes)

    def put(self, user_name: str, content: bytes) -> bytes:
        """Stores a small blob at once and returns its hash."""
        sha256 = hashlib.sha256(content).digest()
        if not self.path(user_name, sha256).exists():
            writer = self.writer(user_name, sha256, len(content))
            try:
                writer.write(content)
                writer.finish()
            finally:
                writer.close()
        return sha256

    def chunks(self, user_name: str, sha256: bytes) -> Iterator[bytes]:
        """The content in chunks; one empty chunk for an empty blob. NotFound if it is gone."""
        try:
            file = self.path(user_name, sha256).open("rb")
        except FileNotFoundError:
            raise NotFound(
                f"Blob {sha256.hex()} is not stored; send the code again with `riseml train`.",
                reason="BLOB_NOT_FOUND",
            ) from None
        with file:
            data = file.read(CHUNK_BYTES)
            yield data
            while len(data) == CHUNK_BYTES:
                data = file.read(CHUNK_BYTES)
                if data:
                    yield data

    def sizes(self, user_name: str, hashes: Iterable[bytes]) -> dict[bytes, int]:
        """Sizes in bytes of those that are stored."""
        found: dict[bytes, int] = {}
        for sha256 in hashes:
            with contextlib.suppress(FileNotFoundError):
                found[sha256] = self.path(user_name, sha256).stat().st_size
        return found


def _disk_fault(fault: OSError, folder: Path) -> ResourceExhausted:
    return ResourceExhausted(
        f"The code store cannot be written: {fault.strerror}. Free space under {folder}.",
        reason="BLOB_STORE_FULL",
        metadata={"errno": str(fault.errno)},
    )
