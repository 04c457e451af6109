"""A node of Kubernetes as its session sees it: it has nothing to start and nothing to stop."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import psutil

from noded.inventory import cpu_milli, daemon_version
from noded.kubelet.devices import Devices
from noded.kubelet.log_shipping import LogShipping
from noded.telemetry.collector import Collector
from noded.telemetry.convert import gpu_to_proto, node_sample_to_proto
from noded.telemetry.model import LiveAttempt
from riseml.v1 import daemon_pb2, daemon_service_pb2, node_pb2, telemetry_pb2

log = logging.getLogger(__name__)


class ObservedNode:
    """Implements the session's `Node`."""

    def __init__(
        self,
        name: str,
        boot_id: str,
        telemetry: Collector,
        devices: Devices,
        shipping: LogShipping,
    ) -> None:
        self._name = name
        self._boot_id = boot_id
        self._telemetry = telemetry
        self._devices = devices
        self._shipping = shipping
        self._pods: tuple[LiveAttempt, ...] = ()
        self._said: daemon_pb2.NodeInventory | None = None

    def attempts(self) -> tuple[LiveAttempt, ...]:
        """Whose pods are here."""
        return self._pods

    def hello(self, cluster_id: str) -> daemon_service_pb2.Hello:
        self._said = self._inventory()
        return daemon_service_pb2.Hello(inventory=self._said, observes=True)

    def welcome(self, message: daemon_service_pb2.Welcome) -> None:
        return

    def obey(self, order: daemon_service_pb2.SessionResponse) -> None:
        match order.WhichOneof("order"):
            case "pods":
                self._pods = tuple(
                    LiveAttempt(pod.attempt_id, 0, pod_uid=pod.pod_uid) for pod in order.pods.pods
                )
                self._shipping.pods(pod.pod_uid for pod in order.pods.pods)
            case "follow_log":
                self._shipping.follow(order.follow_log)
            case other:
                log.warning("ignored an order of kind %s: this daemon only observes", other)

    def sample(self) -> telemetry_pb2.NodeSample | None:
        sample = self._telemetry.take()
        return node_sample_to_proto(self._name, sample) if sample is not None else None

    def inventory_change(self) -> daemon_pb2.NodeInventory | None:
        now = self._inventory()
        if now == self._said:
            return None
        self._said = now
        return now

    def checkpoints(self) -> Sequence[tuple[str, float]]:
        return ()

    def contact(self, boot_time: float) -> None:
        return

    def _inventory(self) -> daemon_pb2.NodeInventory:
        gpus = self._telemetry.inventory()
        return daemon_pb2.NodeInventory(
            node_name=self._name,
            boot_id=self._boot_id,
            daemon_version=daemon_version(),
            cpu_milli=cpu_milli(),
            memory_bytes=int(psutil.virtual_memory().total),
            gpus=[gpu_to_proto(gpu) for gpu in gpus],
            devices=self._devices.describe(gpus),
            capabilities=node_pb2.NodeCapabilities(
                notes=[*self._telemetry.notes(), *self._devices.notes()]
            ),
        )
