"""`python -P -m noded.telemetry`: what this machine's telemetry sees, as a table. For admins."""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from noded.telemetry.collector import Collector, CollectorSettings
from noded.telemetry.model import GpuInfo, GpuStatus, NodeSample
from noded.telemetry.simulated import SimulationError

_GIB = 1 << 30


async def observe(collector: Collector, seconds: float) -> NodeSample | None:
    """The first whole sample; after so many seconds the newest, whole or not."""
    task = asyncio.ensure_future(collector.run())
    settled = False
    try:
        async with asyncio.timeout(seconds):
            async for sample in collector.samples():
                if settled:
                    return sample
                settled = collector.settled()
    except TimeoutError:
        return collector.newest()
    finally:
        task.cancel()
        await asyncio.wait([task])
    return collector.newest()


def render(sample: NodeSample, notes: Sequence[str]) -> str:
    """The tables. Pure."""
    host = sample.host
    lines = [
        f"host    {host.cpu_count} CPUs at {host.cpu_percent:.0f} %, load {host.load1:.2f}",
        f"memory  {host.memory_used_bytes / _GIB:.1f} of {host.memory_total_bytes / _GIB:.1f} GiB",
        f"disk    {host.disk_free_bytes / _GIB:.1f} GiB free",
    ]
    if sample.gpus:
        rows = [_HEADER, *(_row(gpu) for gpu in sample.gpus)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
        lines.append("")
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines += [line for gpu in sample.gpus for line in _details(gpu)]
    lines += [f"note    {note}" for note in notes]
    return "\n".join(lines) + "\n"


_HEADER = (
    *("GPU", "MODEL", "HEALTH", "UTIL", "MEMORY", "POWER", "TEMP", "ECC", "PCIE", "NVLINK"),
    *("CLOSE TO", "UUID"),
)


def _row(gpu: GpuStatus) -> tuple[str, ...]:
    info, sample = gpu.info, gpu.sample
    used = sample.memory_used_bytes if sample else None
    used_gib = None if used is None else round(used / _GIB, 1)
    watts = sample.power_milliwatts if sample else None
    limit = sample.power_limit_milliwatts if sample else None
    ecc = sample.ecc_uncorrected if sample else None
    return (
        str(info.index),
        info.model,
        gpu.health.state.value,
        _text(sample.utilization_percent if sample else None, " %"),
        f"{_text(used_gib)}/{info.memory_bytes / _GIB:.0f} GiB",
        f"{_text(None if watts is None else watts // 1000)}"
        f"/{_text(None if limit is None else limit // 1000)} W",
        _text(sample.temperature_celsius if sample else None, " °C"),
        _text(ecc),
        f"gen{_text(sample.pcie_generation if sample else None)}"
        f" x{_text(sample.pcie_width if sample else None)}",
        _text(info.nvlink_count),
        _place(info),
        info.uuid,
    )


def _place(info: GpuInfo) -> str:
    groups = (("nvlink", info.nvlink_group), ("pcie", info.pcie_group), ("numa", info.numa_node))
    return ", ".join(f"{name} {number}" for name, number in groups if number is not None) or "-"


def _details(gpu: GpuStatus) -> list[str]:
    name = f"GPU {gpu.info.index}"
    lines = [f"{name}: {gpu.health.reason}: {gpu.health.message}"] if gpu.health.reason else []
    if gpu.sample is None:
        return lines
    if gpu.sample.throttle_reasons:
        lines.append(f"{name}: clocks held down by {', '.join(gpu.sample.throttle_reasons)}")
    for process in gpu.sample.processes:
        whose = process.attempt_id or f"foreign, of {process.user_name or 'unknown user'}"
        held = _text(process.memory_bytes and process.memory_bytes >> 20)
        lines.append(f"{name}: process {process.pid} ({whose}) holds {held} MiB")
    return lines


def _text(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value}{unit}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables. Exit 0 with and without GPUs; 1 when nothing could be read."""
    parser = argparse.ArgumentParser(prog="python -P -m noded.telemetry", description=__doc__)
    parser.add_argument("--simulate-gpus", default="", metavar="8xH100")
    parser.add_argument("--home", type=Path, default=Path("/"), help="whose disk to look at")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to wait for NVML")
    options = parser.parse_args(arguments)
    settings = CollectorSettings(
        socket.gethostname(), options.home, simulate_gpus=options.simulate_gpus
    )

    async def look() -> tuple[NodeSample | None, tuple[str, ...]]:
        collector = Collector(settings)
        sample = await observe(collector, options.seconds)
        return sample, collector.notes()

    try:
        sample, notes = asyncio.run(look())
    except SimulationError as error:
        parser.error(str(error))
    if sample is None:
        sys.stderr.write("no sample came in time\n")
        return 1
    sys.stdout.write(render(sample, notes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
