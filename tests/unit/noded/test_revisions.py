from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from noded.errors import CodeFetchFailed
from noded.revisions import RevisionCache
from noded.trees import BlobPiece, TreeFile
from noded.uids import Identity

ME = Identity(os.getuid(), os.getgid(), separate=False)


class FakeSource:
    """Revisions from memory; `faults` are raised first, `damage` spoils the next blob."""

    def __init__(self, revisions: dict[str, dict[str, bytes]]) -> None:
        self.revisions = revisions
        self.faults: list[Exception] = []
        self.damage = False
        self.over: set[str] = set()
        self.sent: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def manifest(self, revision_id: str, attempt_id: str) -> tuple[TreeFile, ...]:
        if attempt_id in self.over:
            await self.gate.wait()
            raise CodeFetchFailed(f"{attempt_id} uses no such revision")
        if self.faults:
            raise self.faults.pop(0)
        return tuple(
            TreeFile(path, path.endswith(".sh"), len(content), hashlib.sha256(content).digest())
            for path, content in self.revisions[revision_id].items()
        )

    async def blobs(
        self, revision_id: str, attempt_id: str, have: Iterable[bytes]
    ) -> AsyncIterator[BlobPiece]:
        await self.gate.wait()
        had = set(have)
        for content in self.revisions[revision_id].values():
            sha256 = hashlib.sha256(content).digest()
            if sha256 in had:
                continue
            had.add(sha256)
            self.sent.append(content)
            data, self.damage = (b"X" * len(content) if self.damage else content), False
            yield BlobPiece(sha256, data[:1], False)
            yield BlobPiece(b"", data[1:], True)


async def no_wait(seconds: float) -> None:
    return


def cache_of(root: Path, source: FakeSource, max_bytes: int = 1 << 30) -> RevisionCache:
    return RevisionCache(root / "cache", source, max_bytes, "boot-1", wait=no_wait)


async def test_equal_content_travels_once_and_copies_are_independent(tmp_path: Path) -> None:
    source = FakeSource({"r": {"a.sh": b"same", "b/c": b"same", "d": b""}})
    cache = cache_of(tmp_path, source)
    async with cache.hold("r", "x") as tree:
        cache.copy(tree, tmp_path / "one", ME)
        (tmp_path / "one" / "b" / "c").write_bytes(b"changed")
        cache.copy(tree, tmp_path / "two", ME)
    assert len(source.sent) == 2
    assert (tmp_path / "two" / "b" / "c").read_bytes() == b"same"
    assert os.access(tmp_path / "two" / "a.sh", os.X_OK)
    assert not os.access(tmp_path / "two" / "b" / "c", os.X_OK)
    assert os.stat(tmp_path / "two" / "d").st_nlink == 1
    assert os.stat(tmp_path / "two").st_mode & 0o777 == 0o700


async def test_a_broken_connection_and_a_damaged_file_are_tried_again(tmp_path: Path) -> None:
    source = FakeSource({"r": {"a": b"content"}})
    source.faults, source.damage = [ConnectionError("gone")], True
    cache = cache_of(tmp_path, source)
    async with cache.hold("r", "x") as tree:
        assert cache.read(tree[0]) == b"content"
    assert len(source.sent) == 2


async def test_a_refusal_is_final_and_endless_trouble_ends(tmp_path: Path) -> None:
    source = FakeSource({"r": {"a": b"content"}})
    cache = cache_of(tmp_path, source)
    source.faults = [CodeFetchFailed("not yours")]
    with pytest.raises(CodeFetchFailed, match="not yours"):
        async with cache.hold("r", "x"):
            pass
    source.faults = [ConnectionError("gone")] * 5
    with pytest.raises(CodeFetchFailed, match="did not arrive: gone"):
        async with cache.hold("r", "x"):
            pass


async def test_code_refused_to_an_attempt_that_is_over_still_comes_for_the_next(
    tmp_path: Path,
) -> None:
    source = FakeSource({"r": {"a": b"content"}})
    source.over = {"killed"}
    source.gate.clear()
    cache = cache_of(tmp_path, source)

    async def use(attempt_id: str) -> bytes:
        async with cache.hold("r", attempt_id) as tree:
            return cache.read(tree[0])

    killed, wanted = asyncio.create_task(use("killed")), asyncio.create_task(use("wanted"))
    await asyncio.sleep(0)
    source.gate.set()
    assert await wanted == b"content"
    with pytest.raises(CodeFetchFailed):
        await killed


async def test_one_fetch_serves_all_who_wait_and_survives_who_leaves(tmp_path: Path) -> None:
    source = FakeSource({"r": {"a": b"content"}})
    source.gate.clear()
    cache = cache_of(tmp_path, source)

    async def use() -> bytes:
        async with cache.hold("r", "x") as tree:
            return cache.read(tree[0])

    first, second = asyncio.create_task(use()), asyncio.create_task(use())
    await asyncio.sleep(0)
    first.cancel()
    source.gate.set()
    assert await second == b"content"
    assert len(source.sent) == 1


async def test_what_was_used_least_recently_makes_room(tmp_path: Path) -> None:
    source = FakeSource({n: {"f": n.encode() * 100} for n in ("a", "b", "c")})
    cache = cache_of(tmp_path, source, max_bytes=250)
    for name, age in (("a", 200), ("b", 100)):
        async with cache.hold(name, "x") as tree:
            blob = tmp_path / "cache" / "blobs" / tree[0].sha256.hex()
            os.utime(blob, (1e9 - age, 1e9 - age))
    async with cache.hold("c", "x"):
        pass
    source.sent.clear()
    async with cache.hold("b", "x"), cache.hold("c", "x"):
        assert source.sent == []
    async with cache.hold("a", "x"):
        assert source.sent == [b"a" * 100]


async def test_a_reboot_empties_the_cache_and_a_restart_does_not(tmp_path: Path) -> None:
    source = FakeSource({"r": {"a": b"content"}})
    async with cache_of(tmp_path, source).hold("r", "x"):
        pass
    async with cache_of(tmp_path, source).hold("r", "x"):
        pass
    assert len(source.sent) == 1
    rebooted = RevisionCache(tmp_path / "cache", source, 1 << 30, "boot-2", wait=no_wait)
    async with rebooted.hold("r", "x"):
        pass
    assert len(source.sent) == 2
