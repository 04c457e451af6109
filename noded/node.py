"""The node as its session sees it: hello, orders, samples. Joins the executor, telemetry and the
inventory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from noded.convert import desired_of, report_message
from noded.executor import Executor
from noded.inventory import Inventory
from noded.reconcile import Forget, ReportNeverStarted, Start, Stop, reconcile
from noded.session import stop_order
from noded.telemetry.convert import node_sample_to_proto
from noded.telemetry.model import GpuStatus, NodeSample
from riseml.v1 import daemon_pb2, daemon_service_pb2, telemetry_pb2

log = logging.getLogger(__name__)


class Telemetry(Protocol):
    """What is measured."""

    def inventory(self) -> Sequence[GpuStatus]: ...

    def notes(self) -> Sequence[str]: ...

    def take(self) -> NodeSample | None: ...


class NodeState:
    """What the session asks and orders of this node."""

    def __init__(
        self,
        name: str,
        epoch: int,
        executor: Executor,
        inventory: Inventory,
        telemetry: Telemetry,
        contact: Callable[[int], None],
        checkpoints: Callable[[], Sequence[tuple[str, float]]],
    ) -> None:
        self._name = name
        self._epoch = epoch
        self._executor = executor
        self._inventory = inventory
        self._telemetry = telemetry
        self._contact = contact
        self._checkpoints = checkpoints

    def hello(self, cluster_id: str) -> daemon_service_pb2.Hello:
        return daemon_service_pb2.Hello(
            inventory=self._inventory.describe(
                self._telemetry.inventory(), self._telemetry.notes()
            ),
            epoch=self._epoch,
            cluster_id=cluster_id,
            attempts=[report_message(report) for report in self._executor.reports()],
        )

    def welcome(self, message: daemon_service_pb2.Welcome) -> None:
        orders = {order.attempt_id: order for order in message.desired}
        actions = reconcile(
            desired_of(message),
            [stop_order(stop) for stop in message.stopping],
            message.forget,
            self._executor.observed(),
        )
        for action in actions:
            match action:
                case Start(attempt_id):
                    self._executor.start(orders[attempt_id])
                case Stop(order):
                    self._executor.stop(order)
                case Forget(attempt_id):
                    self._executor.forget(attempt_id)
                case ReportNeverStarted(order):
                    self._executor.report_never_started(order)

    def obey(self, order: daemon_service_pb2.SessionResponse) -> None:
        match order.WhichOneof("order"):
            case "start":
                self._executor.start(order.start.order)
            case "stop":
                self._executor.stop(stop_order(order.stop))
            case "forget":
                self._executor.forget(order.forget.attempt_id)
            case other:
                log.warning("ignored an order of unknown kind %s", other)

    def sample(self) -> telemetry_pb2.NodeSample | None:
        sample = self._telemetry.take()
        return node_sample_to_proto(self._name, sample) if sample is not None else None

    def inventory_change(self) -> daemon_pb2.NodeInventory | None:
        return self._inventory.changed(self._telemetry.inventory(), self._telemetry.notes())

    def checkpoints(self) -> Sequence[tuple[str, float]]:
        return self._checkpoints()

    def contact(self, boot_time: float) -> None:
        self._contact(int(boot_time * 1e9))
