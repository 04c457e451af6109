"""One node's session: its reports become events, the launcher's effects become orders."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from controlplane.domain.effects import SessionOpened
from controlplane.domain.errors import FailedPrecondition, PermissionDenied
from controlplane.domain.events import (
    AttemptReported,
    CheckpointWritten,
    NodeConnected,
    NodeDisconnected,
    NodeInventoryChanged,
)
from controlplane.freshness import Freshness
from controlplane.launch.daemon import DaemonLauncher, NodeOutbox
from controlplane.launch.outbox import Heard
from controlplane.leases import Leases
from controlplane.rpc import convert, convert_daemon
from controlplane.rpc.samples import Samples
from controlplane.rpc.session_stream import orders_while, read_hello
from controlplane.runtime import Runtime
from riseml.v1 import daemon_service_pb2 as pb

logger = logging.getLogger(__name__)

# A daemon is told at most this often that it was heard: its shims watch for contact.
ACK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """Told to every daemon in the Welcome."""

    heartbeat_seconds: float
    lease_seconds: float

    @property
    def ack_seconds(self) -> float:
        """Often enough for several acknowledgements within a lease."""
        return min(ACK_SECONDS, self.lease_seconds / 4)


class DaemonSessions:
    """Serves DaemonService.Session."""

    def __init__(
        self,
        runtime: Runtime,
        launcher: DaemonLauncher,
        leases: Leases,
        freshness: Freshness,
        samples: Samples,
        cluster_id: str,
        times: SessionTimes,
    ) -> None:
        self._runtime = runtime
        self._launcher = launcher
        self._leases = leases
        self._freshness = freshness
        self._samples = samples
        self._cluster_id = cluster_id
        self._times = times

    async def serve(
        self, node_name: str, requests: AsyncIterator[pb.SessionRequest]
    ) -> AsyncIterator[pb.SessionResponse]:
        """One session from Hello to its end. `node_name` is the token's."""
        hello = await read_hello(requests)
        if hello.observes:
            raise FailedPrecondition(
                "This cluster runs jobs as processes of its daemons, and this daemon would only "
                "observe: start it without --kubernetes.",
                reason="JOBS_ARE_PROCESSES",
            )
        inventory = convert_daemon.inventory(hello.inventory)
        if inventory.node_name != node_name:
            raise PermissionDenied(
                f"This token is of node {node_name}, not {inventory.node_name}.",
                reason="WRONG_NODE",
            )
        if hello.cluster_id not in ("", self._cluster_id):
            raise FailedPrecondition(
                f"Node {node_name} belongs to cluster {hello.cluster_id}, this is "
                f"{self._cluster_id}: give its daemon another --home.",
                reason="WRONG_CLUSTER",
            )
        known = (await self._runtime.committed()).nodes.get(node_name)
        if known is not None and hello.epoch < known.epoch:
            # The reactor would refuse it as well, but only after the present session was closed.
            raise FailedPrecondition(
                f"A newer daemon of node {node_name} has been here (epoch {known.epoch}, this is "
                f"{hello.epoch}): stop this one.",
                reason="STALE_EPOCH",
            )
        # Attached before the reactor knows the node, so that no order made meanwhile is missed.
        # Orders that stand in the Welcome as well are harmless.
        outbox = self._launcher.attach(node_name, hello.epoch)
        try:
            reports = tuple(
                report
                for message in hello.attempts
                if (report := convert_daemon.report(message)) is not None
            )
            opened: SessionOpened = await self._runtime.submit(
                NodeConnected(inventory, hello.epoch, reports)
            )
            now = time.monotonic()
            self._leases.renew(node_name, now)
            node = self._runtime.cluster.nodes[node_name]
            self._freshness.connected(node_name, node.telemetry_late, now)
            logger.info("node %s connected, epoch %d", node_name, hello.epoch)
            yield convert_daemon.welcome(
                opened, self._cluster_id, self._times.heartbeat_seconds, self._times.lease_seconds
            )
            listening = self._listen(node_name, hello.epoch, requests, outbox)
            async with aclosing(orders_while(listening, outbox)) as orders:
                async for order in orders:
                    message = convert_daemon.response(order)
                    if message is not None:
                        yield message
        finally:
            if self._launcher.detach(node_name, outbox):
                # A daemon that connected anew has the same epoch: only its newest session counts.
                self._runtime.post(NodeDisconnected(node_name, hello.epoch))
                self._freshness.disconnected(node_name)
            logger.info("node %s disconnected, epoch %d", node_name, hello.epoch)

    async def _listen(
        self,
        node_name: str,
        epoch: int,
        requests: AsyncIterator[pb.SessionRequest],
        outbox: NodeOutbox,
    ) -> None:
        """Until the daemon hangs up."""
        acknowledged = 0.0
        async for request in requests:
            now = time.monotonic()
            self._leases.renew(node_name, now)
            match request.WhichOneof("event"):
                case "sample":
                    self._samples.take(node_name, request.sample, now)
                case "attempt":
                    report = convert_daemon.report(request.attempt)
                    if report is not None:
                        # An end may let another start, and its node waits to hear of it.
                        soon = report.state.ended
                        self._runtime.post(AttemptReported(node_name, report), soon=soon)
                case "checkpoint":
                    seen = request.checkpoint
                    written = convert.seconds(seen.checkpoint_time)
                    event = CheckpointWritten(node_name, seen.attempt_id, written)
                    self._runtime.post(event, soon=False)
                case "inventory":
                    inventory = convert_daemon.inventory(request.inventory)
                    if inventory.node_name == node_name:
                        self._runtime.post(NodeInventoryChanged(inventory, epoch))
                case _:
                    pass
            if now - acknowledged >= self._times.ack_seconds:
                acknowledged = now
                outbox.put(Heard(request.heartbeat.sequence))
