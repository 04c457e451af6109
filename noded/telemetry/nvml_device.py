"""Reads one GPU through NVML. Only the NVML child imports this: any call here can block for ever.

Drivers differ. A function that this driver lacks, or that this card does not support, gives None
for its field and is not asked again. A GPU that is lost, or needs a reset, ends its own reading and
nobody else's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from ctypes import c_void_p, cast
from functools import partial
from typing import Any, Final, TypeVar

import pynvml

from noded.telemetry import naming
from noded.telemetry.model import GpuInfo, GpuProcess, GpuSample, ReadingFault
from noded.telemetry.topology import LinkEnd, LinkKind
from riseml.spec.gpu_names import short_model

T = TypeVar("T")

# Answers that won't change while the driver stays loaded.
_NEVER: Final = frozenset(
    {
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_DEPRECATED,
    }
)
_LOST: Final = frozenset({pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_GPU_NOT_FOUND})

_ESSENTIAL: Final = "memory"
"""The call that every card answers; `Unknown Error` here means that the card is half gone."""

_NVLINK_TOTALS: Final = (
    pynvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL,
    pynvml.NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL,
    pynvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL,
    pynvml.NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL,
)
# Since Hopper, counted per link; the link is the scope.
_NVLINK_PER_LINK: Final = (
    pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY,
    pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY,
    pynvml.NVML_FI_DEV_NVLINK_ERROR_DL_CRC,
)
_LINK_KINDS: Final = {
    pynvml.NVML_NVLINK_DEVICE_TYPE_GPU: LinkKind.GPU,
    pynvml.NVML_NVLINK_DEVICE_TYPE_IBMNPU: LinkKind.PROCESSOR,
    pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH: LinkKind.SWITCH,
}
_VALUE_FIELDS: Final = {
    pynvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal",
    pynvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
    pynvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
}


class DeviceUnreadable(Exception):
    """The GPU as a whole does not answer; `fault` says how."""

    def __init__(self, fault: ReadingFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


def handle_address(handle: Any) -> int:
    """A device handle as a number: two ctypes pointers to one device don't compare equal."""
    return cast(handle, c_void_p).value or 0


def fault_of(error: Any) -> ReadingFault | None:
    """What an NVMLError says about the GPU as a whole; None where it concerns one call only."""
    if error.value in _LOST:
        return ReadingFault.LOST
    if error.value == pynvml.NVML_ERROR_RESET_REQUIRED:
        return ReadingFault.RESET_REQUIRED
    return None


