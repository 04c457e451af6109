"""Verdicts on GPUs, as tables."""

from __future__ import annotations

import pytest

from noded.telemetry.gpu_ledger import GpuLedger
from noded.telemetry.health import APPLICATION_XIDS, assess
from noded.telemetry.model import (
    GpuHealth,
    GpuInfo,
    GpuSample,
    HealthState,
    ReadingFault,
    XidEvent,
)

GPU = GpuInfo("GPU-1", 0, "NVIDIA H100", "H100", 80 << 30, slowdown_celsius=87)
MIG = GpuInfo("GPU-1", 0, "NVIDIA H100", "H100", 80 << 30, mig_enabled=True)
HEALTHY, LOST = HealthState.HEALTHY, HealthState.LOST
QUARANTINED, UNKNOWN = HealthState.QUARANTINED, HealthState.UNKNOWN
GOOD = GpuSample("GPU-1", temperature_celsius=40, ecc_uncorrected=0, remap_failed=False)


def reading(**changes: object) -> GpuSample:
    return GpuSample("GPU-1", **changes)  # type: ignore[arg-type]


def xid(code: int) -> XidEvent:
    return XidEvent("GPU-1", code, 5.0)


@pytest.mark.parametrize(
    ("sample", "state", "reason"),
    [
        (GOOD, HEALTHY, ""),
        (reading(), HEALTHY, ""),
        (reading(ecc_corrected=900), HEALTHY, ""),
        (reading(ecc_uncorrected=1), QUARANTINED, "ecc_uncorrected"),
        (reading(remap_pending=True), QUARANTINED, "remap_pending"),
        (reading(remap_failed=True, remap_pending=True), QUARANTINED, "remap_failed"),
        (reading(recovery_action="none"), HEALTHY, ""),
        (reading(recovery_action="gpu_reset"), QUARANTINED, "recovery_gpu_reset"),
        (reading(temperature_celsius=86), HEALTHY, ""),
        (reading(temperature_celsius=87), QUARANTINED, "overheated"),
        (reading(throttle_reasons=("sw_power_cap",)), HEALTHY, ""),
        (reading(fault=ReadingFault.LOST), LOST, "gpu_lost"),
        (reading(fault=ReadingFault.RESET_REQUIRED), QUARANTINED, "reset_required"),
        (reading(fault=ReadingFault.UNREADABLE), UNKNOWN, "unreadable"),
        (None, UNKNOWN, "late"),
    ],
)
def test_a_reading_decides(sample: GpuSample | None, state: HealthState, reason: str) -> None:
    verdict = assess(GPU, GpuHealth(HEALTHY, since=1.0), sample, (), now=9.0)
    assert (verdict.state, verdict.reason) == (state, reason)
    assert bool(verdict.message) == (state is not HEALTHY) or reason == "unreadable"
    assert verdict.since == (1.0 if state is HEALTHY else 9.0)


@pytest.mark.parametrize(
    ("before", "sample", "state", "reason"),
    [
        # What a reading showed is gone when a reading no longer shows it.
        ((QUARANTINED, "ecc_uncorrected"), GOOD, HEALTHY, ""),
        ((UNKNOWN, "late"), GOOD, HEALTHY, ""),
        ((LOST, "gpu_lost"), GOOD, HEALTHY, ""),
        # An XID was told once: good readings do not take it back, a reset does.
        ((QUARANTINED, "xid_48"), GOOD, QUARANTINED, "xid_48"),
        ((LOST, "xid_79"), GOOD, LOST, "xid_79"),
        ((LOST, "xid_79"), reading(fault=ReadingFault.LOST), LOST, "gpu_lost"),
        # Known to be bad stays bad when nothing is heard.
        ((QUARANTINED, "xid_48"), None, QUARANTINED, "xid_48"),
        ((QUARANTINED, "overheated"), None, QUARANTINED, "overheated"),
        ((LOST, "gpu_lost"), None, LOST, "gpu_lost"),
        # Heat comes and goes at two temperatures.
        ((QUARANTINED, "overheated"), reading(temperature_celsius=84), QUARANTINED, "overheated"),
        ((QUARANTINED, "overheated"), reading(temperature_celsius=81), HEALTHY, ""),
        ((HEALTHY, ""), reading(temperature_celsius=84), HEALTHY, ""),
    ],
)
def test_what_was_before_counts(
    before: tuple[HealthState, str], sample: GpuSample | None, state: HealthState, reason: str
) -> None:
    previous = GpuHealth(before[0], before[1], "a message", since=1.0)
    verdict = assess(GPU, previous, sample, (), now=9.0)
    assert (verdict.state, verdict.reason) == (state, reason)
    assert verdict.since == (1.0 if before == (state, reason) else 9.0)


@pytest.mark.parametrize("code", sorted(APPLICATION_XIDS))
def test_an_error_of_the_application_is_not_the_gpus(code: int) -> None:
    assert assess(GPU, None, GOOD, (xid(code),), now=9.0).state is HEALTHY


@pytest.mark.parametrize(("code", "state"), [(48, QUARANTINED), (79, LOST), (999, QUARANTINED)])
def test_other_xids_take_the_gpu_away(code: int, state: HealthState) -> None:
    verdict = assess(GPU, None, GOOD, (xid(31), xid(code)), now=9.0)
    assert (verdict.state, verdict.reason) == (state, f"xid_{code}")


def test_of_several_xids_falling_off_the_bus_weighs_most() -> None:
    assert assess(GPU, None, GOOD, (xid(79), xid(48)), now=9.0).reason == "xid_79"


def test_all_findings_stand_in_the_message() -> None:
    verdict = assess(GPU, None, reading(ecc_uncorrected=2, temperature_celsius=95), (), now=9.0)
    assert verdict.reason == "ecc_uncorrected"
    assert "2 uncorrectable" in verdict.message
    assert "it reached 87 °C" in verdict.message


def test_a_gpu_in_mig_mode_is_not_given_out() -> None:
    assert assess(MIG, None, GOOD, (), now=9.0).reason == "mig_enabled"


def test_a_gpu_that_is_no_longer_shown_is_lost_and_not_forgotten() -> None:
    ledger = GpuLedger()
    other = GpuInfo("GPU-2", 1, "NVIDIA H100", "H100", 80 << 30)
    assert ledger.found([other, GPU], now=1.0)
    assert ledger.read([GOOD, GpuSample("GPU-2")], now=2.0)
    assert not ledger.read([GOOD, GpuSample("GPU-2")], now=3.0)
    assert ledger.read([GpuSample("GPU-2")], now=4.0)
    assert [gpu.health.state for gpu in ledger.gpus()] == [LOST, HEALTHY]
    assert ledger.gpus()[0].sample is None
    assert not ledger.found([GPU], now=5.0)


def test_an_xid_of_an_unknown_gpu_changes_nothing() -> None:
    assert not GpuLedger().told(xid(48), now=1.0)


def test_silence_turns_the_healthy_unknown_and_forgets_their_readings() -> None:
    ledger = GpuLedger()
    ledger.found([GPU], now=1.0)
    ledger.read([GOOD], now=2.0)
    assert ledger.silent(now=3.0)
    assert not ledger.silent(now=4.0)
    (gpu,) = ledger.gpus()
    assert (gpu.health.state, gpu.health.since, gpu.sample) == (UNKNOWN, 3.0, None)
