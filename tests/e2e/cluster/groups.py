"""The control groups of one run: below one group of its own in every hierarchy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

TOP: Final = Path("/sys/fs/cgroup")


def make(name: str) -> None:
    """The kubelet wants its root to be there, with the controllers that it uses."""
    if (TOP / "cgroup.controllers").exists():
        group = TOP / name
        group.mkdir()
        wanted = " ".join(f"+{one}" for one in (TOP / "cgroup.controllers").read_text().split())
        for parent in (TOP, group):
            (parent / "cgroup.subtree_control").write_text(wanted)
        return
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir()
        if hierarchy.name == "cpuset":
            # A group without processors and memory takes no processes.
            for file in ("cpuset.cpus", "cpuset.mems"):
                (group / file).write_text((hierarchy / file).read_text())


def remove(name: str) -> None:
    """Of a run that has ended: nothing is in them any more."""
    for hierarchy in (TOP, *_hierarchies()):
        for folder, _, _ in os.walk(hierarchy / name, topdown=False):
            os.rmdir(folder)


def names(prefix: str) -> set[str]:
    """Of all runs, those that were cut off among them."""
    return {
        path.name for hierarchy in (TOP, *_hierarchies()) for path in hierarchy.glob(f"{prefix}*")
    }


def _hierarchies() -> list[Path]:
    """Of version 1; some are links to others."""
    return [path for path in TOP.iterdir() if path.is_dir() and not path.is_symlink()]
