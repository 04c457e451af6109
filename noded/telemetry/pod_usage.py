"""What a pod uses, by the cgroup that the kubelet made for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from noded.telemetry.usage import Usage, number, text, usage_seconds


def usage_of_pod(cgroups: Path, uid: str) -> Usage | None:
    """Of all its containers; None where the pod has no cgroup below `cgroups`, or no more."""
    for inside in _places(uid):
        seconds = usage_seconds(text(cgroups / inside / "cpu.stat"))
        held = number(text(cgroups / inside / "memory.current"))
        if seconds is not None and held is not None:
            return Usage(seconds, held)
        # Version 1: each controller has a tree of its own.
        nanoseconds = number(text(cgroups / "cpuacct" / inside / "cpuacct.usage"))
        held = number(text(cgroups / "memory" / inside / "memory.usage_in_bytes"))
        if nanoseconds is not None and held is not None:
            return Usage(nanoseconds / 1e9, held)
    return None


def _places(uid: str) -> Iterator[Path]:
    """Where kubelets put it: by class of service, with their own driver and with systemd's."""
    for kind in ("burstable", "", "besteffort"):
        yield Path("kubepods") / kind / f"pod{uid}"
        group = f"kubepods-{kind}" if kind else "kubepods"
        slice_ = f"{group}-pod{uid.replace('-', '_')}.slice"
        yield Path("kubepods.slice") / (f"{group}.slice" if kind else "") / slice_
