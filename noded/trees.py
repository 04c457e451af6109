"""A revision as a node sees it: the files of a tree, and where their content comes from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Protocol

from noded.errors import CodeFetchFailed
from riseml.files.errors import InvalidPath
from riseml.files.paths import parse_path


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
