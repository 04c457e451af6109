"""Wakes those who follow a log. It carries no bytes: a follower reads the archive at its own pace,

so a follower that stops reading costs one wake-up flag, and no one else's speed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Follower:
    """Which of the attempts that it follows grew or ended since it looked last."""

    def __init__(self) -> None:
        self._touched: set[str] = set()
        self._arrived = asyncio.Event()

    def touch(self, attempt_id: str) -> None:
        self._touched.add(attempt_id)
        self._arrived.set()

    async def wait(self) -> set[str]:
        """The attempts touched since the last call, at least one."""
        while not self._touched:
            self._arrived.clear()
            await self._arrived.wait()
        touched, self._touched = self._touched, set()
        return touched


class Broker:
    """Followers by attempt."""

    def __init__(self) -> None:
        self._followers: dict[str, set[Follower]] = {}

    def grew(self, attempt_id: str) -> None:
        """Called after bytes were archived."""
        for follower in self._followers.get(attempt_id, ()):
            follower.touch(attempt_id)

    def follow(self, follower: Follower, attempt_id: str) -> None:
        self._followers.setdefault(attempt_id, set()).add(follower)

    @contextmanager
    def follower(self) -> Iterator[Follower]:
        """A follower that is forgotten at the end of the block."""
        follower = Follower()
        try:
            yield follower
        finally:
            for attempt_id in [a for a, f in self._followers.items() if follower in f]:
                followers = self._followers[attempt_id]
                followers.discard(follower)
                if not followers:
                    del self._followers[attempt_id]
