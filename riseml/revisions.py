"""The code of an experiment, fetched back: only files that are not there yet as they were."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

from riseml.client import Client
from riseml.errors import TransferError
from riseml.files.errors import InvalidPath
from riseml.files.paths import parse_path
from riseml.storage import CopyProgress
from riseml.v1 import project_pb2

BLOBS_PER_CALL: Final = 500


def download_revision(
    client: Client,
    revision_id: str,
    folder: Path,
    *,
    user_name: str = "",
    progress: CopyProgress | None = None,
) -> int:
    """Write the files of a revision below ``folder``; returns their number. Other files there
    stay.
    """
    entries = list(client.projects.manifest(revision_id, user_name))
    wanted: dict[bytes, list[tuple[Path, project_pb2.ManifestEntry]]] = {}
    for entry in entries:
        local = _local(folder, entry.path)
        if not _has(local, entry):
            wanted.setdefault(entry.sha256, []).append((local, entry))
    total = sum(places[0][1].size_bytes for places in wanted.values())
    done = 0
    hashes = list(wanted)
    for start in range(0, len(hashes), BLOBS_PER_CALL):
        stream = client.projects.download_blobs(
            revision_id, hashes[start : start + BLOBS_PER_CALL], user_name
        )
        current = b""
        parts: list[bytes] = []
        for answer in stream:
            current = answer.sha256 or current
            parts.append(answer.data)
            done += len(answer.data)
            if progress is not None:
                progress("Fetching code", done, total)
            if answer.last:
                _write(current, b"".join(parts), wanted.pop(current, []))
                parts = []
    if wanted:
        raise TransferError("The server did not send all files. Run the command again.")
    return len(entries)


def _local(folder: Path, path: str) -> Path:
    try:
        return folder.joinpath(*parse_path(path))
    except InvalidPath as error:
        raise TransferError(f"The server names a path that leaves the folder: {path!r}.") from error


def _has(local: Path, entry: project_pb2.ManifestEntry) -> bool:
    try:
        if local.is_symlink() or local.stat().st_size != entry.size_bytes:
            return False
        return hashlib.sha256(local.read_bytes()).digest() == entry.sha256
    except OSError:
        return False


def _write(
    sha256: bytes, content: bytes, places: list[tuple[Path, project_pb2.ManifestEntry]]
) -> None:
    if hashlib.sha256(content).digest() != sha256:
        raise TransferError("A file came damaged. Run the command again.")
    for local, entry in places:
        try:
            local.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=local.parent, prefix=".riseml-")
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
            os.chmod(temporary, 0o755 if entry.mode & 0o100 else 0o644)
            os.replace(temporary, local)
        except OSError as error:
            raise TransferError(f"{local}: {error.strerror}.") from error
