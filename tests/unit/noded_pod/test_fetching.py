"""Trouble on the way: what is tried again, what ends it, and what people read meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from noded.errors import CodeFetchFailed, CredentialRefused, RevisionRefused
from noded.pod.checkout import Checkout
from noded.pod.fetching import Fetching, Unreachable
from noded.trees import BlobPiece, TreeFile

FILES = {"a": b"first", "b": b"second"}


class Source:
    """A revision from memory. Each fault strikes once, before the piece of its number."""

    def __init__(self, files: dict[str, bytes], faults: dict[int, Exception] | None = None) -> None:
        self.files = files
        self.faults = faults or {}
        self.sent: list[bytes] = []
        self.pieces = 0
        self.damages = False
        self.hangs = False

    async def manifest(self, revision_id: str, attempt_id: str) -> tuple[TreeFile, ...]:
        self._strike()
        return tuple(
            TreeFile(path, False, len(content), hashlib.sha256(content).digest())
            for path, content in self.files.items()
        )

    async def blobs(
        self, revision_id: str, attempt_id: str, have: Iterable[bytes]
    ) -> AsyncIterator[BlobPiece]:
        had = set(have)
        for content in self.files.values():
            sha256 = hashlib.sha256(content).digest()
            if sha256 in had:
                continue
            if self.hangs:
                await asyncio.Event().wait()
            self.sent.append(content)
            sent = b"x" * len(content) if self.damages else content
            self._strike()
            yield BlobPiece(sha256, sent[:1], False)
            self._strike()
            yield BlobPiece(b"", sent[1:], True)

    def _strike(self) -> None:
        fault = self.faults.pop(self.pieces, None)
        self.pieces += 1
        if fault is not None:
            raise fault


class Told(list[str]):
    """What was said."""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def no_wait(seconds: float) -> None:
    await asyncio.sleep(0)


def fetching(target: Path, source: Source, told: Told, patience_seconds: float = 20) -> Fetching:
    return Fetching(source, Checkout(target), patience_seconds, told.append, wait=no_wait)


async def test_whole_files_are_not_asked_for_again(tmp_path: Path) -> None:
    faults: dict[int, Exception] = {0: ConnectionError("away"), 5: ConnectionError("cut off")}
    source, told = Source(FILES, faults), Told()
    tree = await fetching(tmp_path, source, told).fetch("r", "x")
    assert [file.path for file in tree] == ["a", "b"]
    assert contents(tmp_path) == FILES
    assert source.sent == [b"first", b"second", b"second"]
    assert told == ["trying on: away"], "and not a line for every try"


@pytest.mark.parametrize("kind", [RevisionRefused, CredentialRefused])
async def test_a_refusal_is_not_tried_again(tmp_path: Path, kind: type[Exception]) -> None:
    source = Source(FILES, {0: kind("not yours")})
    with pytest.raises(kind, match="not yours"):
        await fetching(tmp_path, source, Told()).fetch("r", "x")
    assert source.pieces == 1


async def test_silence_ends_it(tmp_path: Path) -> None:
    source = Source(FILES)
    source.hangs = True
    with pytest.raises(Unreachable, match=r"nothing new came .* for 0.05 s"):
        await fetching(tmp_path, source, Told(), 0.05).fetch("r", "x")


async def test_bytes_that_only_repeat_themselves_are_nothing_new(tmp_path: Path) -> None:
    source = Source(FILES)
    source.damages = True
    with pytest.raises(Unreachable, match="arrived damaged"):
        await fetching(tmp_path, source, Told(), 0.1).fetch("r", "x")
    assert len(source.sent) > 1


async def test_a_path_that_leaves_the_tree_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    source = Source({"../outside": b"content"})
    with pytest.raises(CodeFetchFailed, match="refused"):
        await fetching(target, source, Told()).fetch("r", "x")
    assert not source.sent
    assert os.listdir(tmp_path) == ["target"]


async def test_a_target_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CodeFetchFailed, match="could not be put in place"):
        await fetching(tmp_path / "nowhere", Source(FILES), Told()).fetch("r", "x")
