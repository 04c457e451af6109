"""The session of a daemon that observes a node of Kubernetes: it tells how the node is, and reads
logs of containers there. Pods are started and followed by others, so it has no epoch and no lease.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

from controlplane.domain.effects import SessionOpened
from controlplane.domain.errors import FailedPrecondition, PermissionDenied
from controlplane.launch.kubernetes.observers import ObserverOutbox, Observers
from controlplane.launch.outbox import Heard
from controlplane.rpc import convert_daemon
from controlplane.rpc.daemon_session import SessionTimes
from controlplane.rpc.samples import Samples
from controlplane.rpc.session_stream import orders_while, read_hello
from riseml.v1 import daemon_pb2
from riseml.v1 import daemon_service_pb2 as pb

logger = logging.getLogger(__name__)


class ObserverSessions:
    """Serves DaemonService.Session where jobs are pods."""

    def __init__(
        self, observers: Observers, samples: Samples, cluster_id: str, times: SessionTimes
    ) -> None:
        self._observers = observers
        self._samples = samples
        self._cluster_id = cluster_id
        self._times = times

    async def serve(
        self, node_name: str, requests: AsyncIterator[pb.SessionRequest]
    ) -> AsyncIterator[pb.SessionResponse]:
        """One session from Hello to its end. `node_name` is the credential's."""
        hello = await read_hello(requests)
        if not hello.observes:
            # Its node is Kubernetes', and two would each believe that they serve it.
            raise FailedPrecondition(
                "This cluster runs jobs as pods, and its nodes are those of Kubernetes: a daemon "
                "can observe one of them (--kubernetes), but run no jobs.",
                reason="JOBS_ARE_PODS",
            )
        if hello.inventory.node_name != node_name:
            raise PermissionDenied(
                f"This token is of node {node_name}, not {hello.inventory.node_name}.",
                reason="WRONG_NODE",
            )
        outbox = self._observers.attach(node_name)
        try:
            self._heard_of(node_name, hello.inventory)
            logger.info("node %s is observed", node_name)
            nothing = SessionOpened((), (), ())
            yield convert_daemon.welcome(
                nothing, self._cluster_id, self._times.heartbeat_seconds, self._times.lease_seconds
            )
            listening = self._listen(node_name, requests, outbox)
            async with aclosing(orders_while(listening, outbox)) as orders:
                async for order in orders:
                    yield convert_daemon.observer_response(order)
        finally:
            self._observers.detach(node_name, outbox)
            logger.info("node %s is not observed by this session any more", node_name)

    async def _listen(
        self,
        node_name: str,
        requests: AsyncIterator[pb.SessionRequest],
        outbox: ObserverOutbox,
    ) -> None:
        """Until the daemon hangs up."""
        acknowledged = 0.0
        async for request in requests:
            now = time.monotonic()
            match request.WhichOneof("event"):
                case "sample":
                    self._samples.take(node_name, request.sample, now)
                case "inventory" if request.inventory.node_name == node_name:
                    self._heard_of(node_name, request.inventory)
                case _:
                    pass
            if now - acknowledged >= self._times.ack_seconds:
                acknowledged = now
                outbox.put(Heard(request.heartbeat.sequence))

    def _heard_of(self, node_name: str, inventory: daemon_pb2.NodeInventory) -> None:
        # Before the kubelet was asked nobody knows which GPUs it gives out.
        if inventory.HasField("devices"):
            self._observers.said(node_name, convert_daemon.devices(inventory))
