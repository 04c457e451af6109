"""noded's side of NVML: starts the child, believes it only while it answers in time, starts it
again when it doesn't.

Nothing here calls into NVML, so a sick driver cannot block the daemon. That a machine has no GPU,
or no driver, is a normal state with a plain sentence for `system info`; it is looked at again from
time to time.
"""

from __future__ import annotations

import _ctypes
import asyncio
import ctypes
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from noded.telemetry import wire
from noded.telemetry.gpu_ledger import GpuLedger
from noded.telemetry.health import DEFAULT_POLICY, HealthPolicy
from noded.telemetry.model import GpuStatus

log = logging.getLogger(__name__)

LIBRARY: Final = "libnvidia-ml.so.1"
KILL_WAIT_SECONDS: Final = 2.0

_FAILURES: Final = {
    4: "this user may not open the NVIDIA devices (/dev/nvidia*)",
    9: "the NVIDIA driver is not loaded",
    18: "the NVIDIA driver and its library have different versions: restart the machine",
}


class NvmlState(StrEnum):
    """How things stand with NVML on this node."""

    STARTING = "STARTING"
    ABSENT = "ABSENT"
    """There is no NVIDIA library here."""
    EMPTY = "EMPTY"
    """There is a driver and no GPU."""
    BROKEN = "BROKEN"
    """NVML can't be opened, or its child died."""
    READING = "READING"
    STALLED = "STALLED"
    """Readings are late."""


@dataclass(frozen=True, slots=True)
class NvmlStatus:
    """State, and a sentence for people."""

    state: NvmlState
    message: str


@dataclass(frozen=True, slots=True)
class NvmlSettings:
    """How to read NVML. All times in seconds."""

    period: float = 1.0
    """Between readings."""
    opening_deadline: float = 90.0
    """For the child's first message: without persistence mode a driver takes seconds per GPU."""
    reading_deadline: float = 5.0
    """For each reading, beyond the period."""
    first_backoff: float = 1.0
    longest_backoff: float = 30.0
    look_again: float = 60.0
    """How often to look whether there is a driver or a GPU by now."""
    reopen: float = 60.0
    """While a GPU is lost, NVML is opened anew this often, to see whether it was reset."""
    python: str = sys.executable
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    policy: HealthPolicy = DEFAULT_POLICY


def library_present(environ: Mapping[str, str]) -> bool:
    """Whether a child with this environment would find NVML's library.

    Loads it and lets it go again; that runs none of the driver's code (nvmlInit would).
    """
    for folder in environ.get("LD_LIBRARY_PATH", "").split(":"):
        if folder and Path(folder, LIBRARY).exists():
            return True
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    _ctypes.dlclose(library._handle)
    return True


class _Stop(Exception):
    """The child is of no more use. `pause` seconds later the next one may start."""

    def __init__(self, status: NvmlStatus | None, pause: float | None) -> None:
        super().__init__(status)
        self.status = status
        self.pause = pause
        """None: as the backoff says."""


