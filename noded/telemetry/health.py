"""Judges a GPU: the newest reading, the driver's events and the previous verdict make the next
verdict. Pure.

Two kinds of findings. What a reading shows (ECC, row remaps, heat, a recovery action) counts for as
long as readings show it. An XID is told once, so it sticks: until the GPU was seen lost and came
back, which only a reset or a reboot brings about, or until the daemon is started again.

A reading that does not come makes a healthy GPU UNKNOWN; one that is quarantined or lost stays what
it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from noded.telemetry.model import (
    GpuHealth,
    GpuInfo,
    GpuSample,
    HealthState,
    ReadingFault,
    XidEvent,
)

APPLICATION_XIDS: Final = frozenset({13, 31, 43, 45, 68, 109})
"""Errors that the application on the GPU brought on itself; they say nothing about the GPU.

From the NVIDIA device plugin for Kubernetes, which skips the same ones."""

FELL_OFF_THE_BUS: Final = 79

_XID_MEANING: Final = {
    48: "double-bit ECC error",
    62: "internal micro-controller halt",
    63: "memory row remapping recorded",
    64: "memory row remapping failed",
    74: "NVLink error",
    79: "GPU has fallen off the bus",
    92: "high rate of single-bit ECC errors",
    94: "contained ECC error",
    95: "uncontained ECC error",
    119: "GSP firmware timed out",
    120: "GSP firmware error",
    140: "unrecovered ECC error",
}


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """Where the lines are drawn."""

    ignored_xids: frozenset[int] = APPLICATION_XIDS
    cool_down_celsius: int = 5
    """An overheated GPU comes back only this far below its slowdown temperature: no flapping."""
    quarantine_mig: bool = True
    """A GPU cut into MIG slices can't be given to a job as a whole."""


DEFAULT_POLICY: Final = HealthPolicy()


def assess(
    info: GpuInfo,
    previous: GpuHealth | None,
    sample: GpuSample | None,
    xids: Sequence[XidEvent],
    now: float,
    policy: HealthPolicy = DEFAULT_POLICY,
) -> GpuHealth:
    """The verdict on one GPU at wall time `now`.

    `sample` is the reading since the last verdict, None when none came in time. `xids` are the
    events since then, oldest first. The result equals `previous`, `since` included, where state,
    reason and message are the same.
    """
    verdict = _judge(info, previous, sample, xids, policy)
    if previous is not None and (previous.state, previous.reason) == (
        verdict.state,
        verdict.reason,
    ):
        since = previous.since
    else:
        since = now
    return GpuHealth(verdict.state, verdict.reason, verdict.message, since)


def _judge(
    info: GpuInfo,
    previous: GpuHealth | None,
    sample: GpuSample | None,
    xids: Sequence[XidEvent],
    policy: HealthPolicy,
) -> GpuHealth:
    told = [event for event in xids if event.code not in policy.ignored_xids]
    for event in told:
        if event.code == FELL_OFF_THE_BUS:
            return _xid_health(HealthState.LOST, event.code)
    if sample is not None and sample.fault is ReadingFault.LOST:
        return GpuHealth(
            HealthState.LOST,
            "gpu_lost",
            f"{sample.fault_message or 'the driver lost the GPU'}; reset it or restart the machine",
        )
    if told:
        return _xid_health(HealthState.QUARANTINED, told[-1].code)
    if previous is not None and previous.reason.startswith("xid_"):
        return previous
    if sample is None:
        if previous is not None and previous.state in (HealthState.LOST, HealthState.QUARANTINED):
            return previous
        return late()
    if sample.fault is ReadingFault.RESET_REQUIRED:
        return GpuHealth(
            HealthState.QUARANTINED, "reset_required", "the driver says that the GPU needs a reset"
        )
    if sample.fault is ReadingFault.UNREADABLE:
        return GpuHealth(HealthState.UNKNOWN, "unreadable", sample.fault_message)
    findings = list(_findings(info, previous, sample, policy))
    if not findings:
        return GpuHealth(HealthState.HEALTHY)
    return GpuHealth(
        HealthState.QUARANTINED, findings[0][0], "; ".join(message for _, message in findings)
    )


def late() -> GpuHealth:
    """The verdict on a GPU of which nothing was heard in time."""
    return GpuHealth(
        HealthState.UNKNOWN, "late", "no reading came in time: the driver does not answer"
    )


def _xid_health(state: HealthState, code: int) -> GpuHealth:
    meaning = _XID_MEANING.get(code, "see NVIDIA's Xid catalogue")
    return GpuHealth(
        state,
        f"xid_{code}",
        f"XID {code}: {meaning}; reset the GPU or restart the machine, then noded",
    )


def _findings(
    info: GpuInfo, previous: GpuHealth | None, sample: GpuSample, policy: HealthPolicy
) -> list[tuple[str, str]]:
    """Reasons for a quarantine that a reading shows, the gravest first."""
    found: list[tuple[str, str]] = []
    if sample.remap_failed:
        found.append(("remap_failed", "a memory row could not be remapped: replace the GPU"))
    if sample.ecc_uncorrected:
        found.append(
            (
                "ecc_uncorrected",
                f"{sample.ecc_uncorrected} uncorrectable memory errors since the last reset",
            )
        )
    if sample.remap_pending:
        found.append(("remap_pending", "a memory row waits to be remapped: reset the GPU"))
    if sample.recovery_action not in (None, "none"):
        action = str(sample.recovery_action)
        found.append(
            (f"recovery_{action}", f"the driver asks for recovery: {action.replace('_', ' ')}")
        )
    if _overheated(info, previous, sample, policy):
        found.append(
            (
                "overheated",
                # Without the temperature, which is another with every reading.
                f"it reached {info.slowdown_celsius} °C, where it slows down",
            )
        )
    if info.mig_enabled and policy.quarantine_mig:
        found.append(("mig_enabled", "MIG mode is on; RiseML gives out whole GPUs and shares"))
    return found


def _overheated(
    info: GpuInfo, previous: GpuHealth | None, sample: GpuSample, policy: HealthPolicy
) -> bool:
    if sample.temperature_celsius is None or info.slowdown_celsius is None:
        return False
    limit = info.slowdown_celsius
    if previous is not None and previous.reason == "overheated":
        limit -= policy.cool_down_celsius
    return sample.temperature_celsius >= limit
