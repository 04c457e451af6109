"""The folder in which an embedded cluster keeps its state, and the lock on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from riseml.errors import RisemlError
from shell.command import UsageError


class HomeInUse(RisemlError):
    """Another ``riseml up`` has this home."""


def find_home(named: str, environ: Mapping[str, str], *, root: bool) -> Path:
    """``--home`` before RISEML_HOME before the platform's folder for data."""
    chosen = named or environ.get("RISEML_HOME", "")
    if chosen:
        return Path(os.path.abspath(Path(chosen).expanduser()))
    if root:
        return Path("/var/lib/riseml")
    import platformdirs

    return Path(platformdirs.user_data_dir("riseml", appauthor=False))


def node_name(text: str) -> str:
    """A valid node name near any host name: lower case, letters, digits, dashes and dots."""
    near = re.sub(r"[^a-z0-9.-]+", "-", text.lower())[:63]
    return near.strip(".-") or "node"


def own_node_name() -> str:
    """The node name of this machine."""
    return node_name(socket.gethostname())


def plain_host(text: str) -> str:
    """The host of ``--listen``, a name or an address without brackets. Raises UsageError for one
    with a port.
    """
    host = text.removeprefix("[").removesuffix("]")
    if not host or "/" in host or host.count(":") == 1 or ("[" in text) != text.endswith("]"):
        raise UsageError(
            f"--listen {text}: write a host name or an address, and the port with --port."
        )
    return host


def own_addresses() -> list[str]:
    """Addresses under which other machines may reach this one: that of the default route. Sends
    nothing.
    """
    found = []
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with (
            contextlib.suppress(OSError),
            socket.socket(family, socket.SOCK_DGRAM) as probe,
        ):
            probe.connect((target, 9))
            found.append(str(probe.getsockname()[0]))
    return found


class HomeLock:
    """One ``riseml up`` per home; freed by the system however the process ends."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Raises HomeInUse, naming the process that has it."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o755)
        path = self._home / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise HomeInUse(
                f"A cluster with its state in {self._home} is up already (pid {owner}). "
                "Use it, end it with Ctrl-C where it runs, or give this one another --home."
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
