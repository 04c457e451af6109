"""Simulated node daemons: real sessions with real samples of 8 GPUs, once a second each.

    TARGET FILE     FILE holds one `NAME TOKEN` a line; each daemon has a connection of its own

Prints `ready` once all are welcomed, then a line of JSON with the samples sent so far for each line
that it reads; ends with its standard input. Fails where a session breaks.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from riseml.v1 import daemon_pb2, node_pb2, telemetry_pb2
from riseml.v1 import daemon_service_pb2 as pb

GPUS = 8
PERIOD_SECONDS = 1.0
OPENING_AT_ONCE = 50
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 30_000),
)


def inventory(name: str) -> daemon_pb2.NodeInventory:
    """A node with 8 GPUs."""
    return daemon_pb2.NodeInventory(
        node_name=name,
        boot_id=f"boot-{name}",
        daemon_version="bench",
        cpu_milli=96_000,
        memory_bytes=1 << 40,
        address="127.0.0.1",
        first_port=29400,
        last_port=29899,
        capabilities=node_pb2.NodeCapabilities(isolates_users=True, output_root="local"),
        gpus=[
            node_pb2.Gpu(
                uuid=f"GPU-{name}-{index}",
                index=index,
                name="NVIDIA H100 80GB HBM3",
                model="H100",
                memory_bytes=80 << 30,
                health=node_pb2.GPU_HEALTH_HEALTHY,
                pci_bus_id=f"00000000:{index:02X}:00.0",
                driver_version="570.00",
            )
            for index in range(GPUS)
        ],
    )


class Readings:
    """Samples of one node, each different from the one before."""

    def __init__(self, name: str) -> None:
        self._sample = telemetry_pb2.NodeSample(
            node_name=name,
            host=telemetry_pb2.HostSample(
                memory_total_bytes=1 << 40, memory_available_bytes=1 << 39, disk_free_bytes=1 << 41
            ),
            gpus=[
                telemetry_pb2.GpuSample(
                    gpu_uuid=f"GPU-{name}-{index}",
                    power_limit_milliwatts=700_000,
                    ecc_corrected=0,
                    ecc_uncorrected=0,
                    remap_pending=False,
                    remap_failed=False,
                    pcie_generation=5,
                    pcie_width=16,
                    pcie_replays=0,
                    nvlink_errors=0,
                    health=node_pb2.GPU_HEALTH_HEALTHY,
                    processes=[
                        telemetry_pb2.GpuProcess(
                            pid=1000 + index, memory_bytes=60 << 30, user_name="ana"
                        )
                    ],
                )
                for index in range(GPUS)
            ],
        )
        self._count = 0

    def next(self) -> pb.SessionRequest:
        self._count += 1
        sample = self._sample
        sample.sample_time.FromNanoseconds(time.time_ns())
        sample.host.cpu_percent = 20.0 + self._count % 60
        sample.host.load1 = 3.0 + self._count % 7
        for index, gpu in enumerate(sample.gpus):
            gpu.utilization_percent = 60 + (self._count + index) % 40
            gpu.memory_used_bytes = (60 << 30) + self._count % 1024
            gpu.power_milliwatts = 400_000 + (self._count * 37 + index) % 200_000
            gpu.temperature_celsius = 50 + (self._count + index) % 20
        return pb.SessionRequest(sample=sample)


class Fleet:
    """All daemons of this process."""

    def __init__(self, target: str, names: list[tuple[str, str]]) -> None:
        self._target = target
        self._names = names
        self._opening = asyncio.Semaphore(OPENING_AT_ONCE)
        self._welcomed = 0
        self.ready = asyncio.Event()
        self.sent = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for position, (name, token) in enumerate(self._names):
                group.create_task(self._daemon(name, token, position / len(self._names)))

    async def _daemon(self, name: str, token: str, phase: float) -> None:
        async with grpc.aio.insecure_channel(self._target, options=OPTIONS) as channel:
            method: Any = channel.stream_stream(
                "/riseml.v1.DaemonService/Session",
                request_serializer=pb.SessionRequest.SerializeToString,
                response_deserializer=pb.SessionResponse.FromString,
            )
            async with self._opening:
                call = method(metadata=(("authorization", f"Bearer {token}"),))
                hello = pb.Hello(inventory=inventory(name), epoch=time.time_ns())
                await call.write(pb.SessionRequest(hello=hello))
                first = await call.read()
            if first is grpc.aio.EOF or not first.HasField("welcome"):
                raise RuntimeError(f"{name} was not welcomed: {await call.details()}")
            self._welcomed += 1
            if self._welcomed == len(self._names):
                self.ready.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(_read(call, name))
                group.create_task(self._report(call, Readings(name), phase))

    async def _report(self, call: Any, readings: Readings, phase: float) -> None:
        await self.ready.wait()
        loop = asyncio.get_running_loop()
        due = loop.time() + phase * PERIOD_SECONDS
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            await call.write(readings.next())
            self.sent += 1
            due += PERIOD_SECONDS


async def _read(call: Any, name: str) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass
    raise RuntimeError(f"the session of {name} ended")


async def main(target: str, names: list[tuple[str, str]]) -> None:
    fleet = Fleet(target, names)
    loop = asyncio.get_running_loop()

    async def answer() -> None:
        await fleet.ready.wait()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while await loop.run_in_executor(None, sys.stdin.readline):
            sys.stdout.write(json.dumps({"sent": fleet.sent}) + "\n")
            sys.stdout.flush()

    asked = asyncio.create_task(answer())
    running = asyncio.create_task(fleet.run())
    done, _ = await asyncio.wait({asked, running}, return_when=asyncio.FIRST_COMPLETED)
    if running in done:
        running.result()
    running.cancel()


if __name__ == "__main__":
    lines = Path(sys.argv[2]).read_text().splitlines()
    asyncio.run(main(sys.argv[1], [(name, token) for name, token in map(str.split, lines)]))
