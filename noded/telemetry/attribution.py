"""Whose process is it? From a pid to the attempt that it belongs to, through /proc.

In this order: its cgroup (`.../riseml/<attempt id>`, or that of its pod, which a job can't leave),
RISEML_ATTEMPT_ID in its environment, its session. The latter two are believed for attempts that run
here only: anybody may write an environment. What is left is foreign, and its user's name is shown.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from noded.telemetry.model import GpuSample, LiveAttempt
from riseml.spec.errors import InvalidId
from riseml.spec.ids import parse_attempt_id

PROC: Final = Path("/proc")
CGROUP_FOLDER: Final = "riseml"
_POD: Final = re.compile(
    r"[/-]pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?:\.slice)?(?:/|$)", re.MULTILINE
)
ATTEMPT_VARIABLE: Final = b"RISEML_ATTEMPT_ID="


def attempt_in_cgroup(text: str) -> str | None:
    """The attempt that /proc/PID/cgroup names, if any. Pure.

    Takes v1 (one line per controller) and v2 (`0::/path`). The attempt's folder may lie deeper than
    directly below `riseml`, and the job may have made cgroups of its own below it.
    """
    for line in text.splitlines():
        parts = line.partition(":")[2].partition(":")[2].split("/")
        if CGROUP_FOLDER not in parts:
            continue
        for part in parts[parts.index(CGROUP_FOLDER) + 1 :]:
            if _is_attempt_id(part):
                return part
    return None


def pod_in_cgroup(text: str) -> str:
    """The uid of the pod that /proc/PID/cgroup names; "" if none. Pure.

    A kubelet makes `.../podUID/...` with its own driver, `...-podUID.slice` with systemd's, where
    an underscore stands for each hyphen.
    """
    found = _POD.search(text)
    return "" if found is None else found.group(1).replace("_", "-")


def attempt_in_environment(environment: bytes, live: Collection[str]) -> str | None:
    """The live attempt that /proc/PID/environ names, if any. Pure."""
    for entry in environment.split(b"\0"):
        if entry.startswith(ATTEMPT_VARIABLE):
            attempt_id = entry[len(ATTEMPT_VARIABLE) :].decode("utf-8", "replace")
            return attempt_id if attempt_id in live else None
    return None


class Attribution:
    """Knows the attempts that run here, finds whose a process is.

    Reads /proc: not for the event loop.
    """

    def __init__(self, attempts: Sequence[LiveAttempt], proc: Path = PROC) -> None:
        self._proc = proc
        self._by_session = {a.pid: a.attempt_id for a in attempts if a.pid}
        self._by_pod = {a.pod_uid: a.attempt_id for a in attempts if a.pod_uid}
        self._live = frozenset(a.attempt_id for a in attempts)

    def attempt_of(self, pid: int) -> str | None:
        """The attempt that a process belongs to; None for a foreign one, or one that is gone."""
        folder = self._proc / str(pid)
        cgroup = _read(folder / "cgroup")
        if cgroup is not None:
            text = cgroup.decode("utf-8", "replace")
            if found := attempt_in_cgroup(text) or self._by_pod.get(pod_in_cgroup(text)):
                return found
        environment = _read(folder / "environ")
        if environment and (found := attempt_in_environment(environment, self._live)):
            return found
        stat = _read(folder / "stat")
        return self._by_session.get(_session(stat)) if stat else None

    def user_of(self, pid: int) -> str | None:
        """Name of the user that a process runs as, or its number; None when it is gone."""
        try:
            return user_name(os.stat(self._proc / str(pid)).st_uid)
        except OSError:
            return None

    def attributed(self, sample: GpuSample) -> GpuSample:
        """The sample with users and attempts of its processes filled in."""
        if not sample.processes:
            return sample
        processes = tuple(
            replace(p, user_name=self.user_of(p.pid), attempt_id=self.attempt_of(p.pid))
            for p in sample.processes
        )
        return replace(sample, processes=processes)


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """A user's name, or the number itself. Remembered: it may come from a directory server."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _is_attempt_id(text: str) -> bool:
    try:
        parse_attempt_id(text)
    except InvalidId:
        return False
    return True


def _session(stat: bytes) -> int:
    # The name of the program, in brackets, may hold spaces and brackets itself.
    fields = stat.rpartition(b")")[2].split()
    return int(fields[3])


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
