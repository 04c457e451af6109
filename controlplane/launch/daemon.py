"""Launches through noded: effects wait in the outbox of the node's session, which `rpc/` drains.

An effect for a node without a session is dropped: when the node comes back it is told everything
that it should run (desired state), so nothing has to be remembered here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from controlplane.domain.effects import EndSession
from controlplane.launch.protocol import LaunchEffect


@dataclass(frozen=True, slots=True)
class Heard:
    """Tells the daemon that it was heard, up to this heartbeat."""

    sequence: int


class Outbox:
    """What one session has to send, in order. One reader."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._orders: deque[LaunchEffect | Heard] = deque()
        self._arrived = asyncio.Event()
        self.closed = False

    def put(self, order: LaunchEffect | Heard) -> None:
        self._orders.append(order)
        self._arrived.set()

    def close(self) -> None:
        """Wakes the reader for the last time."""
        self.closed = True
        self._arrived.set()

    async def take(self) -> list[LaunchEffect | Heard]:
        """All that waits, at least one; an empty list once the outbox is closed."""
        while not self._orders and not self.closed:
            self._arrived.clear()
            await self._arrived.wait()
        taken = list(self._orders)
        self._orders.clear()
        return taken


class DaemonLauncher:
    """The `daemon` launcher: one outbox per connected node."""

    name = "daemon"

    def __init__(self) -> None:
        self._outboxes: dict[str, Outbox] = {}

    def attach(self, node_name: str, epoch: int) -> Outbox:
        """Opens the outbox of a new session; an older session of the node is closed."""
        old = self._outboxes.get(node_name)
        if old is not None:
            old.close()
        outbox = Outbox(epoch)
        self._outboxes[node_name] = outbox
        return outbox

    def detach(self, node_name: str, outbox: Outbox) -> bool:
        """Ends a session. False if a newer one has taken over: its outbox stays."""
        outbox.close()
        current = self._outboxes.get(node_name)
        if current is outbox:
            del self._outboxes[node_name]
        return current is None or current is outbox

    def dispatch(self, effect: LaunchEffect) -> None:
        outbox = self._outboxes.get(effect.node_name)
        if outbox is None:
            return
        if isinstance(effect, EndSession):
            if outbox.epoch <= effect.epoch:
                self.detach(effect.node_name, outbox)
            return
        outbox.put(effect)

    def resync(self) -> None:
        for node_name, outbox in list(self._outboxes.items()):
            self.detach(node_name, outbox)
