"""GPUs that are not there: `--simulate-gpus 8xH100` or `2xA100,1xL4`, for trying out and for tests.

Marked everywhere: the UUID begins with `SIM-`, the name says `simulated`, `simulated` is true. What
they report follows from what is allocated on them and from nothing else, so equal allocations give
equal samples.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from noded.telemetry.model import (
    GpuHealth,
    GpuInfo,
    GpuProcess,
    GpuSample,
    GpuStatus,
    HealthState,
    LiveAttempt,
)

UUID_PREFIX: Final = "SIM-"
MOST: Final = 1024
_GIB: Final = 1 << 30
# As in the usual machines: up to eight GPUs on one set of NVLink switches, half of them at each
# processor.
_NVLINKED: Final = 8
_PER_PROCESSOR: Final = 4
_ENTRY: Final = re.compile(r"(?:(\d{1,4})\s*x\s*)?([A-Za-z][A-Za-z0-9]*)", re.ASCII)
_IDLE_CELSIUS: Final = 32
_BUSY_CELSIUS: Final = 66
_SLOWDOWN_CELSIUS: Final = 87
_SHUTDOWN_CELSIUS: Final = 92


class SimulationError(ValueError):
    """The text after --simulate-gpus can't be read."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a model of GPU is like, rounded."""

    name: str
    memory_bytes: int
    power_limit_milliwatts: int
    idle_milliwatts: int
    pcie_generation: int
    nvlink_count: int = 0


CARDS: Final[Mapping[str, Card]] = {
    "B200": Card("NVIDIA B200", 180 * _GIB, 1_000_000, 140_000, 5, 18),
    "H200": Card("NVIDIA H200", 141 * _GIB, 700_000, 75_000, 5, 18),
    "H100": Card("NVIDIA H100 80GB HBM3", 80 * _GIB, 700_000, 70_000, 5, 18),
    "A100": Card("NVIDIA A100-SXM4-80GB", 80 * _GIB, 400_000, 55_000, 4, 12),
    "V100": Card("Tesla V100-SXM2-32GB", 32 * _GIB, 300_000, 40_000, 3, 6),
    "L40S": Card("NVIDIA L40S", 48 * _GIB, 350_000, 35_000, 4),
    "A40": Card("NVIDIA A40", 48 * _GIB, 300_000, 30_000, 4),
    "A10": Card("NVIDIA A10", 24 * _GIB, 150_000, 20_000, 4),
    "L4": Card("NVIDIA L4", 24 * _GIB, 72_000, 13_000, 4),
    "T4": Card("Tesla T4", 16 * _GIB, 70_000, 10_000, 3),
}


def simulated_gpus(text: str, node_name: str) -> tuple[GpuInfo, ...]:
    """The GPUs that a text such as `2xA100,1xL4` asks for. Pure.

    UUIDs differ between nodes and are the same at every start. Raises SimulationError, which names
    the models there are.
    """
    node = hashlib.sha256(node_name.encode()).hexdigest()[:8]
    gpus: list[GpuInfo] = []
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        model = match.group(2).upper() if match else ""
        if match is None or model not in CARDS:
            raise SimulationError(
                f"{entry.strip()!r} are no GPUs that can be simulated; write 8xH100 or 2xA100,1xL4 "
                f"with one of {', '.join(CARDS)}"
            )
        first, count = len(gpus), int(match.group(1) or 1)
        if first + count > MOST:
            raise SimulationError(f"more than {MOST} simulated GPUs on one node")
        for start in range(first, first + count, _NVLINKED):
            block = range(start, min(start + _NVLINKED, first + count))
            linked = CARDS[model].nvlink_count and len(block) > 1
            gpus += [_gpu(model, node, index, start if linked else None) for index in block]
    return tuple(gpus)


def _gpu(model: str, node: str, index: int, nvlink_group: int | None) -> GpuInfo:
    card = CARDS[model]
    return GpuInfo(
        uuid=f"{UUID_PREFIX}{model}-{node}-{index}",
        index=index,
        name=f"{card.name} (simulated)",
        model=model,
        memory_bytes=card.memory_bytes,
        pci_bus_id=f"SIM:{index:02X}:00.0",
        driver_version="simulated",
        simulated=True,
        numa_node=index % (2 * _PER_PROCESSOR) // _PER_PROCESSOR,
        pcie_max_generation=card.pcie_generation,
        pcie_max_width=16,
        nvlink_count=card.nvlink_count,
        nvlink_group=nvlink_group,
        pcie_group=index - index % _PER_PROCESSOR,
        mig_enabled=False,
        slowdown_celsius=_SLOWDOWN_CELSIUS,
        shutdown_celsius=_SHUTDOWN_CELSIUS,
    )


def simulated_status(info: GpuInfo, attempts: Sequence[LiveAttempt], since: float) -> GpuStatus:
    """How a simulated GPU stands while these attempts run on the node. Pure.

    An attempt keeps its share of the GPU nine tenths busy and holds four fifths of that share's
    memory.
    """
    card = CARDS[info.model]
    shares = [
        (attempt, min(1000, attempt.gpu_milli[info.uuid]))
        for attempt in attempts
        if info.uuid in attempt.gpu_milli
    ]
    milli = min(1000, sum(share for _, share in shares))
    processes = tuple(
        GpuProcess(
            pid=attempt.pid,
            memory_bytes=info.memory_bytes * share * 4 // 5000,
            attempt_id=attempt.attempt_id,
        )
        for attempt, share in shares
    )
    used = min(info.memory_bytes, sum(p.memory_bytes or 0 for p in processes))
    span = card.power_limit_milliwatts - card.idle_milliwatts
    sample = GpuSample(
        uuid=info.uuid,
        utilization_percent=milli * 9 // 100,
        memory_used_bytes=used,
        memory_free_bytes=info.memory_bytes - used,
        power_milliwatts=card.idle_milliwatts + span * milli * 9 // 10_000,
        power_limit_milliwatts=card.power_limit_milliwatts,
        temperature_celsius=_IDLE_CELSIUS + (_BUSY_CELSIUS - _IDLE_CELSIUS) * milli // 1000,
        ecc_corrected=0,
        ecc_uncorrected=0,
        remap_pending=False,
        remap_failed=False,
        pcie_generation=card.pcie_generation,
        pcie_width=16,
        pcie_replays=0,
        nvlink_errors=0 if card.nvlink_count else None,
        recovery_action="none",
        processes=processes,
    )
    return GpuStatus(info, GpuHealth(HealthState.HEALTHY, since=since), sample)
