"""A control group for each attempt, where permitted: CPU weight, memory limit, process count.

CPUs are a guarantee, not a ceiling: an attempt may use what is idle. cgroup v2 and v1
(https://docs.kernel.org/admin-guide/cgroup-v2.html, .../cgroup-v1/). Groups are made below the
daemon's own group, never beside it. What is not permitted is said in plain words, once.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from noded.shim.spec import CgroupFiles

CONTROLLERS: Final = ("cpu", "memory", "pids")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an attempt is guaranteed (CPU) and may not exceed (the rest); 0: no limit."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    max_processes: int = 0


@dataclass(frozen=True, slots=True)
class Support:
    """`version` 0: none at all. `missing` maps a controller to the reason why it is not used."""

    version: int
    missing: Mapping[str, str]

    @property
    def controllers(self) -> tuple[str, ...]:
        return tuple(name for name in CONTROLLERS if name not in self.missing)

    def describe(self) -> str:
        """For `system info`."""
        used = ", ".join(self.controllers) or "none"
        text = f"cgroup v{self.version}: {used}" if self.version else "no control groups"
        if not self.version:
            return f"{text} ({next(iter(self.missing.values()))})"
        reasons = "; ".join(f"{name}: {why}" for name, why in self.missing.items())
        return f"{text} ({reasons})" if reasons else text


class Cgroups(Protocol):
    """The groups of attempts. Their shims make and remove them, outside our loop."""

    @property
    def support(self) -> Support: ...

    def plan(self, attempt_id: str, limits: Limits) -> CgroupFiles:
        """What the shim is to make."""
        ...

    def remove(self, procs: Iterable[str]) -> None:
        """Removes the groups that these files belong to, where a killed shim left them; one that
        is in use stays."""
        ...

    def close(self) -> None:
        """Removes the daemon's own parent groups, unless attempts are still in them."""
        ...


class NoCgroups:
    """Limits are not enforced."""

    def __init__(self, reason: str) -> None:
        self.support = Support(0, dict.fromkeys(CONTROLLERS, reason))

    def plan(self, attempt_id: str, limits: Limits) -> CgroupFiles:
        return CgroupFiles()

    def remove(self, procs: Iterable[str]) -> None:
        return

    def close(self) -> None:
        return


class CgroupsV2:
    """One group for each attempt below `base`, which has its controllers enabled already."""

    def __init__(self, base: Path, support: Support) -> None:
        self.support = support
        self._base = str(base)
        self._has_kill = os.path.exists(f"{base}/cgroup.kill")

    def plan(self, attempt_id: str, limits: Limits) -> CgroupFiles:
        group = f"{self._base}/{attempt_id}"
        available = self.support.controllers
        settings, wishes = [], []
        if limits.cpu_milli and "cpu" in available:
            settings.append((f"{group}/cpu.weight", str(cpu_weight(limits.cpu_milli))))
        if limits.memory_bytes and "memory" in available:
            settings.append((f"{group}/memory.max", str(limits.memory_bytes)))
            wishes.append((f"{group}/memory.swap.max", "0"))  # not there without swap accounting
        if limits.max_processes and "pids" in available:
            settings.append((f"{group}/pids.max", str(limits.max_processes)))
        return CgroupFiles(
            directories=(group,),
            settings=tuple(settings),
            wishes=tuple(wishes),
            procs=(f"{group}/cgroup.procs",),
            kill=f"{group}/cgroup.kill" if self._has_kill else "",
            oom=f"{group}/memory.events" if "memory" in available else "",
        )

    def remove(self, procs: Iterable[str]) -> None:
        _remove_groups(procs, {self._base})

    def close(self) -> None:
        _remove_empty(self._base)


class CgroupsV1:
    """One group for each attempt and controller; `bases` maps a controller to its directory."""

    def __init__(self, bases: Mapping[str, Path], support: Support) -> None:
        self.support = support
        self._bases = {name: str(base) for name, base in bases.items()}

    def plan(self, attempt_id: str, limits: Limits) -> CgroupFiles:
        wanted = {
            "cpu": ("cpu.shares", cpu_shares(limits.cpu_milli) if limits.cpu_milli else 0),
            "memory": ("memory.limit_in_bytes", limits.memory_bytes),
            "pids": ("pids.max", limits.max_processes),
        }
        directories, settings, oom = [], [], ""
        for name, base in self._bases.items():
            file, value = wanted[name]
            if not value:
                continue
            group = f"{base}/{attempt_id}"
            directories.append(group)
            settings.append((f"{group}/{file}", str(value)))
            if name == "memory":
                oom = f"{group}/memory.oom_control"
        return CgroupFiles(
            directories=tuple(directories),
            settings=tuple(settings),
            procs=tuple(f"{group}/cgroup.procs" for group in directories),
            oom=oom,
        )

    def remove(self, procs: Iterable[str]) -> None:
        _remove_groups(procs, set(self._bases.values()))

    def close(self) -> None:
        for base in self._bases.values():
            _remove_empty(base)


