"""Nodes of the cluster as sessions of the control plane: who is ready has one.

A node whose kubelet reports has its lease renewed; Kubernetes marks one that does not as not ready
after a while, and its lease runs out. What ran there is unknown from then on: nothing else is
started in its place before its pods are proven gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from controlplane.domain.effects import SessionOpened
from controlplane.domain.events import (
    NodeConnected,
    NodeDisconnected,
    NodeInventoryChanged,
    NodeTelemetryLate,
)
from controlplane.domain.model import AttemptReport, NodeInventory
from controlplane.launch.kubernetes.api import Object
from controlplane.launch.kubernetes.node_gpus import Devices, given_gpus, is_told, remembered
from controlplane.launch.kubernetes.node_state import NodePods, is_ours, is_ready, read_node
from controlplane.launch.kubernetes.observers import Observers
from controlplane.launch.kubernetes.ports import Facts, Leases, Reactor
from controlplane.launch.kubernetes.settings import KubernetesSettings

_log = logging.getLogger(__name__)

REFUSAL_SECONDS: Final = 10.0
MOST_REFUSAL_SECONDS: Final = 300.0
"""A node whose kubelet refused a pod gets nothing new for so long, doubled each time in a row."""


Given: TypeAlias = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(slots=True)
class _Session:
    epoch: int
    inventory: NodeInventory
    given: Given
    samples_expected: bool = False


@dataclass(frozen=True, slots=True)
class _Closed:
    """A node that refused a pod."""

    until: float
    """Monotonic time."""
    seconds: float
    why: str


class NodeSessions:
    """Sessions by node name. Times are monotonic seconds."""

    def __init__(
        self,
        settings: KubernetesSettings,
        reactor: Reactor,
        facts: Facts,
        leases: Leases,
        observers: Observers,
        *,
        reports_of: Callable[[str], Awaitable[tuple[AttemptReport, ...]]],
        opened: Callable[[str, SessionOpened], None],
    ) -> None:
        """`reports_of(node)`: all that is known of its attempts. `opened` takes what the control
        plane wants of the node."""
        self._settings = settings
        self._reactor = reactor
        self._facts = facts
        self._leases = leases
        self._observers = observers
        self._reports_of = reports_of
        self._opened = opened
        self._sessions: dict[str, _Session] = {}
        self._closed: dict[str, _Closed] = {}
        # Of which the control plane has no session any more, or may have missed something.
        self._stale: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}

    def connected(self, node_name: str) -> bool:
        return node_name in self._sessions

    async def look(self, name: str, node: Object | None, pods: NodePods, now: float) -> None:
        """Brings a node's session to what its object says. None: there is no such node any more."""
        async with self._locks.setdefault(name, asyncio.Lock()):
            await self._look(name, node, pods, now)

    async def _look(self, name: str, node: Object | None, pods: NodePods, now: float) -> None:
        session = self._sessions.get(name)
        if node is None or not is_ours(node, self._settings) or not is_ready(node):
            if session is not None:
                self._end(name, session, "is gone" if node is None else "is not ready")
            return
        devices = self._devices(name)
        held = self._facts.held_gpus(name)
        read = read_node(node, pods, held, self._settings, devices)
        inventory = self._with_refusals(name, read, now)
        given = given_gpus(devices, pods.own)
        if session is None or name in self._stale:
            await self._open(name, inventory, given, now)
            return
        self._leases.renew(name, now)
        if (inventory, given) != (session.inventory, session.given):
            session.inventory, session.given = inventory, given
            self._expect_samples(name, session, now)
            await self._reactor.submit(NodeInventoryChanged(inventory, session.epoch, given))

    def _expect_samples(self, name: str, session: _Session, now: float) -> None:
        """A node of which a daemon told GPUs has to be told of again and again."""
        if not session.samples_expected and is_told(session.inventory.gpus, name):
            session.samples_expected = True
            self._observers.expect_samples(name, self._facts.telemetry_late(name), now)

    def _devices(self, name: str) -> Devices | None:
        """What a daemon says there; until it comes back after a restart of ours, what it said."""
        if not self._settings.daemon_account:
            return None
        said = self._observers.devices(name)
        if said is not None:
            return said
        gpus = self._facts.gpus(name)
        return remembered(gpus) if is_told(gpus, name) else None

    def ended(self, name: str, epoch: int) -> None:
        """The control plane ended the session with this epoch: its lease ran out."""
        session = self._sessions.get(name)
        if session is not None and session.epoch <= epoch:
            self._stale.add(name)

    def reopen(self) -> list[str]:
        """Something may have been missed: every session is opened anew at its next look."""
        self._stale.update(self._sessions)
        return list(self._sessions)

    def refused(self, name: str, why: str, now: float) -> None:
        """The node's kubelet refused a pod that should have fitted."""
        before = self._closed.get(name)
        seconds = REFUSAL_SECONDS
        if before is not None and now < before.until + before.seconds:
            seconds = min(2 * before.seconds, MOST_REFUSAL_SECONDS)
        self._closed[name] = _Closed(now + seconds, seconds, why)

    def closed_for(self, name: str, now: float) -> float:
        """Seconds for which a node that refused a pod gets nothing new; 0: it is open."""
        closed = self._closed.get(name)
        return 0.0 if closed is None else max(0.0, closed.until - now)

    def _with_refusals(self, name: str, read: NodeInventory, now: float) -> NodeInventory:
        if not self.closed_for(name, now) or read.unschedulable:
            return read
        closed = self._closed[name]
        return replace(read, unschedulable=f"closed for {closed.seconds:.0f} s: {closed.why}")

    async def _open(self, name: str, inventory: NodeInventory, given: Given, now: float) -> None:
        epoch = self._facts.node_epoch(name) + 1
        reports = await self._reports_of(name)
        event = NodeConnected(inventory, epoch, reports, given)
        reply: SessionOpened = await self._reactor.submit(event)
        session = self._sessions[name] = _Session(epoch, inventory, given)
        self._expect_samples(name, session, now)
        if not session.samples_expected and self._facts.telemetry_late(name):
            # Nobody is there to tell of it.
            self._reactor.post(NodeTelemetryLate(name, False))
        self._stale.discard(name)
        self._leases.renew(name, now)
        _log.info("node %s is ready, session %d", name, epoch)
        self._opened(name, reply)

    def _end(self, name: str, session: _Session, words: str) -> None:
        del self._sessions[name]
        self._stale.discard(name)
        self._observers.expect_nothing(name)
        self._reactor.post(NodeDisconnected(name, session.epoch))
        _log.warning("node %s %s", name, words)
