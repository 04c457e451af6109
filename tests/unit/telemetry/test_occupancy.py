"""What foreign processes hold is told when it matters, and not with every reading."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from noded.telemetry.model import (
    GpuHealth,
    GpuInfo,
    GpuProcess,
    GpuSample,
    GpuStatus,
    HealthState,
    Occupancy,
)
from noded.telemetry.occupancy import OTHERS_SECONDS, TellingOccupancy, occupancy_of

MIB = 1 << 20
GIB = 1 << 30


def process(pid: int, mib: int, user: str = "eve") -> GpuProcess:
    return GpuProcess(pid, mib * MIB, user)


def gpu(*processes: GpuProcess, read: bool = True) -> GpuStatus:
    sample = GpuSample("GPU-1", processes=processes) if read else None
    info = GpuInfo("GPU-1", 0, "NVIDIA H100", "H100", 80 * GIB)
    return GpuStatus(info, GpuHealth(HealthState.HEALTHY), sample)


def told(*readings: tuple[float, GpuStatus]) -> list[Occupancy]:
    """What is told after each of these readings, the same only once."""
    telling = TellingOccupancy()
    found: list[Occupancy] = []
    for now, reading in readings:
        (status,) = telling.steady([reading], now)
        if not found or found[-1] != status.occupancy:
            found.append(status.occupancy)
    return found


def test_the_largest_foreign_processes_are_named_and_all_are_counted() -> None:
    ours = GpuProcess(7, 9 * GIB, "ana", "ana.1.train.1-1")
    small = [process(pid, 10) for pid in (4, 3)]
    occupancy = occupancy_of([process(1, 100), ours, *small, process(2, 300)])
    assert [p.pid for p in occupancy.processes] == [2, 1, 3]
    assert occupancy.memory_bytes == 420 * MIB


def test_a_process_of_unknown_memory_is_named_too() -> None:
    assert occupancy_of([GpuProcess(1, None, "eve")]).processes[0].pid == 1


@pytest.mark.parametrize(
    ("mib", "times"),
    [
        pytest.param([1000, 1001, 1100, 1200, 1000], 1, id="it breathes"),
        pytest.param([1000, 1300, 1600], 3, id="it grows"),
        pytest.param([200, 300, 250, 260, 240, 300], 2, id="it swings about the line"),
        pytest.param([200, 300, 210], 3, id="it lets go"),
        pytest.param([100, 40, 200], 1, id="a display server"),
    ],
)
def test_memory_is_told_anew_when_it_matters(mib: Sequence[int], times: int) -> None:
    readings = [(float(second), gpu(process(1, held))) for second, held in enumerate(mib)]
    assert len(told(*readings)) == times


def test_other_processes_are_named_after_a_while() -> None:
    first, second = gpu(process(1, 1000)), gpu(process(2, 1000))
    assert len(told((0.0, first), (OTHERS_SECONDS - 1, second))) == 1
    assert len(told((0.0, first), (OTHERS_SECONDS, second))) == 2


def test_processes_that_come_and_go_are_no_stream_of_news() -> None:
    readings = [(float(second), gpu(process(second, 1000))) for second in range(90)]
    assert len(told(*readings)) == 3


def test_what_was_told_stands_while_nothing_is_read() -> None:
    assert len(told((0.0, gpu(process(1, 1000))), (1.0, gpu(read=False)))) == 1
    assert told((0.0, gpu(read=False))) == [Occupancy()]
