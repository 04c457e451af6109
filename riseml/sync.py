"""A project's folder to the control plane: hash, ask what is missing, send only that, record a
revision.

An interrupted sending goes on where it stopped, for blobs that arrived whole are kept and the
missing ones are asked for again. What to send and what not stands in ``riseml.code_tree``.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from riseml.client import Client
from riseml.code_tree import (
    DEFAULT_LIMITS,
    HashCache,
    HashedFile,
    Limits,
    TreeFile,
    hash_tree,
    list_tree,
    open_regular,
)
from riseml.errors import DeadlineExceeded, SyncError, Unavailable
from riseml.retry import CALL, Backoff
from riseml.v1 import project_pb2
from riseml.v1 import project_service_pb2 as pb

__all__ = ["Limits", "Progress", "SyncProgress", "TreeFile", "cache_dir", "sync_tree"]

CHUNK_BYTES: Final = 256 * 1024
SLOWEST_BYTES_PER_SECOND: Final = 50_000
"""A sending that is slower than this runs into its deadline, and then goes on from there."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    phase: str
    """``hash`` or ``send``."""
    done_bytes: int
    total_bytes: int
    file_count: int
    """Files in this phase."""


SyncProgress: TypeAlias = Callable[[Progress], None]


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """RISEML_CACHE_DIR, else the platform's folder for a user's caches."""
    named = environ.get("RISEML_CACHE_DIR")
    if named:
        return Path(named)
    import platformdirs

    return Path(platformdirs.user_cache_dir("riseml", appauthor=False))


def sync_tree(
    client: Client,
    root: Path,
    project: str,
    *,
    limits: Limits = DEFAULT_LIMITS,
    cache: Path | None = None,
    progress: SyncProgress | None = None,
    backoff: Backoff = CALL,
    sleep: Callable[[float], None] = time.sleep,
) -> project_pb2.Revision:
    """Make the folder ``root`` a revision of ``project`` on the server.

    Raises SyncError for what cannot be sent, else what the calls raise.
    """
    root = root.resolve()
    tell = progress or (lambda _: None)
    files = list_tree(root, limits)
    if not files:
        raise SyncError(f"{root} has no files to send. Is it the right folder?")
    hashes = HashCache(cache if cache is not None else cache_dir(), root)
    hashed = hash_tree(root, files, hashes, _Meter("hash", files, tell).add)
    hashes.save()
    _send_missing(client, root, hashed, tell, backoff, sleep)
    return client.projects.create_revision(
        project,
        [
            project_pb2.ManifestEntry(
                path=item.file.path,
                mode=0o755 if item.file.executable else 0o644,
                size_bytes=item.file.size_bytes,
                sha256=item.sha256,
            )
            for item in hashed
        ],
    )


class _Meter:
    """Adds up bytes and tells the caller about it."""

    def __init__(self, phase: str, files: Sequence[TreeFile], tell: SyncProgress) -> None:
        self._phase = phase
        self._count = len(files)
        self._total = sum(file.size_bytes for file in files)
        self._done = 0
        self._tell = tell
        self.add(0)

    def add(self, size_bytes: int) -> None:
        self._done = min(self._done + size_bytes, self._total)
        self._tell(Progress(self._phase, self._done, self._total, self._count))


def _send_missing(
    client: Client,
    root: Path,
    hashed: Sequence[HashedFile],
    tell: SyncProgress,
    backoff: Backoff,
    sleep: Callable[[float], None],
) -> None:
    by_hash = {item.sha256: item for item in hashed}
    missing = list(client.projects.missing_blobs(list(by_hash)))
    meter = _Meter("send", [by_hash[sha256].file for sha256 in missing], tell)
    sent: set[bytes] = set()
    pauses = backoff.pauses()
    while missing:
        wanted = [by_hash[sha256] for sha256 in missing]
        total = sum(item.file.size_bytes for item in wanted)
        try:
            client.projects.upload_blobs(
                _chunks(root, wanted, sent, meter.add),
                seconds=60 + total / SLOWEST_BYTES_PER_SECOND,
            )
            return
        except (Unavailable, DeadlineExceeded):
            pause = next(pauses, None)
            if pause is None:
                raise
        sleep(pause)
        before = len(missing)
        missing = list(client.projects.missing_blobs(missing))
        if len(missing) < before:
            pauses = backoff.pauses()


def _chunks(
    root: Path, wanted: Sequence[HashedFile], counted: set[bytes], tell: Callable[[int], None]
) -> Iterator[pb.UploadBlobsRequest]:
    for item in wanted:
        tell_once = (lambda _: None) if item.sha256 in counted else tell
        yield from _blob_chunks(root, item, tell_once)
        counted.add(item.sha256)


def _blob_chunks(
    root: Path, item: HashedFile, tell: Callable[[int], None]
) -> Iterator[pb.UploadBlobsRequest]:
    """A file in chunks; it is compared with its hash on the way, for it may have changed
    meanwhile.
    """
    digest = hashlib.sha256()
    left = item.file.size_bytes
    first = True
    try:
        with os.fdopen(open_regular(root / item.file.path), "rb") as opened:
            while first or left:
                data = opened.read(min(CHUNK_BYTES, left))
                digest.update(data)
                left -= len(data)
                if (left and not data) or (not left and digest.digest() != item.sha256):
                    raise SyncError(
                        f"{item.file.path} changed while it was sent. Run the command again.",
                        reason="FILE_CHANGED",
                    )
                yield pb.UploadBlobsRequest(
                    sha256=item.sha256 if first else b"",
                    size_bytes=item.file.size_bytes if first else 0,
                    data=data,
                    last=not left,
                )
                tell(len(data))
                first = False
    except OSError as error:
        raise SyncError(f"{item.file.path} cannot be read: {error.strerror}.") from error
