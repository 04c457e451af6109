"""One node's session: its reports become events, the launcher's effects become orders."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from controlplane.domain.effects import SessionOpened
from controlplane.domain.errors import FailedPrecondition, InvalidRequest, PermissionDenied
from controlplane.domain.events import (
    AttemptReported,
    CheckpointWritten,
    NodeConnected,
    NodeDisconnected,
    NodeInventoryChanged,
)
from controlplane.freshness import Freshness
from controlplane.idleness import Idleness
from controlplane.launch.daemon import DaemonLauncher, Heard, Outbox
from controlplane.leases import Leases
from controlplane.rpc import convert, convert_daemon
from controlplane.runtime import Runtime
from controlplane.telemetry import Telemetry
from riseml.v1 import daemon_service_pb2 as pb
from riseml.v1 import telemetry_pb2

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
        idleness: Idleness,
        telemetry: Telemetry[telemetry_pb2.NodeSample],
        cluster_id: str,
        times: SessionTimes,
        jobs_are_pods: bool = False,
    ) -> None:
        self._runtime = runtime
        self._launcher = launcher
        self._leases = leases
        self._freshness = freshness
        self._idleness = idleness
        self._telemetry = telemetry
        self._cluster_id = cluster_id
        self._times = times
        self._jobs_are_pods = jobs_are_pods

    async def serve(
        self, node_name: str, requests: AsyncIterator[pb.SessionRequest]
    ) -> AsyncIterator[pb.SessionResponse]:
        """One session from Hello to its end. `node_name` is the token's."""
        if self._jobs_are_pods:
            # Its node is Kubernetes', and two would each believe that they serve it.
            raise FailedPrecondition(
                "This cluster runs jobs as pods, and its nodes are those of Kubernetes: no daemon "
                "can join it.",
                reason="JOBS_ARE_PODS",
            )
        first = await anext(aiter(requests), None)
        if first is None or not first.HasField("hello"):
            raise InvalidRequest("A session begins with Hello.", reason="HELLO_EXPECTED")
        hello = first.hello
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
        reader: asyncio.Task[None] | None = None
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
            reader = asyncio.create_task(self._listen(node_name, hello.epoch, requests, outbox))
            reader.add_done_callback(lambda _: outbox.close())
            while True:
                orders = await outbox.take()
                for order in orders:
                    message = convert_daemon.response(order)
                    if message is not None:
                        yield message
                if outbox.closed and not orders:
                    break
            if reader.done():
                reader.result()
        finally:
            if self._launcher.detach(node_name, outbox):
                # A daemon that connected anew has the same epoch: only its newest session counts.
                self._runtime.post(NodeDisconnected(node_name, hello.epoch))
                self._freshness.disconnected(node_name)
            logger.info("node %s disconnected, epoch %d", node_name, hello.epoch)
            if reader is not None:
                reader.cancel()
                # What it failed of was raised above, if anybody still wants to hear it.
                await asyncio.gather(reader, return_exceptions=True)

    async def _listen(
        self,
        node_name: str,
        epoch: int,
        requests: AsyncIterator[pb.SessionRequest],
        outbox: Outbox,
    ) -> None:
        """Until the daemon hangs up."""
        acknowledged = 0.0
        async for request in requests:
            now = time.monotonic()
            self._leases.renew(node_name, now)
            match request.WhichOneof("event"):
                case "sample":
                    self._telemetry.record(node_name, request.sample, now)
                    self._freshness.sampled(node_name, now)
                    if self._idleness.wanted:
                        self._note_use(request.sample, now)
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

    def _note_use(self, sample: telemetry_pb2.NodeSample, now: float) -> None:
        """Of GPUs whose experiments have a policy. A card that does not tell is not idle."""
        wanted = self._idleness.wanted
        for gpu in sample.gpus:
            if gpu.gpu_uuid in wanted and gpu.HasField("utilization_percent"):
                self._idleness.sampled(gpu.gpu_uuid, gpu.utilization_percent, now)
