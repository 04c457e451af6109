"""Work by key: one at a time for each key, several keys side by side, failures again after a pause.

The pattern of Kubernetes' controllers (client-go's workqueue): what is added says only *that* there
is something to look at, never what, so any number of additions while a key waits are one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from riseml.retry import Backoff

_log = logging.getLogger(__name__)

WORKERS: Final = 16
PAUSES: Final = Backoff(first_seconds=0.5, most_seconds=30.0, tries=sys.maxsize)


class WorkQueue:
    """Calls `handle(key)` after `add(key)`. After an exception the key comes again, later."""

    def __init__(
        self,
        handle: Callable[[str], Awaitable[None]],
        *,
        workers: int = WORKERS,
        pauses: Backoff = PAUSES,
        rng: random.Random | None = None,
    ) -> None:
        self._handle = handle
        self._workers = workers
        self._backoff = pauses
        self._rng = rng or random.Random()
        self._waiting: deque[str] = deque()
        self._queued: set[str] = set()
        self._busy: set[str] = set()
        # Keys that were added while they were being worked on.
        self._again: set[str] = set()
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._failures: dict[str, Iterator[float]] = {}
        self._arrived = asyncio.Event()

    def add(self, key: str) -> None:
        """It will be looked at soon."""
        timer = self._later.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._busy:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._waiting.append(key)
            self._arrived.set()

    def add_after(self, key: str, seconds: float) -> None:
        """It will be looked at after so long, unless it is anyway before."""
        loop = asyncio.get_running_loop()
        known = self._later.get(key)
        if known is not None:
            if known.when() <= loop.time() + seconds:
                return
            known.cancel()
        self._later[key] = loop.call_later(seconds, self._due, key)

    def _due(self, key: str) -> None:
        self._later.pop(key, None)
        self.add(key)

    async def run(self) -> None:
        """Works until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._workers):
                    group.create_task(self._work())
        finally:
            for timer in self._later.values():
                timer.cancel()
            self._later.clear()

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            key = self._waiting.popleft()
            self._queued.discard(key)
            self._busy.add(key)
            try:
                await self._handle(key)
            except Exception as fault:
                self._failed(key, fault)
            else:
                self._failures.pop(key, None)
            finally:
                self._busy.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    def _failed(self, key: str, fault: Exception) -> None:
        pauses = self._failures.setdefault(key, self._backoff.pauses(self._rng))
        pause = next(pauses)
        _log.warning("%s: again in %.1f s: %s", key, pause, fault)
        _log.debug("%s", key, exc_info=fault)
        self.add_after(key, pause)
