"""What pods use, by the cgroups that the kubelet made for them.

They lie below `kubepods`, by class of service, as `burstable/podUID`; with systemd's driver below
`kubepods.slice`, as `kubepods-burstable.slice/kubepods-burstable-podU_I_D.slice`. A kubelet may
have a root of its own, which stands before all that. With version 1 each controller has a tree.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from noded.telemetry.usage import Usage, number, text, usage_seconds

_ROOTS: Final = ("kubepods", "*kubepods.slice")
_MOST_REMEMBERED: Final = 1_000


class PodUsage:
    """Remembers where it found what: looking takes longer than reading."""

    def __init__(self, cgroups: Path) -> None:
        self._cgroups = cgroups
        self._found: dict[tuple[str, str], Path] = {}

    def read(self, uid: str) -> Usage | None:
        """Of all containers of a pod; None where it has no cgroup, or none any more."""
        folder = self._folder("", uid)
        if folder is not None:
            seconds = usage_seconds(text(folder / "cpu.stat"))
            held = number(text(folder / "memory.current"))
            if seconds is not None and held is not None:
                return Usage(seconds, held)
        cpu, memory = self._folder("cpuacct", uid), self._folder("memory", uid)
        if cpu is None or memory is None:
            return None
        nanoseconds = number(text(cpu / "cpuacct.usage"))
        held = number(text(memory / "memory.usage_in_bytes"))
        if nanoseconds is None or held is None:
            return None
        return Usage(nanoseconds / 1e9, held)

    def _folder(self, controller: str, uid: str) -> Path | None:
        """Of the pod in one controller's tree; "": in the one tree of version 2."""
        known = self._found.get((controller, uid))
        if known is not None and known.is_dir():
            return known
        found = next(iter(_search(self._cgroups / controller, uid)), None)
        if found is not None:
            if len(self._found) >= _MOST_REMEMBERED:
                self._found.clear()
            self._found[controller, uid] = found
        return found


def _search(tree: Path, uid: str) -> Iterable[Path]:
    names = (f"pod{uid}", f"*-pod{uid.replace('-', '_')}.slice")
    for depth in ("", "*/", "*/*/"):
        for root in _ROOTS:
            for folder in tree.glob(depth + root):
                for name in names:
                    yield from folder.glob(name)
                    yield from folder.glob(f"*/{name}")
