"""How shims come to be: forked by a process started for that (see shim/serve.c), or spawned.

The server is a few pages large, so a fork of it is cheaper than a spawn from here, and nothing of
it happens in our loop.

Shims are then not our children: their own notes tell how they are, and the server tells of one
that died before it could say so. Shims do not notice the end of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Final

from noded.errors import StartFailed

log = logging.getLogger(__name__)

_NOTIFY_FD: Final = 3
_SERVER_FD: Final = 4
_ABOVE_ALL_FDS: Final = 10
_ALL_SIGNALS: Final = signal.valid_signals()
_MESSAGE_BYTES: Final = 8192
_REST_SECONDS: Final = 1.0
_ROOM: Final = "-" * 400
"""Where each shim writes its directory, for lists of processes."""


def spawn_shim(program: str, directory: str, notify_fd: int) -> int:
    """A shim as our child; returns its pid. Raises StartFailed; then the intent is taken back.

    A session of its own, so that Ctrl-C does not reach it, and all signals blocked until the shim
    reads them: a stop that comes early is not lost.
    """
    try:
        return os.posix_spawn(
            program,
            ("riseml-shim", directory, str(_NOTIFY_FD)),
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, notify_fd, _NOTIFY_FD)],
            setsid=True,
            setsigmask=_ALL_SIGNALS,
        )
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(directory + "/spec")
        raise StartFailed(
            f"{program}: {error.strerror}; reinstall, the shim is built with the package"
        ) from error


class ShimServer:
    """At most one process. Everything happens in the loop's thread."""

    def __init__(
        self,
        program: str,
        notify_fd: int,
        on_died: Callable[[str, int], None],
        on_lost: Callable[[], None],
    ) -> None:
        """`on_died` hears the directory of a shim that ended without a last word, and with what:
        its exit code, or -signal. `on_lost`: nobody hears of deaths any more."""
        self._program = program
        self._notify_fd = notify_fd
        self._on_died = on_died
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._pid = 0
        self._started_at = -_REST_SECONDS
        self._start()

    @property
    def pid(self) -> int:
        """0: there is none."""
        return self._pid

    def order(self, directory: str) -> bool:
        """Has a shim forked for this attempt. False: nothing was done, start it yourself."""
        if self._socket is None:
            self._start()
        if self._socket is None:
            return False
        try:
            self._socket.send(os.fsencode(directory))
        except OSError:  # it is behind, or gone: that is heard of when its end is read
            return False
        return True

    async def close(self) -> None:
        """What was ordered is still forked."""
        pid = self._pid
        self._let_go()
        if pid:
            with contextlib.suppress(ChildProcessError):
                await asyncio.to_thread(os.waitpid, pid, 0)

    def _start(self) -> None:
        now = time.monotonic()
        if now - self._started_at < _REST_SECONDS:
            return
        self._started_at = now
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            fd = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, _ABOVE_ALL_FDS)
            try:
                self._pid = os.posix_spawn(
                    self._program,
                    ("riseml-shim", "--serve", _ROOM),
                    {},
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, self._notify_fd, _NOTIFY_FD),
                        (os.POSIX_SPAWN_DUP2, fd, _SERVER_FD),
                    ],
                    setsid=True,
                    setsigmask=_ALL_SIGNALS,
                )
            except OSError:  # each start by itself will say why
                ours.close()
                return
            finally:
                os.close(fd)
        ours.setblocking(False)
        self._socket = ours
        self._loop.add_reader(ours.fileno(), self._read)

    def _read(self) -> None:
        while self._socket is not None:
            try:
                message = self._socket.recv(_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._lost()
                return
            word, number, directory = os.fsdecode(message).split(" ", 2)
            code = int(number)
            if word == "refused":
                log.error("no process can be made for %s: %s", directory, os.strerror(code))
            self._on_died(directory, -code if word == "killed" else code)

    def _lost(self) -> None:
        pid = self._pid
        self._let_go()
        log.warning("the process that starts shims ended; it is started anew, and jobs go on")
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        self._on_lost()

    def _let_go(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        self._socket = None
        self._pid = 0
