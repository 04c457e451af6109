"""A command line whose streams are in memory, on a fake cluster."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from riseml.client import Client
from shell.context import Context
from shell.run import run_words
from tests.unit.sdk.fake_cluster import FakeCluster
from tests.unit.sdk.fake_services import client_of, serving


class Terminal(io.StringIO):
    """A stream in memory that a person seems to sit at."""

    def isatty(self) -> bool:
        return True


@dataclass
class CommandLine:
    """Runs commands and keeps what they print."""

    context: Context
    folder: Path

    def run(self, *words: str) -> int:
        for stream in (self.context.stdout, self.context.stderr):
            assert isinstance(stream, io.StringIO)
            stream.seek(0)
            stream.truncate()
        return run_words(words, self.context)

    @property
    def out(self) -> str:
        assert isinstance(self.context.stdout, io.StringIO)
        return self.context.stdout.getvalue()

    @property
    def err(self) -> str:
        assert isinstance(self.context.stderr, io.StringIO)
        return self.context.stderr.getvalue()

    def at_terminal(self, answer: str = "") -> None:
        """From now on a person reads, and types this."""
        self.context.stdout, self.context.stderr = Terminal(), Terminal()
        self.context.stdin = Terminal(answer)


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def address(cluster: FakeCluster) -> Iterator[str]:
    with serving(cluster) as found:
        yield found


@pytest.fixture
def line(address: str, tmp_path: Path) -> Iterator[CommandLine]:
    def connect(environ: object) -> Client:
        return client_of(address)

    folder = tmp_path / "digits"
    folder.mkdir()
    environ = {
        "RISEML_CONFIG_DIR": str(tmp_path / "config"),
        "RISEML_CACHE_DIR": str(tmp_path / "cache"),
        "TERM": "xterm",
    }
    context = Context(io.StringIO(), io.StringIO(), io.StringIO(), environ, folder, connect=connect)
    yield CommandLine(context, folder)
    context.disconnect()