class Device:
    """One GPU. Making it opens the GPU; raises NVMLError where that fails."""

    def __init__(self, index: int, driver_version: str) -> None:
        self._absent: set[str] = set()
        self.handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        self.address = handle_address(self.handle)
        self.info = self._describe(index, driver_version)

    def read(self) -> GpuSample:
        """One reading. Never raises for the GPU's sake: a fault is part of the reading."""
        try:
            return self._read()
        except DeviceUnreadable as error:
            return GpuSample(self.info.uuid, error.fault, str(error))

    def link_ends(self) -> list[LinkEnd]:
        """What its NVLinks lead to, of those that are up. Raises DeviceUnreadable."""
        return [self._link_end(link) for link in self._nvlinks_up() or ()]

    def _link_end(self, link: int) -> LinkEnd:
        handle = self.handle
        kind: int | None = self._ask(
            "nvlink_kind", lambda: pynvml.nvmlDeviceGetNvLinkRemoteDeviceType(handle, link)
        )
        bus_id = self._ask(
            "nvlink_pci",
            lambda: str(pynvml.nvmlDeviceGetNvLinkRemotePciInfo(handle, link).busId),
        )
        known = LinkKind.UNTOLD if kind is None else _LINK_KINDS.get(kind, LinkKind.UNTOLD)
        return LinkEnd(known, bus_id or "")

    def common_ancestor(self, other: Device) -> int | None:
        """Where the way to another GPU on PCIe turns round, as a level of NVML's topology. Raises
        DeviceUnreadable.
        """
        level: int | None = self._ask(
            "ancestor",
            lambda: pynvml.nvmlDeviceGetTopologyCommonAncestor(self.handle, other.handle),
        )
        return level

    def _describe(self, index: int, driver_version: str) -> GpuInfo:
        handle = self.handle
        uuid: str = pynvml.nvmlDeviceGetUUID(handle)
        name: str = pynvml.nvmlDeviceGetName(handle)
        memory = self._memory()
        bus_id = self._ask(
            "pci",
            lambda: str(pynvml.nvmlDeviceGetPciInfo_v3(handle).busId),
        )
        links = self._nvlinks_up()
        mig = self._ask("mig", lambda: pynvml.nvmlDeviceGetMigMode(handle)[0])
        return GpuInfo(
            uuid=uuid,
            index=index,
            name=name,
            model=short_model(name),
            memory_bytes=0 if memory is None else memory[0],
            pci_bus_id=bus_id or "",
            driver_version=driver_version,
            numa_node=self._numa_node(bus_id or ""),
            pcie_max_generation=self._ask(
                "pcie_max_generation", lambda: pynvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)
            ),
            pcie_max_width=self._ask(
                "pcie_max_width", lambda: pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle)
            ),
            nvlink_count=None if links is None else len(links),
            mig_enabled=None if mig is None else bool(mig),
            slowdown_celsius=self._threshold(pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
            shutdown_celsius=self._threshold(pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
        )

    def _read(self) -> GpuSample:
        handle = self.handle
        memory = self._memory()
        remapped = self._ask("remapped", lambda: pynvml.nvmlDeviceGetRemappedRows(handle))
        action = self._field(pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)
        clock_events = self._clock_events()
        return GpuSample(
            uuid=self.info.uuid,
            utilization_percent=self._ask(
                "utilization", lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
            ),
            memory_used_bytes=None if memory is None else memory[1],
            memory_free_bytes=None if memory is None else memory[2],
            power_milliwatts=self._ask("power", lambda: pynvml.nvmlDeviceGetPowerUsage(handle)),
            power_limit_milliwatts=self._ask(
                "power_limit", lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)
            ),
            temperature_celsius=self._temperature(),
            ecc_corrected=self._ecc(pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ecc_uncorrected=self._ecc(pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            remap_pending=None if remapped is None else bool(remapped[2]),
            remap_failed=None if remapped is None else bool(remapped[3]),
            pcie_generation=self._ask(
                "pcie_generation", lambda: pynvml.nvmlDeviceGetCurrPcieLinkGeneration(handle)
            ),
            pcie_width=self._ask(
                "pcie_width", lambda: pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle)
            ),
            pcie_replays=self._ask(
                "pcie_replays", lambda: pynvml.nvmlDeviceGetPcieReplayCounter(handle)
            ),
            nvlink_errors=self._nvlink_errors(),
            recovery_action=None if action is None else naming.recovery_action(action),
            throttle_reasons=naming.throttle_reasons(clock_events or 0),
            processes=self._processes(),
        )

    def _ask(self, what: str, call: Callable[[], T]) -> T | None:
        """The answer of one call; None where this driver or card has none."""
        if what in self._absent:
            return None
        try:
            return call()
        except pynvml.NVMLError as error:
            if fault := fault_of(error):
                raise DeviceUnreadable(fault, str(error)) from error
            if error.value == pynvml.NVML_ERROR_UNKNOWN and what == _ESSENTIAL:
                raise DeviceUnreadable(ReadingFault.UNREADABLE, f"{what}: {error}") from error
            if error.value in _NEVER:
                self._absent.add(what)
            return None

    def _memory(self) -> tuple[int, int, int] | None:
        """Total, used and free bytes."""
        handle = self.handle
        # The second version does not count what the driver reserves for itself as used.
        info = self._ask(
            "memory_v2", lambda: pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2)
        )
        if info is None:
            info = self._ask(_ESSENTIAL, lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
        return None if info is None else (info.total, info.used, info.free)

    def _temperature(self) -> int | None:
        handle, sensor = self.handle, pynvml.NVML_TEMPERATURE_GPU
        celsius = self._ask(
            "temperature_v", lambda: pynvml.nvmlDeviceGetTemperatureV(handle, sensor)
        )
        if celsius is None:
            celsius = self._ask(
                "temperature", lambda: pynvml.nvmlDeviceGetTemperature(handle, sensor)
            )
        return celsius

    def _threshold(self, which: int) -> int | None:
        celsius: int | None = self._ask(
            f"threshold_{which}",
            lambda: pynvml.nvmlDeviceGetTemperatureThreshold(self.handle, which),
        )
        return celsius

    def _ecc(self, kind: int) -> int | None:
        count: int | None = self._ask(
            "ecc",
            lambda: pynvml.nvmlDeviceGetTotalEccErrors(self.handle, kind, pynvml.NVML_VOLATILE_ECC),
        )
        return count

    def _clock_events(self) -> int | None:
        handle = self.handle
        bits: int | None = self._ask(
            "clock_events", lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
        )
        if bits is None:  # the older name of the same
            bits = self._ask(
                "throttle", lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
            )
        return bits

    def _fields(self, ids: list[int | tuple[int, int]]) -> list[int | None]:
        """Values of NVML fields, each None where there is none."""
        values = self._ask("fields", lambda: pynvml.nvmlDeviceGetFieldValues(self.handle, ids))
        if values is None:
            return [None] * len(ids)
        return [_field_value(value) for value in values]

    def _field(self, field_id: int) -> int | None:
        return self._fields([field_id])[0]

    def _nvlinks_up(self) -> list[int] | None:
        """Numbers of the NVLinks that are up; None where the driver knows none."""
        count = self._field(pynvml.NVML_FI_DEV_NVLINK_LINK_COUNT)
        if count is None:
            return None
        links = range(min(count, pynvml.NVML_NVLINK_MAX_LINKS))
        return [link for link in links if self._nvlink_up(link)]

    def _nvlink_up(self, link: int) -> bool:
        return bool(
            self._ask("nvlink_state", lambda: pynvml.nvmlDeviceGetNvLinkState(self.handle, link))
        )

    def _nvlink_errors(self) -> int | None:
        if not self.info.nvlink_count:
            return None
        ids: list[int | tuple[int, int]] = list(_NVLINK_TOTALS)
        counts = [count for count in self._fields(ids) if count is not None]
        if not counts:
            links = range(self.info.nvlink_count)
            ids = [(field_id, link) for field_id in _NVLINK_PER_LINK for link in links]
            counts = [count for count in self._fields(ids) if count is not None]
        return sum(counts) if counts else None

    def _numa_node(self, bus_id: str) -> int | None:
        mask = self._ask(
            "numa",
            lambda: pynvml.nvmlDeviceGetMemoryAffinity(
                self.handle, 1, pynvml.NVML_AFFINITY_SCOPE_NODE
            )[0],
        )
        if mask:
            return int(mask).bit_length() - 1
        # NVML writes an eight-digit domain, sysfs one of four.
        path = f"/sys/bus/pci/devices/{bus_id.lower()[-12:]}/numa_node"
        try:
            with open(path, encoding="ascii") as file:
                node = int(file.read())
        except (OSError, ValueError):
            return None
        return node if node >= 0 else None

    def _processes(self) -> tuple[GpuProcess, ...]:
        held: dict[int, int | None] = {}
        for kind in ("Compute", "Graphics", "MPSCompute"):
            for process in self._running(kind):
                if process.pid == os.getpid():
                    continue
                memory = process.usedGpuMemory
                known = held.get(process.pid)
                held[process.pid] = known if memory is None else max(memory, known or 0)
        return tuple(GpuProcess(pid, memory) for pid, memory in sorted(held.items()))

    def _running(self, kind: str) -> list[Any]:
        # Version 1 has another structure, and pynvml does not wrap it.
        for name in (f"nvmlDeviceGet{kind}RunningProcesses_{version}" for version in ("v3", "v2")):
            processes: list[Any] | None = self._ask(
                name, partial(getattr(pynvml, name), self.handle)
            )
            if processes is not None:
                return processes
        return []


def _field_value(value: Any) -> int | None:
    if value.nvmlReturn != pynvml.NVML_SUCCESS or value.valueType not in _VALUE_FIELDS:
        return None
    number: int = getattr(value.value, _VALUE_FIELDS[value.valueType])
    return number
