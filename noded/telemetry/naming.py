"""Names for what NVML reports in numbers and long strings. Pure."""

from __future__ import annotations

from typing import Final

# Bits of nvmlClocksEventReason*. Bit 0, idle, says nothing of trouble and is left out.
_CLOCK_EVENTS: Final = (
    (0x2, "applications_clocks_setting"),
    (0x4, "sw_power_cap"),
    (0x8, "hw_slowdown"),
    (0x10, "sync_boost"),
    (0x20, "sw_thermal_slowdown"),
    (0x40, "hw_thermal_slowdown"),
    (0x80, "hw_power_brake_slowdown"),
    (0x100, "display_clock_setting"),
)

_RECOVERY_ACTIONS: Final = (
    "none",
    "gpu_reset",
    "node_reboot",
    "drain_p2p",
    "drain_and_reset",
    "recover_imex_domain",
    "bus_reset",
    "system_reboot",
)


def throttle_reasons(bits: int) -> tuple[str, ...]:
    """Names of the clock event reasons in a bit mask; unknown bits are named by their value."""
    names = [name for bit, name in _CLOCK_EVENTS if bits & bit]
    unknown = bits & ~(1 | sum(bit for bit, _ in _CLOCK_EVENTS))
    if unknown:
        names.append(f"unknown_{unknown:#x}")
    return tuple(names)


def recovery_action(value: int) -> str:
    """Name of nvmlDeviceGpuRecoveryAction."""
    if 0 <= value < len(_RECOVERY_ACTIONS):
        return _RECOVERY_ACTIONS[value]
    return f"unknown_{value}"
