"""Finding the processes that tests started."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


def shims_below(folder: Path) -> Iterator[int]:
    """Pids of shims whose attempt lies below `folder`: a shim works in its attempt's folder."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if (entry / "comm").read_text().strip() != "riseml-shim":
                continue
            if Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                yield int(entry.name)


def kill_shims(folder: Path) -> None:
    """Ends shims below `folder`, each with its job, and no others."""
    for pid in shims_below(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)
