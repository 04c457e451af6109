"""The one object of telemetry that the rest of noded uses: it brings GPUs, host and attempts
together.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from noded.telemetry.attribution import Attribution
from noded.telemetry.host import CGROUPS, AttemptReader, HostReader
from noded.telemetry.model import (
    AttemptSample,
    GpuInfo,
    GpuStatus,
    HostSample,
    LiveAttempt,
    NodeSample,
)
from noded.telemetry.nvml import NvmlSettings, NvmlSource, NvmlState
from noded.telemetry.occupancy import TellingOccupancy
from noded.telemetry.simulated import simulated_gpus, simulated_status

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """What to measure."""

    node_name: str
    home: Path
    """Where the daemon keeps its state."""
    period: float = 1.0
    """Seconds between samples."""
    simulate_gpus: str = ""
    """`8xH100`; empty: none."""
    cgroups: Path = CGROUPS
    """Where the host's control groups are mounted."""
    nvml: NvmlSettings | None = field(default_factory=NvmlSettings)
    """None: don't look for real GPUs."""


Attempts = Callable[[], Sequence[LiveAttempt]]


class Collector:
    """Measures the node once per period.

    `attempts` is asked, on the event loop, what runs here. `on_change` is called, on the event
    loop, when inventory(), in health or in what foreign processes hold, is no longer what it was;
    it may call back. Making a Collector raises SimulationError for a text that can't be read.
    """

    def __init__(
        self,
        settings: CollectorSettings,
        attempts: Attempts = tuple,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._attempts = attempts
        self._on_change = on_change
        self._simulated: tuple[GpuInfo, ...] = ()
        if settings.simulate_gpus:
            self._simulated = simulated_gpus(settings.simulate_gpus, settings.node_name)
        self._started = time.time()
        self._host = HostReader(settings.home)
        self._attempt_reader = AttemptReader(cgroups=settings.cgroups)
        self._nvml = NvmlSource(settings.nvml, self._wake) if settings.nvml else None
        self._telling = TellingOccupancy()
        self._gpus: tuple[GpuStatus, ...] = self._raw_gpus(())
        self._newest: NodeSample | None = None
        self._taken: NodeSample | None = None
        self._said = self._occupancy()
        self._tick = asyncio.Event()
        self._sampled = asyncio.Condition()

    async def run(self) -> None:
        """Measures until cancelled; starts and ends the NVML child."""
        async with asyncio.TaskGroup() as tasks:
            if self._nvml is not None:
                tasks.create_task(self._nvml.run())
            tasks.create_task(self._measure_for_ever())

    def inventory(self) -> tuple[GpuStatus, ...]:
        """All GPUs, real ones first, with health and occupancy as of the newest sample.

        Empty on a machine without GPUs, and at first: NVML takes its time to open.
        """
        return self._gpus

    def notes(self) -> tuple[str, ...]:
        """Plain sentences for `system info`: why there are no GPUs, what the driver can't tell."""
        notes = self._nvml.notes if self._nvml else ()
        if self._simulated:
            notes = (
                *notes,
                f"{len(self._simulated)} GPUs are simulated: no computation runs there",
            )
        return notes

    def settled(self) -> bool:
        """Whether NVML has answered by now, be it that there is none; the next sample is whole."""
        return self._nvml is None or self._nvml.status.state is not NvmlState.STARTING

    def newest(self) -> NodeSample | None:
        """The newest sample; None before the first."""
        return self._newest

    def take(self) -> NodeSample | None:
        """The newest sample if it was not taken yet, else None."""
        sample = None if self._newest is self._taken else self._newest
        self._taken = self._newest
        return sample

    async def samples(self) -> AsyncIterator[NodeSample]:
        """Samples as they come. A reader that falls behind gets the newest, not a backlog."""
        seen: NodeSample | None = None
        while True:
            async with self._sampled:
                while self._newest is None or self._newest is seen:
                    await self._sampled.wait()
                seen = self._newest
            yield seen

    def _wake(self) -> None:
        """NVML has news: don't wait for the period to end."""
        self._tick.set()

    async def _measure_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._settings.period
            self._tick.clear()
            try:
                await self._measure()
            except (OSError, ValueError, psutil.Error):
                # What /proc says may change under one's eyes; the next reading is soon.
                log.exception("the node could not be measured")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._tick.wait()

    async def _measure(self) -> None:
        attempts = tuple(self._attempts())
        # In a thread: a disk or a user directory behind a network may take its time.
        host, used, gpus = await asyncio.to_thread(
            self._read, attempts, self._raw_gpus(attempts), time.monotonic()
        )
        self._gpus = self._telling.steady(gpus, time.monotonic())
        self._newest = NodeSample(time.monotonic(), time.time(), host, self._gpus, used)
        async with self._sampled:
            self._sampled.notify_all()
        occupancy = self._occupancy()
        if occupancy != self._said:
            self._said = occupancy
            self._on_change()

    def _read(
        self, attempts: tuple[LiveAttempt, ...], gpus: tuple[GpuStatus, ...], now: float
    ) -> tuple[HostSample, tuple[AttemptSample, ...], tuple[GpuStatus, ...]]:
        attribution = Attribution(attempts)
        attributed = tuple(
            gpu
            if gpu.sample is None or gpu.info.simulated
            else replace(gpu, sample=attribution.attributed(gpu.sample))
            for gpu in gpus
        )
        return self._host.read(), self._attempt_reader.read(attempts, now), attributed

    def _raw_gpus(self, attempts: Sequence[LiveAttempt]) -> tuple[GpuStatus, ...]:
        real = self._nvml.gpus() if self._nvml else ()
        return (
            *real,
            *(simulated_status(info, attempts, self._started) for info in self._simulated),
        )

    def _occupancy(self) -> tuple[object, ...]:
        """What on_change is about."""
        return tuple(
            (
                gpu.info,
                gpu.health.state,
                gpu.health.reason,
                gpu.occupancy,
            )
            for gpu in self._gpus
        )
