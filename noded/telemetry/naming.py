"""Names for what NVML reports in numbers and long strings. Pure."""

from __future__ import annotations

import re
from typing import Final

_DATACENTRE: Final = re.compile(r"\b(?:G[HB]\d{3}|[ABHKLMPTV]\d{1,4}[A-Z]?)\b")
_VENDOR: Final = frozenset(
    {"nvidia", "tesla", "geforce", "quadro", "graphics", "gpu", "generation", "device"}
)
_MEMORY_SIZE: Final = re.compile(r"^\d+GB$", re.IGNORECASE)

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


def short_model(name: str) -> str:
    """The model that riseml.yml names, from the driver's name of a GPU.

    `NVIDIA H100 80GB HBM3` is `H100`, `Tesla V100-SXM2-16GB` is `V100`, `NVIDIA GeForce RTX 4090`
    is `RTX4090`, `NVIDIA RTX A6000` is `A6000`. A name without any such word comes back without its
    spaces.
    """
    plain = name.replace("-", " ")
    if match := _DATACENTRE.search(plain):
        return match.group()
    words = [
        word
        for word in plain.split()
        if word.lower() not in _VENDOR and not _MEMORY_SIZE.match(word)
    ]
    return "".join(words) or name.replace(" ", "")


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
