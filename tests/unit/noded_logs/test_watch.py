from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from noded.logs.watch import Watcher


@pytest.mark.parametrize("use_inotify", [True, False])
async def test_what_grows_before_and_after_the_watch_began_wakes_its_follower(
    tmp_path: Path, use_inotify: bool
) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"")
    woken = asyncio.Event()
    watcher = Watcher(use_inotify=use_inotify)
    unwatch = watcher.add(str(file), woken.set)
    for _ in range(3):
        file.write_bytes(b"more")
        async with asyncio.timeout(10):
            await woken.wait()
        woken.clear()
    unwatch()
    file.write_bytes(b"nobody looks")
    watcher.close()
    assert not woken.is_set()


async def test_a_watch_that_ended_before_it_began_wakes_nobody(tmp_path: Path) -> None:
    watcher = Watcher()
    ended, other = asyncio.Event(), asyncio.Event()
    watcher.add(str(tmp_path), ended.set)()
    watcher.add(str(tmp_path / "missing"), other.set)
    async with asyncio.timeout(10):
        await other.wait()
    assert not ended.is_set()
    watcher.close()
