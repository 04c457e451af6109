"""Programs that ``riseml up`` starts and keeps up: started again when they die, ended in order.

Each has a process group of its own, so that Ctrl-C in the terminal reaches only ``riseml up``.
Their pids stand in a file, by which the next start finds those that a killed one left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOG_BYTES: Final = 16 << 20
"""A log longer than this is put aside as ``log.1`` at the next start."""

STOP_SECONDS: Final = 10.0
STEADY_SECONDS: Final = 60.0
"""Who ran for so long starts again at once when it dies."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_TAIL_BYTES: Final = 8192


@dataclass(frozen=True, slots=True)
class Ended:
    """A child died."""

    child: Child
    status: int
    """Exit status, or minus the signal's number."""


class Child:
    """One program. Told of its end by a callback from another thread, unless it was stopped."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, ended: Callable[[Ended], None]
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._ended = ended
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = False
        self._started = 0.0
        self._pause = _FIRST_PAUSE

    @property
    def pid(self) -> int:
        """Process id; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; what it says goes to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_BYTES:
                os.replace(self.log, self.log.with_name(f"{self.log.name}.1"))
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                process_group=0,
            )
        finally:
            os.close(descriptor)
        self._started = time.monotonic()
        threading.Thread(target=self._wait, args=(self._process,), daemon=True).start()

    def pause_seconds(self) -> float:
        """How long to wait before the next start: longer each time that it did not stay up."""
        if time.monotonic() - self._started > STEADY_SECONDS:
            self._pause = _FIRST_PAUSE
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE)
        return pause

    def ask_to_stop(self) -> None:
        """SIGTERM; its end is then no surprise."""
        self._stopping = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def finish(self, seconds: float = STOP_SECONDS) -> None:
        """Wait for its end, and force it when it takes too long."""
        if self._process is None:
            return
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_words(self, lines: int = 8) -> str:
        """The end of its log."""
        try:
            with self.log.open("rb") as opened:
                opened.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                text = opened.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        if not self._stopping:
            self._ended(Ended(self, status))


def how_it_died(status: int) -> str:
    """``exit status 1`` or ``SIGKILL``."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def remember(file: Path, children: Sequence[Child]) -> None:
    """Write down who runs, with the time of start by which a pid is known again."""
    found = [
        {"name": child.name, "pid": child.pid, "start_ticks": _start_ticks(child.pid)}
        for child in children
        if child.pid
    ]
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(json.dumps(found), "utf-8")
    os.replace(partial, file)


def end_leftovers(file: Path, seconds: float = STOP_SECONDS) -> list[str]:
    """End the children of an earlier start that was killed; returns their names."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return []
    left = [
        (str(entry["name"]), int(entry["pid"]), entry["start_ticks"])
        for entry in found
        if entry["start_ticks"] is not None and _start_ticks(entry["pid"]) == entry["start_ticks"]
    ]
    # As in an orderly end: last started, first stopped.
    for _, pid, ticks in reversed(left):
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + seconds
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            while _start_ticks(pid) == ticks and time.monotonic() < deadline:
                time.sleep(0.05)
            if _start_ticks(pid) != ticks:
                break
    file.unlink(missing_ok=True)
    return [name for name, _, _ in left]


def _start_ticks(pid: int) -> int | None:
    """When a process began, in ticks since boot (proc(5), field 22); None for none or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])
