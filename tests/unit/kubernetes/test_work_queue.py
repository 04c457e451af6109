"""Work by key: never twice at once for one key, never forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from controlplane.launch.kubernetes.work_queue import WorkQueue
from riseml.retry import Backoff

SOON = Backoff(first_seconds=0.001, most_seconds=0.01, tries=1000)


@contextlib.asynccontextmanager
async def working(queue: WorkQueue) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_additions_while_a_key_waits_are_one() -> None:
    seen: list[str] = []
    done = asyncio.Event()

    async def handle(key: str) -> None:
        seen.append(key)
        if key == "last":
            done.set()

    queue = WorkQueue(handle, workers=1)
    for key in ("a", "a", "b", "a", "last"):
        queue.add(key)
    async with working(queue):
        await done.wait()
    assert seen == ["a", "b", "last"]


async def test_a_key_that_is_added_while_it_is_worked_on_comes_again_after() -> None:
    running, overlaps, turns = 0, 0, 0
    begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(_: str) -> None:
        nonlocal running, overlaps, turns
        running += 1
        overlaps += running > 1
        turns += 1
        begun.set()
        await go_on.wait()
        running -= 1
        if turns == 2:
            done.set()

    queue = WorkQueue(handle, workers=3)
    queue.add("a")
    async with working(queue):
        await begun.wait()
        queue.add("a")
        queue.add("a")
        go_on.set()
        await done.wait()
    assert (turns, overlaps) == (2, 0)


async def test_a_key_that_fails_comes_again_and_others_do_not_wait_for_it() -> None:
    tries, others = 0, 0
    done = asyncio.Event()

    async def handle(key: str) -> None:
        nonlocal tries, others
        if key == "other":
            others += 1
            return
        tries += 1
        if tries < 4:
            raise RuntimeError("not yet")
        done.set()

    queue = WorkQueue(handle, workers=1, pauses=SOON)
    queue.add("failing")
    queue.add("other")
    async with working(queue):
        await done.wait()
    assert (tries, others) == (4, 1)


async def test_the_earlier_of_two_times_counts() -> None:
    done = asyncio.Event()

    async def handle(_: str) -> None:
        done.set()

    queue = WorkQueue(handle)
    async with working(queue):
        queue.add_after("a", 3600)
        queue.add_after("a", 0.01)
        queue.add_after("a", 3600)
        assert await asyncio.wait_for(done.wait(), 5)
