"""Ending what a killed shim left behind: by control group, and by the mark in each environment."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from typing import Final

DIRECTORY_VARIABLE: Final = "RISEML_ATTEMPT_DIR"
"""Put into every job's environment; names the attempt's directory, so it is unique on the host
even where several daemons of several clusters use the same attempt ids."""

_PATIENCE_SECONDS: Final = 5.0


def end_leftovers(directory: str, cgroup_procs: Iterable[str]) -> int:
    """SIGKILL to every process of an attempt, until none is found. Returns how many were found;
    blocks for a few seconds at most."""
    mark = f"{DIRECTORY_VARIABLE}={directory}".encode("utf-8", "surrogateescape")
    groups = tuple(cgroup_procs)
    killed: set[int] = set()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = [pid for group in groups for pid in _members(group) if _kill(pid)]
        found += [pid for pid in _all_pids() if _carries(pid, mark) and _kill(pid, mark)]
        killed.update(found)
        if not found:
            break
        time.sleep(0.02)
    return len(killed)


def _members(group: str) -> list[int]:
    try:
        with open(group, encoding="ascii") as file:
            return [int(line) for line in file]
    except OSError:
        return []


def _all_pids() -> list[int]:
    own = os.getpid()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != own]


def _carries(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except OSError:  # gone, or not ours to read and so not ours to end
        return False


def _kill(pid: int, mark: bytes = b"") -> bool:
    """By pidfd, looking at the mark again, so that a reused pid is not hit."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if not hasattr(os, "pidfd_open"):
            os.kill(pid, signal.SIGKILL)
            return True
        fd = os.pidfd_open(pid)
        try:
            if mark and not _carries(pid, mark):
                return False
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            return True
        finally:
            os.close(fd)
    return False
