"""A supervisor with the real shim, for tests: its events, and what it left in files."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from noded.attempt_dir import AttemptDir
from noded.launch import Ended, Event, LaunchRequest, Started
from noded.shim import SHIM_PROGRAM
from noded.supervisor import Supervisor
from riseml.cri import payload

ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin"}

needs_shim = pytest.mark.skipif(
    not SHIM_PROGRAM.exists(), reason="the shim is not built: run `make shim`"
)


class Node:
    """A supervisor and the events it told of."""

    def __init__(self, root: Path, **options: object) -> None:
        self.root = root
        self.events: list[Event] = []
        self.told = asyncio.Event()
        self.supervisor = Supervisor(
            root,
            self._on_event,
            **options,  # type: ignore[arg-type]
        )

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
        self.told.set()

    def start(
        self,
        *argv: str,
        attempt_id: str = "ana.1.train.1-1",
        env: Mapping[str, str] = ENV,
        **rest: object,
    ) -> AttemptDir:
        request = LaunchRequest(attempt_id, argv, env, **rest)  # type: ignore[arg-type]
        return self.supervisor.start(request).directory

    def shell(self, script: str, **rest: object) -> AttemptDir:
        return self.start("sh", "-c", script, **rest)  # type: ignore[arg-type]

    async def event(self, kind: type[Event], attempt_id: str = "ana.1.train.1-1") -> Event:
        async with asyncio.timeout(20):
            while True:
                for event in self.events:
                    if isinstance(event, kind) and event.attempt_id == attempt_id:
                        return event
                self.told.clear()
                await self.told.wait()

    async def started(self, attempt_id: str = "ana.1.train.1-1") -> Started:
        event = await self.event(Started, attempt_id)
        assert isinstance(event, Started)
        return event

    async def ended(self, attempt_id: str = "ana.1.train.1-1") -> Ended:
        event = await self.event(Ended, attempt_id)
        assert isinstance(event, Ended)
        return event


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def log_of(directory: AttemptDir) -> bytes:
    segments = sorted(Path(directory.log_directory).glob("*.log"))
    at = 0
    data = b""
    for segment in segments:
        assert int(segment.stem) == at, "a segment is named by the offset of its first byte"
        data += segment.read_bytes()
        at = len(data)
    return data


def output_of(directory: AttemptDir) -> dict[str, bytes]:
    return streams(log_of(directory))


def streams(log: bytes) -> dict[str, bytes]:
    return {"stdout": payload(log, "stdout"), "stderr": payload(log, "stderr")}


def read(*path: str) -> str:
    """A small file's text."""
    return Path(*path).read_text()


def touch(*path: str) -> None:
    Path(*path).touch()


def exists(*path: str) -> bool:
    return Path(*path).exists()


def written(*path: str) -> bool:
    """Whether a file is there and holds something."""
    return Path(*path).exists() and Path(*path).stat().st_size > 0


def segments(directory: AttemptDir) -> list[Path]:
    return sorted(Path(directory.log_directory).iterdir())


@contextlib.asynccontextmanager
async def running_node(root: Path) -> AsyncIterator[Node]:
    """Whatever a test leaves running is killed."""
    node = Node(root)
    yield node
    for running in list(node.supervisor.running.values()):
        if not running.ended:
            node.supervisor.stop(running.directory.attempt_id, 0, "test is over")
    await until(lambda: not node.supervisor.running, "all shims gone")
    await node.supervisor.close()
