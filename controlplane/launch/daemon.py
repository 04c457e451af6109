"""Launches through noded: effects wait in the outbox of the node's session, which `rpc/` drains.

An effect for a node without a session is dropped: when the node comes back it is told everything
that it should run (desired state), so nothing has to be remembered here.
"""

from __future__ import annotations

from typing import TypeAlias

from controlplane.domain.effects import EndSession
from controlplane.launch.outbox import Heard, Outbox
from controlplane.launch.protocol import LaunchEffect

NodeOutbox: TypeAlias = Outbox[LaunchEffect | Heard]


class DaemonLauncher:
    """The `daemon` launcher: one outbox per connected node."""

    name = "daemon"

    def __init__(self) -> None:
        self._outboxes: dict[str, NodeOutbox] = {}

    def attach(self, node_name: str, epoch: int) -> NodeOutbox:
        """Opens the outbox of a new session; an older session of the node is closed."""
        old = self._outboxes.get(node_name)
        if old is not None:
            old.close()
        outbox: NodeOutbox = Outbox(epoch)
        self._outboxes[node_name] = outbox
        return outbox

    def detach(self, node_name: str, outbox: NodeOutbox) -> bool:
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
