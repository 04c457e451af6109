"""What one session of a daemon has to send; `rpc/` drains it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

Order = TypeVar("Order")


@dataclass(frozen=True, slots=True)
class Heard:
    """Tells the daemon that it was heard, up to this heartbeat."""

    sequence: int


class Outbox(Generic[Order]):
    """Orders in their order. One reader."""

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch
        self._orders: deque[Order] = deque()
        self._arrived = asyncio.Event()
        self.closed = False

    def put(self, order: Order) -> None:
        self._orders.append(order)
        self._arrived.set()

    def close(self) -> None:
        """Wakes the reader for the last time."""
        self.closed = True
        self._arrived.set()

    async def take(self) -> list[Order]:
        """All that waits, at least one; an empty list once the outbox is closed."""
        while not self._orders and not self.closed:
            self._arrived.clear()
            await self._arrived.wait()
        taken = list(self._orders)
        self._orders.clear()
        return taken
