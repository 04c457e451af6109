"""What of foreign processes on GPUs is worth telling the scheduler. Pure.

Memory that others hold changes with every reading, and an inventory is news for the whole control
plane. So a picture is told anew only when it matters: much more or much less is held than was told,
the line was crossed from which on a GPU counts as taken, or other processes hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from noded.telemetry.model import GpuProcess, GpuStatus, Occupancy

STEP_BYTES: Final = 256 << 20
"""A change that is smaller than this is no news, except across the line below."""
TAKEN_BYTES: Final = 256 << 20
"""From this on the control plane gives the GPU to nobody."""
CLEAR_BYTES: Final = TAKEN_BYTES - (32 << 20)
"""Below this it is told to be free again: what swings about the line is told once."""
NAMED_PROCESSES: Final = 3
"""So many are named, the largest."""
OTHERS_SECONDS: Final = 30.0
"""That others hold about the same is told at most this often: some work in short processes."""


def occupancy_of(processes: Sequence[GpuProcess]) -> Occupancy:
    """From one reading's processes."""
    foreign = [process for process in processes if process.attempt_id is None]
    foreign.sort(key=lambda process: (-(process.memory_bytes or 0), process.pid))
    held = sum(process.memory_bytes or 0 for process in foreign)
    return Occupancy(held, tuple(foreign[:NAMED_PROCESSES]))


class TellingOccupancy:
    """Remembers what was told of each GPU."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[Occupancy, float]] = {}

    def steady(self, gpus: Sequence[GpuStatus], now: float) -> tuple[GpuStatus, ...]:
        """The GPUs as they are to be told of at monotonic time `now`."""
        return tuple([replace(gpu, occupancy=self._picture(gpu, now)) for gpu in gpus])

    def _picture(self, gpu: GpuStatus, now: float) -> Occupancy:
        told, since = self._told.get(gpu.info.uuid, (Occupancy(), 0.0))
        # While nothing is read of it, what was told stands.
        if gpu.sample is None:
            return told
        seen = occupancy_of(gpu.sample.processes)
        if gpu.info.uuid in self._told and not _is_news(told, seen, now - since):
            return told
        self._told[gpu.info.uuid] = (seen, now)
        return seen


def _is_news(told: Occupancy, seen: Occupancy, seconds: float) -> bool:
    before, held = told.memory_bytes, seen.memory_bytes
    if abs(held - before) >= STEP_BYTES:
        return True
    if before < TAKEN_BYTES <= held or (before >= TAKEN_BYTES and held < CLEAR_BYTES):
        return True
    return seconds >= OTHERS_SECONDS and _names(told) != _names(seen)


def _names(occupancy: Occupancy) -> set[tuple[int, str | None]]:
    return {(process.pid, process.user_name) for process in occupancy.processes}