def cpu_shares(cpu_milli: int) -> int:
    """v1: 1024 for one CPU, the kernel's default for a group."""
    return max(2, cpu_milli * 1024 // 1000)


def cpu_weight(cpu_milli: int) -> int:
    """v2: 100, the kernel's default, for one CPU."""
    return min(10_000, max(1, cpu_milli // 10))


def owner_name(node_name: str, node_directory: Path) -> str:
    """Whose groups they are. Two clusters on one host, each `riseml up` in a home of its own, have
    a node of the same name and attempts of the same ids: without the directory in the name, one
    would remove the groups of the other."""
    digest = hashlib.sha256(os.fsencode(node_directory.absolute())).hexdigest()
    return f"{node_name}-{digest[:8]}"


def detect(
    owner: str, proc: Path = Path("/proc/self"), mounts: Path = Path("/proc/self/mounts")
) -> Cgroups:
    """Finds out what is permitted by making the daemon's own parent group, `riseml-<owner>`."""
    try:
        own = _own_groups((proc / "cgroup").read_text())
        mounted = _mounts(mounts.read_text())
    except OSError as error:
        return NoCgroups(f"control groups can't be read: {error}")
    v1: dict[str, Path] = {
        name: mounted[name] / own[name] for name in CONTROLLERS if name in mounted
    }
    if v1:
        return _detect_v1(owner, v1)
    if "" in mounted and "" in own:
        return _detect_v2(owner, mounted[""] / own[""], root=own[""] == Path("."))
    return NoCgroups("no control groups are mounted")


def _own_groups(text: str) -> dict[str, Path]:
    """Controller to path below its mount; the empty name is v2."""
    own: dict[str, Path] = {}
    for line in text.splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            own[name] = Path(path.lstrip("/") or ".")
    return own


def _mounts(text: str) -> dict[str, Path]:
    mounted: dict[str, Path] = {}
    for line in text.splitlines():
        _, path, kind, options = line.split(" ")[:4]
        if kind == "cgroup2":
            mounted.setdefault("", Path(path))
        elif kind == "cgroup":
            for name in options.split(","):
                if name in CONTROLLERS:
                    mounted.setdefault(name, Path(path))
    return mounted


def _detect_v1(node_name: str, own: Mapping[str, Path]) -> Cgroups:
    bases: dict[str, Path] = {}
    missing = {name: "this kernel has no such controller" for name in CONTROLLERS}
    for name, path in own.items():
        base = path / f"riseml-{node_name}"
        try:
            _make_base(base)
        except OSError as error:
            missing[name] = f"may not make groups in {path} ({error.strerror}); run noded as root"
        else:
            bases[name] = base
            del missing[name]
    if not bases:
        return NoCgroups(next(iter(missing.values())))
    return CgroupsV1(bases, Support(1, missing))


def _detect_v2(node_name: str, own: Path, *, root: bool) -> Cgroups:
    """A group with processes can't pass controllers on, so the daemon first moves into a leaf,
    unless others share its group."""
    base = own / f"riseml-{node_name}"
    try:
        _make_base(base)
    except OSError as error:
        return NoCgroups(
            f"may not make groups in {own} ({error.strerror}); run noded as a service of systemd "
            "with Delegate=yes"
        )
    missing: dict[str, str] = {}
    why = "" if root else _make_room(own)
    for name in CONTROLLERS:
        try:
            for group in (own, base):
                (group / "cgroup.subtree_control").write_text(f"+{name}")
        except OSError as error:
            missing[name] = why or f"not passed on to {own} ({error.strerror})"
    return CgroupsV2(base, Support(2, missing))


def _make_base(base: Path) -> None:
    """Raises OSError; also where a daemon of another user left one that is not ours to use."""
    base.mkdir(exist_ok=True)
    if not os.access(base, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(base))


def _make_room(own: Path) -> str:
    """Empty: done. Otherwise the reason why not."""
    try:
        members = {int(pid) for pid in (own / "cgroup.procs").read_text().split()}
        if members - {os.getpid()}:
            return (
                f"{own} also holds other processes; run noded as a service of systemd with "
                "Delegate=yes"
            )
        if members:
            leaf = own / "daemon"
            leaf.mkdir(exist_ok=True)
            (leaf / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        return f"the daemon can't move into a group of its own ({error.strerror})"
    return ""


def _remove_groups(procs: Iterable[str], bases: set[str]) -> None:
    """With the last group of a daemon that ran in another group, its parent group goes too."""
    for file in procs:
        group = os.path.dirname(file)
        _remove_empty(group)
        base = os.path.dirname(group)
        if base not in bases:
            _remove_empty(base)


def _remove_empty(group: str) -> None:
    with contextlib.suppress(OSError):  # in use or gone: the next adoption tries again
        os.rmdir(group)
