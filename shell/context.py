"""What a command works with: where it prints, whom it asks, and the connection to the cluster."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from shell.command import UsageError

if TYPE_CHECKING:
    from riseml.client import Client


def _is_terminal(stream: TextIO) -> bool:
    return hasattr(stream, "isatty") and stream.isatty()


@dataclass(slots=True)
class Context:
    """One per process: the prompt keeps the connection from command to command."""

    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    folder: Path = field(default_factory=Path.cwd)
    """Where relative paths begin and riseml.yml is looked for."""
    format: str = "table"
    """How data is printed: table, json or csv."""
    debug: bool = False
    at_prompt: bool = False
    """Whether commands come from the interactive prompt."""
    connect: Callable[[Mapping[str, str]], Client] | None = None
    """Makes the connection; the SDK's own way unless given."""
    _client: Client | None = None
    _user: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def client(self) -> Client:
        """The connection, opened at first use. Raises NotLoggedIn."""
        with self._lock:
            if self._client is None:
                if self.connect is None:
                    from riseml.client import connect

                    self._client = connect(self.environ)
                else:
                    self._client = self.connect(self.environ)
            return self._client

    @property
    def user(self) -> str:
        """The caller's name, asked for once."""
        if not self._user:
            self._user = self.client.credentials.user or self.client.users.caller().name
        return self._user

    def disconnect(self) -> None:
        """Close the connection; the next command opens another, with new credentials if they
        changed.
        """
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None
            self._user = ""

    @property
    def out_is_terminal(self) -> bool:
        """Whether a person reads standard output."""
        return _is_terminal(self.stdout)

    @property
    def err_is_terminal(self) -> bool:
        """Whether a person reads standard error: only then spinners and bars."""
        return _is_terminal(self.stderr) and self.environ.get("TERM") != "dumb"

    @property
    def colour(self) -> bool:
        """Whether standard output may be coloured (https://no-color.org)."""
        return (
            self.out_is_terminal
            and not self.environ.get("NO_COLOR")
            and self.environ.get("TERM") != "dumb"
        )

    def out(self, text: str = "") -> None:
        """A line of data."""
        self.stdout.write(f"{text}\n")

    def say(self, text: str) -> None:
        """A message for people; it does not disturb a pipe."""
        self.stdout.flush()
        self.stderr.write(f"{text}\n")
        self.stderr.flush()

    def ask(self, question: str, *, instead: str) -> bool:
        """Whether the person says yes. Raises UsageError where nobody can be asked: ``instead`` is
        what to do.
        """
        if not (_is_terminal(self.stdin) and self.err_is_terminal):
            raise UsageError(f"{question} Nobody can be asked here: {instead}.")
        self.stderr.write(f"{question} [y/N] ")
        self.stderr.flush()
        return self.stdin.readline().strip().lower() in ("y", "yes")

    def ask_secret(self, question: str, *, instead: str) -> str:
        """A text that is not shown while it is typed, or one line of standard input where it is a
        pipe.
        """
        if _is_terminal(self.stdin):
            import getpass

            return getpass.getpass(question, stream=self.stderr).strip()
        text = self.stdin.readline().strip()
        if not text:
            raise UsageError(f"{question.rstrip(': ')} is missing: {instead}.")
        return text
