from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from noded.config import load
from noded.daemon import Daemon
from riseml.v1 import daemon_pb2
from tests.integration.noded.fake_control_plane import TOKEN, FakeControlPlane

USER = "ana"


class RunningDaemon:
    """A daemon in this process, to be stopped and started like one of its own."""

    def __init__(self, control_plane: FakeControlPlane, home: Path) -> None:
        self.control_plane = control_plane
        self.home = home
        self.node = home / "node" / "n1"
        self.outcome: asyncio.Future[None] | None = None
        self._daemon: Daemon | None = None

    async def start(self, *more: str) -> None:
        arguments = ["--server", f"127.0.0.1:{self.control_plane.port}", *more]
        arguments += ["--token-file", str(self.home / "token"), "--home", str(self.home)]
        if os.getuid() != 0:
            arguments += ["--only-user", USER]
        self._daemon = Daemon(load(arguments, {}))
        self.outcome = asyncio.ensure_future(self._daemon.run())

    async def connected(self, *more: str) -> None:
        greetings = len(self.control_plane.hellos)
        await self.start(*more)
        await self.control_plane.until(lambda: len(self.control_plane.hellos) > greetings)

    async def stop(self) -> None:
        if self.outcome is not None and self._daemon is not None:
            self.outcome.cancel()
            with suppress(asyncio.CancelledError, ExceptionGroup):
                await self.outcome
            await self._daemon.close()
            self.outcome = self._daemon = None


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that other uids can pass through."""
    path = Path(tempfile.mkdtemp(prefix="riseml-noded-"))
    os.chmod(path, 0o711)
    (path / "token").write_text(json.dumps({"node_name": "n1", "token": TOKEN}))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
async def control_plane() -> AsyncIterator[FakeControlPlane]:
    made = FakeControlPlane()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def daemon(control_plane: FakeControlPlane, home: Path) -> AsyncIterator[RunningDaemon]:
    made = RunningDaemon(control_plane, home)
    yield made
    for attempt_id in control_plane.desired:
        control_plane.send_stop(attempt_id, grace_ms=0)
    with suppress(TimeoutError):
        await control_plane.until(lambda: not control_plane.desired, 5)
    await made.stop()


MakeOrder = Callable[..., daemon_pb2.AttemptOrder]


@pytest.fixture
def make_order() -> MakeOrder:
    """Orders of experiment `number`."""

    def make(number: int, *run: str, **fields: object) -> daemon_pb2.AttemptOrder:
        order = daemon_pb2.AttemptOrder(
            attempt_id=f"{USER}.{number}.train.1-1",
            job_id=f"{USER}.{number}.train.1",
            experiment_id=f"{USER}.{number}",
            user_name=USER,
            project="digits",
            generation=1,
            run=run,
            cpu_milli=1000,
            memory_bytes=1 << 30,
            grace_period_milliseconds=3000,
            job_type="train",
            job_number=1,
            output_path=f"{USER}/digits/{number}",
        )
        order.MergeFrom(daemon_pb2.AttemptOrder(**fields))  # type: ignore[arg-type]
        return order

    return make


def text_of(log: bytes) -> str:
    """What a job wrote, from its log."""
    written = b""
    for line in log.split(b"\n")[:-1]:
        _, _, flag, text = line.split(b" ", 3)
        written += text + (b"\n" if flag == b"F" else b"")
    return written.decode()


async def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """For what nobody tells us of: looks until it holds."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)