class NvmlSource:
    """The GPUs of this node as NVML shows them.

    `on_change` is called, on the event loop, after a change of inventory, health or status.
    """

    def __init__(self, settings: NvmlSettings, on_change: Callable[[], None]) -> None:
        self._settings = settings
        self._on_change = on_change
        self._ledger = GpuLedger(settings.policy)
        self._status = NvmlStatus(NvmlState.STARTING, "NVML is being opened")
        self._notes: tuple[str, ...] = ()
        self._backoff = settings.first_backoff
        self._child_pid: int | None = None
        self._readings = 0

    @property
    def status(self) -> NvmlStatus:
        """How things stand."""
        return self._status

    @property
    def notes(self) -> tuple[str, ...]:
        """Plain sentences on what is missing, for `system info`; empty when all is well."""
        if self._status.state is NvmlState.READING:
            return self._notes
        return (self._status.message, *self._notes)

    @property
    def child_pid(self) -> int | None:
        """Process id of the child while there is one."""
        return self._child_pid

    @property
    def readings(self) -> int:
        """How many readings came so far."""
        return self._readings

    def gpus(self) -> tuple[GpuStatus, ...]:
        """Every GPU that was ever seen; its processes carry no user and no attempt."""
        return self._ledger.gpus()

    async def run(self) -> None:
        """Reads until cancelled. Raises nothing else."""
        while True:
            if not library_present(self._settings.environ):
                self._mark(NvmlState.ABSENT, "no NVIDIA driver on this machine, so no GPUs")
                await asyncio.sleep(self._settings.look_again)
                continue
            try:
                await self._follow_child()
            except _Stop as stop:
                if stop.status is not None:
                    self._mark(stop.status.state, stop.status.message)
                await asyncio.sleep(self._next_pause(stop.pause))

    def _next_pause(self, pause: float | None) -> float:
        if pause is not None:
            return pause
        pause = self._backoff
        self._backoff = min(self._backoff * 2, self._settings.longest_backoff)
        return pause

    async def _follow_child(self) -> None:
        """One life of a child; ends with _Stop."""
        try:
            process = await asyncio.create_subprocess_exec(
                self._settings.python,
                *("-P", "-m", "noded.telemetry.nvml_child"),
                *("--period-seconds", str(self._settings.period)),
                *("--parent-pid", str(os.getpid())),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=dict(self._settings.environ),
                # A Ctrl-C at the terminal is for noded, which then ends the child.
                start_new_session=True,
            )
        except OSError as error:
            self._silence()
            raise _Stop(
                NvmlStatus(NvmlState.BROKEN, f"the NVML child can't be started: {error}"), None
            ) from error
        self._child_pid = process.pid
        assert process.stdout is not None
        limit: float | None = None
        try:
            await self._follow(process.stdout)
        except wire.WireError as error:
            self._silence()
            raise _Stop(
                NvmlStatus(NvmlState.BROKEN, f"the NVML child talks nonsense: {error}"), None
            ) from error
        except asyncio.IncompleteReadError as error:
            self._silence()
            raise _Stop(NvmlStatus(NvmlState.BROKEN, "the NVML child died"), None) from error
        except asyncio.CancelledError:
            limit = KILL_WAIT_SECONDS
            raise
        finally:
            await self._end(process, limit)

    async def _follow(self, pipe: asyncio.StreamReader) -> None:
        settings = self._settings
        loop = asyncio.get_running_loop()
        born = loop.time()
        due = born + settings.opening_deadline
        readings = 0
        while True:
            try:
                async with asyncio.timeout_at(due):
                    message = await _receive(pipe)
            except TimeoutError as error:
                self._silence()
                log.warning("NVML did not answer in time; its child is killed and started again")
                raise _Stop(
                    NvmlStatus(
                        NvmlState.STALLED,
                        "the NVIDIA driver does not answer: GPU health is unknown",
                    ),
                    None,
                ) from error
            if isinstance(message, wire.Xid):
                log.warning("XID %d on %s", message.event.code, message.event.uuid)
                if self._ledger.told(message.event, time.time()):
                    self._on_change()
                continue
            due = loop.time() + settings.period + settings.reading_deadline
            if isinstance(message, wire.Failed):
                self._failed(message)
            elif isinstance(message, wire.Hello):
                self._greeted(message)
            else:
                readings += 1
                self._readings += 1
                if readings == 3:  # not at the first: it may hang at every second one
                    self._backoff = settings.first_backoff
                changed = self._ledger.read(message.gpus, time.time())
                self._mark(NvmlState.READING, "", force=changed)
                if self._ledger.any_lost() and loop.time() - born >= settings.reopen:
                    raise _Stop(None, 0.0)

    def _failed(self, message: wire.Failed) -> None:
        self._silence()
        why = _FAILURES.get(message.code, f"NVML can't be opened: {message.message}")
        raise _Stop(NvmlStatus(NvmlState.BROKEN, why), self._settings.look_again)

    def _greeted(self, message: wire.Hello) -> None:
        changed = self._ledger.found(message.gpus, time.time())
        notes = [f"GPU {gpu.index} can't be opened: {gpu.message}" for gpu in message.unopened]
        if not message.events:
            notes.append("this NVIDIA driver reports no XID events")
        self._notes = tuple(notes)
        if not message.gpus and not message.unopened and not self._ledger.gpus():
            raise _Stop(
                NvmlStatus(
                    NvmlState.EMPTY, "the NVIDIA driver is loaded but finds no GPU on this machine"
                ),
                self._settings.look_again,
            )
        if changed:
            self._on_change()

    def _silence(self) -> None:
        if self._ledger.silent(time.time()):
            self._on_change()

    def _mark(self, state: NvmlState, message: str, *, force: bool = False) -> None:
        status = NvmlStatus(state, message)
        if status != self._status or force:
            self._status = status
            self._on_change()

    async def _end(self, process: asyncio.subprocess.Process, limit: float | None) -> None:
        """Kills the child and waits until it is gone, so that stuck children don't pile up.

        A process that the driver holds inside the kernel does not die of SIGKILL. Waiting for it
        costs nobody anything, for only this task waits; when the daemon itself ends, `limit` keeps
        the wait short.
        """
        if process.returncode is None:
            try:
                process.kill()
            except ProcessLookupError:
                log.debug("the NVML child was gone already")
        try:
            async with asyncio.timeout(limit):
                await process.wait()
        except TimeoutError:
            log.warning("the NVML child %d does not die: the driver holds it", process.pid)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            self._child_pid = None


async def _receive(pipe: asyncio.StreamReader) -> wire.Message:
    prefix = await pipe.readexactly(wire.LENGTH_BYTES)
    return wire.decode(await pipe.readexactly(wire.body_length(prefix)))
