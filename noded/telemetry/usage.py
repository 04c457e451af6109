"""What a group of processes uses, and how the kernel's files say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """What a group of processes has used so far, and holds now."""

    cpu_seconds: float
    memory_bytes: int


def usage_seconds(cpu_stat: str | None) -> float | None:
    """Seconds of CPU, out of a cgroup's `cpu.stat` (version 2)."""
    for line in (cpu_stat or "").splitlines():
        key, _, value = line.partition(" ")
        if key == "usage_usec":
            return int(value) / 1e6
    return None


def number(content: str | None) -> int | None:
    """Of a file that holds one."""
    return None if content is None else int(content)


def text(path: Path) -> str | None:
    """Of a file; None if it cannot be read, such as when its group is gone."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
