"""Knows which GPUs the kubelet offers, and which pod has which."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import grpc

from noded.kubelet.pod_resources import DeviceTable, read_devices
from noded.telemetry.model import GpuStatus
from riseml.v1 import daemon_pb2

log = logging.getLogger(__name__)

GPU_RESOURCE: Final = "nvidia.com/gpu"
PERIOD_SECONDS: Final = 2.0
"""A pod has its GPUs for longer than that before its job uses them."""


class Devices:
    """Asks again and again. What was heard last stands while the kubelet is away: it restarts
    without any pod losing a GPU."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._table: DeviceTable | None = None
        self._problem = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                self._table = await read_devices(self._socket, GPU_RESOURCE)
                self._note("")
            except grpc.aio.AioRpcError as error:
                self._note(f"{error.code().name}: {error.details()}")
            await asyncio.sleep(PERIOD_SECONDS)

    @property
    def known(self) -> bool:
        """Whether the kubelet has answered."""
        return self._table is not None

    def notes(self) -> tuple[str, ...]:
        """Plain sentences for people."""
        return (f"the kubelet does not tell of devices: {self._problem}",) if self._problem else ()

    def describe(self, gpus: Sequence[GpuStatus]) -> daemon_pb2.NodeDevices | None:
        """What is known, by the names that the driver gives GPUs; None: nothing yet."""
        if self._table is None:
            return None
        by_index = {str(gpu.info.index): gpu.info.uuid for gpu in gpus}
        held = sorted(self._table.holders.items())
        return daemon_pb2.NodeDevices(
            offered_gpu_uuids=sorted(gpu_uuid(one, by_index) for one in self._table.offered),
            holders=[
                daemon_pb2.DeviceHolder(
                    gpu_uuid=gpu_uuid(device, by_index), namespace=namespace, pod_name=name
                )
                for device, (namespace, name) in held
            ],
        )

    def _note(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.warning("the kubelet does not tell of devices (%s): %s", self._socket, problem)
        self._problem = problem


def gpu_uuid(device_id: str, by_index: dict[str, str]) -> str:
    """The GPU that a device of NVIDIA's plugin is. It calls them by UUID or by index, as it is
    configured; anything else, such as a slice of one (`UUID::3`), stays what it is."""
    return by_index.get(device_id, device_id)
