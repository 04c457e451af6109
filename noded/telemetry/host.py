"""Reads the host's CPU, memory and disk, and what each attempt uses of them. Blocking, but short.

An attempt is measured by its cgroup, or that of its pod, where it has one; else by the processes of
its session and their descendants. The latter misses the CPU time of processes that ended between
two readings unless their parents waited for them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from noded.telemetry.attribution import PROC, attempt_in_cgroup
from noded.telemetry.model import AttemptSample, HostSample, LiveAttempt
from noded.telemetry.pod_usage import PodUsage
from noded.telemetry.usage import Usage, number, usage_seconds
from noded.telemetry.usage import text as text_of

CGROUPS: Final = Path("/sys/fs/cgroup")
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class HostReader:
    """Reads the host. CPU is the share since the reading before; the first one is since boot."""

    def __init__(self, home: Path) -> None:
        self._home = home
        psutil.cpu_percent(None)

    def read(self) -> HostSample:
        """One reading. `disk_free_bytes` is 0 where HOME can't be asked."""
        memory = psutil.virtual_memory()
        try:
            free = psutil.disk_usage(str(self._home)).free
        except OSError:
            free = 0
        return HostSample(
            cpu_percent=psutil.cpu_percent(None),
            cpu_count=psutil.cpu_count() or 1,
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
            load1=os.getloadavg()[0],
            disk_free_bytes=free,
        )


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What /proc/PID/stat says of a process, as far as we need it."""

    pid: int
    parent_pid: int
    session: int
    cpu_seconds: float
    """Its own and that of the children it waited for."""
    memory_bytes: int


def parse_stat(text: bytes) -> ProcessStat:
    """Reads /proc/PID/stat (proc(5)). Pure. Raises ValueError or IndexError on anything else."""
    pid, _, rest = text.partition(b" ")
    # The program's name stands in brackets and may hold spaces and brackets itself.
    fields = rest.rpartition(b")")[2].split()
    ticks = sum(int(field) for field in fields[11:15])
    return ProcessStat(
        pid=int(pid),
        parent_pid=int(fields[1]),
        session=int(fields[3]),
        cpu_seconds=ticks / _TICKS_PER_SECOND,
        memory_bytes=int(fields[21]) * _PAGE_BYTES,
    )


def usage_of_session(root: int, processes: Sequence[ProcessStat]) -> Usage | None:
    """Sums up a session and all descendants of its leader; None where nothing is left. Pure."""
    children: dict[int, list[ProcessStat]] = {}
    for process in processes:
        children.setdefault(process.parent_pid, []).append(process)
    members = {p.pid: p for p in processes if p.session == root or p.pid == root}
    waiting = list(members)
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child.pid not in members:
                members[child.pid] = child
                waiting.append(child.pid)
    if not members:
        return None
    return Usage(
        sum(p.cpu_seconds for p in members.values()), sum(p.memory_bytes for p in members.values())
    )


class AttemptReader:
    """Reads what attempts use. Remembers the reading before, for CPU is a difference."""

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self._proc = proc
        self._cgroups = cgroups
        self._pods = PodUsage(cgroups)
        self._before: dict[str, tuple[float, float]] = {}

    def read(self, attempts: Sequence[LiveAttempt], now: float) -> tuple[AttemptSample, ...]:
        """One reading at monotonic time `now`; none for an attempt without processes."""
        samples: list[AttemptSample] = []
        before, self._before = self._before, {}
        processes: list[ProcessStat] | None = None
        for attempt in attempts:
            usage: Usage | None
            if attempt.pod_uid:
                usage = self._pods.read(attempt.pod_uid)
            elif not attempt.pid:
                continue
            else:
                usage = self._usage_of_cgroup(attempt)
            if usage is None and attempt.pid:
                if processes is None:
                    processes = self._processes()
                usage = usage_of_session(attempt.pid, processes)
            if usage is None:
                continue
            self._before[attempt.attempt_id] = (now, usage.cpu_seconds)
            then, used = before.get(attempt.attempt_id, (now, usage.cpu_seconds))
            percent = 100 * (usage.cpu_seconds - used) / (now - then) if now > then else 0.0
            samples.append(AttemptSample(attempt.attempt_id, max(0.0, percent), usage.memory_bytes))
        return tuple(samples)

    def _usage_of_cgroup(self, attempt: LiveAttempt) -> Usage | None:
        text = text_of(self._proc / str(attempt.pid) / "cgroup")
        cpu_seconds: float | None = None
        memory_bytes: int | None = None
        for line in (text or "").splitlines():
            if attempt_in_cgroup(line) != attempt.attempt_id:
                continue
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            # The job may sit in a cgroup of its own below the attempt's.
            head, _, _ = path.partition(f"/{attempt.attempt_id}")
            inside = f"{head}/{attempt.attempt_id}".lstrip("/")
            names = controllers.split(",")
            if not controllers:
                folder = self._cgroups / inside
                # Where v1 and v2 are mixed, the v2 tree has no controllers and tells nothing.
                if (used := usage_seconds(text_of(folder / "cpu.stat"))) is not None:
                    cpu_seconds = used
                if (held := number(text_of(folder / "memory.current"))) is not None:
                    memory_bytes = held
            elif "cpuacct" in names:
                nanoseconds = number(text_of(self._cgroups / "cpuacct" / inside / "cpuacct.usage"))
                cpu_seconds = None if nanoseconds is None else nanoseconds / 1e9
            elif "memory" in names:
                folder = self._cgroups / "memory" / inside
                memory_bytes = number(text_of(folder / "memory.usage_in_bytes"))
        if cpu_seconds is None or memory_bytes is None:
            return None
        return Usage(cpu_seconds, memory_bytes)

    def _processes(self) -> list[ProcessStat]:
        found: list[ProcessStat] = []
        for name in os.listdir(self._proc):
            if not name.isdigit():
                continue
            try:
                found.append(parse_stat((self._proc / name / "stat").read_bytes()))
            except (OSError, ValueError, IndexError):
                continue  # it ended while we looked
        return found
