"""The values of telemetry: what GPUs, host and attempts are and do.

Pure. `None` in a sample means that the card or its driver does not tell. Wall times are Unix
seconds, monotonic times are seconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class HealthState(StrEnum):
    """Whether new jobs may get a GPU."""

    HEALTHY = "HEALTHY"
    QUARANTINED = "QUARANTINED"
    """It answers, but new jobs don't get it, for the reason that stands beside it."""
    LOST = "LOST"
    """It fell off the bus, or the driver no longer shows it."""
    UNKNOWN = "UNKNOWN"
    """Nothing was heard of it in time. Not the same as healthy."""


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """What does not change about a GPU while it is in the machine."""

    uuid: str
    index: int
    """NVML's index, in the order of the PCI bus."""
    name: str
    """As the driver says it: `NVIDIA H100 80GB HBM3`."""
    model: str
    """Short, as riseml.yml names it: `H100`."""
    memory_bytes: int
    pci_bus_id: str = ""
    driver_version: str = ""
    simulated: bool = False
    numa_node: int | None = None
    pcie_max_generation: int | None = None
    pcie_max_width: int | None = None
    nvlink_count: int | None = None
    """NVLinks that were up when the GPU was first seen."""
    nvlink_group: int | None = None
    """GPUs with equal numbers reach each other through NVLink; None: unknown, or no other one."""
    pcie_group: int | None = None
    """GPUs with equal numbers share a PCIe switch or host bridge; None: unknown."""
    mig_enabled: bool | None = None
    slowdown_celsius: int | None = None
    """The temperature at which the hardware slows itself down."""
    shutdown_celsius: int | None = None


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds memory of a GPU."""

    pid: int
    """On the host."""
    memory_bytes: int | None
    user_name: str | None = None
    """Owner of the process; None when it is gone or lives in another pid namespace."""
    attempt_id: str | None = None
    """None: foreign, RiseML did not start it."""


class ReadingFault(StrEnum):
    """Why a GPU could not be read."""

    LOST = "lost"
    RESET_REQUIRED = "reset_required"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One reading of one GPU."""

    uuid: str
    fault: ReadingFault | None = None
    """Set when NVML could not read the GPU at all; everything else is then None."""
    fault_message: str = ""
    utilization_percent: int | None = None
    """Share of time in which a kernel ran, 0-100."""
    memory_used_bytes: int | None = None
    memory_free_bytes: int | None = None
    power_milliwatts: int | None = None
    power_limit_milliwatts: int | None = None
    temperature_celsius: int | None = None
    ecc_corrected: int | None = None
    """Volatile: since the driver was loaded or the GPU reset."""
    ecc_uncorrected: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    pcie_replays: int | None = None
    nvlink_errors: int | None = None
    """Replays, recoveries and CRC errors over all links."""
    recovery_action: str | None = None
    """What the driver asks an admin to do: `none`, `gpu_reset`, `node_reboot`, ..."""
    throttle_reasons: tuple[str, ...] = ()
    """Clock event reasons that hold the clocks down; an idle GPU's low clocks are none."""
    processes: tuple[GpuProcess, ...] = ()


@dataclass(frozen=True, slots=True)
class XidEvent:
    """The driver's report of an error of one GPU (NVIDIA's Xid catalogue)."""

    uuid: str
    code: int
    wall_time: float


@dataclass(frozen=True, slots=True)
class GpuHealth:
    """A verdict on one GPU, with a reason for machines and a message for people."""

    state: HealthState
    reason: str = ""
    """`xid_79`, `ecc_uncorrected`, ...; empty when healthy."""
    message: str = ""
    since: float = 0.0
    """Wall time since which state and reason are what they are."""


@dataclass(frozen=True, slots=True)
class HostSample:
    """One reading of the host."""

    cpu_percent: float
    """0-100 over all CPUs."""
    cpu_count: int
    memory_total_bytes: int
    memory_available_bytes: int
    load1: float
    disk_free_bytes: int
    """What an ordinary user may still write where the daemon keeps its state."""

    @property
    def memory_used_bytes(self) -> int:
        """Memory that could not be had without swapping."""
        return self.memory_total_bytes - self.memory_available_bytes


@dataclass(frozen=True, slots=True)
class LiveAttempt:
    """An attempt that runs here, as far as telemetry has to know it."""

    attempt_id: str
    pid: int
    """The job's first process: leader of its session. 0 where there is none yet."""
    gpu_milli: Mapping[str, int] = field(default_factory=dict)
    """Thousandths of GPUs given to it, by UUID."""
    pod_uid: str = ""
    """Of its pod, where jobs are pods."""


@dataclass(frozen=True, slots=True)
class AttemptSample:
    """What one attempt uses."""

    attempt_id: str
    cpu_percent: float
    """100 is one full CPU."""
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What processes that RiseML did not start hold of one GPU."""

    memory_bytes: int = 0
    processes: tuple[GpuProcess, ...] = ()
    """The largest, by memory."""


@dataclass(frozen=True, slots=True)
class GpuStatus:
    """One GPU as it stands: what it is, how it is, what was read last."""

    info: GpuInfo
    health: GpuHealth
    sample: GpuSample | None = None
    """None until it was read once, and while it is lost or unknown."""
    last_xid: XidEvent | None = None
    occupancy: Occupancy = Occupancy()
    """As the scheduler is told, which is not with every reading."""


@dataclass(frozen=True, slots=True)
class NodeSample:
    """One reading of the whole node."""

    monotonic_time: float
    wall_time: float
    host: HostSample
    gpus: tuple[GpuStatus, ...] = ()
    attempts: tuple[AttemptSample, ...] = ()
