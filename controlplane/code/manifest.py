"""A revision's manifest: which files it has, in one canonical text whose SHA-256 is the revision's
id.

One line a file, sorted by path: `MODE SIZE SHA256 PATH`. The text itself is kept as a blob, so a
revision needs nothing but blobs, and the same tree is the same revision wherever it was made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.domain.errors import DataLoss, FieldViolation, InvalidRequest

MAX_FILES: Final = 50_000
MAX_TOTAL_BYTES: Final = 4 << 30
MAX_PATH_BYTES: Final = 1024
FILE_MODES: Final = (0o644, 0o755)


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file: relative path with `/`, 0o644 or 0o755, size in bytes, SHA-256 (32 bytes)."""

    path: str
    mode: int
    size_bytes: int
    sha256: bytes


def check(files: Sequence[ManifestFile]) -> None:
    """Raises InvalidRequest with every wrong entry (the first twenty) unless the manifest is
    canonical.
    """
    violations: list[FieldViolation] = []
    if len(files) > MAX_FILES:
        raise InvalidRequest(
            f"The project has {len(files)} files, {MAX_FILES} is the limit: list what is not "
            "code in .risemlignore.",
            reason="TOO_MANY_FILES",
        )
    previous = ""
    folders: set[str] = set()
    names: set[str] = set()
    for index, file in enumerate(files):
        where = f"entries[{index}]"
        problem = _path_problem(file.path)
        if problem:
            violations.append(FieldViolation(f"{where}.path", f"{file.path!r} {problem}"))
            continue
        if file.path <= previous:
            violations.append(
                FieldViolation(f"{where}.path", f"{file.path!r} is out of order or twice")
            )
        previous = file.path
        names.add(file.path)
        parts = file.path.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        if file.mode not in FILE_MODES:
            violations.append(FieldViolation(f"{where}.mode", "must be 0644 or 0755"))
        if len(file.sha256) != 32:
            violations.append(FieldViolation(f"{where}.sha256", "must have 32 bytes"))
        if file.size_bytes < 0:
            violations.append(FieldViolation(f"{where}.size_bytes", "must be >= 0"))
    violations.extend(
        FieldViolation("entries", f"{path!r} is a file and a folder")
        for path in sorted(names & folders)
    )
    total = sum(file.size_bytes for file in files)
    if total > MAX_TOTAL_BYTES:
        violations.append(
            FieldViolation("entries", f"{total} bytes in all, {MAX_TOTAL_BYTES} is the limit")
        )
    if violations:
        raise InvalidRequest("The manifest is not valid.", tuple(violations[:20]))


def _path_problem(path: str) -> str:
    if not path or path.startswith("/"):
        return "is not relative"
    if len(path.encode(errors="surrogatepass")) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    if any(ord(character) < 32 or character == "\x7f" for character in path):
        return "has a control character"
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "leaves the tree or is not normal"
    if ".git" in parts:
        return "is inside .git, which is never sent"
    return ""


def render(files: Sequence[ManifestFile]) -> bytes:
    """The canonical text."""
    return "".join(
        f"{file.mode:04o} {file.size_bytes} {file.sha256.hex()} {file.path}\n" for file in files
    ).encode()


def parse(text: bytes) -> tuple[ManifestFile, ...]:
    """The reverse of `render`. Raises DataLoss when the text is damaged."""
    files = []
    for line in text.decode().split("\n")[:-1]:
        try:
            mode, size, sha256, path = line.split(" ", 3)
            files.append(ManifestFile(path, int(mode, 8), int(size), bytes.fromhex(sha256)))
        except ValueError:
            raise DataLoss(
                f"A stored manifest is damaged at {line!r}.", reason="MANIFEST_DAMAGED"
            ) from None
    return tuple(files)


def revision_id(text: bytes) -> str:
    """Hex SHA-256 of the canonical text."""
    return hashlib.sha256(text).hexdigest()
