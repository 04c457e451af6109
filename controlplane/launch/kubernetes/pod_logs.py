"""Follows a container's log into the archive.

Each line is archived once, through broken connections, restarts of the control plane, a change of
the source and, as far as that goes, rotations; `log_position.py` says how, and what cannot be had.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from controlplane.launch.kubernetes.api import ApiError
from controlplane.launch.kubernetes.log_position import LogPosition, LogStream
from controlplane.launch.kubernetes.log_sources import ContainerLog, LogSource
from riseml.retry import Backoff

Append: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Adds bytes to a log at the caller's own offset; returns when they are archived. What it raises
ends the follower, which then has to be made anew from the archive's tail."""

PAUSES: Final = Backoff(first_seconds=0.2, most_seconds=5.0, tries=sys.maxsize)
TRIES_AFTER_END: Final = 8
"""How often in a row the rest of an ended container's log may fail to come, about half a minute."""


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Nothing more comes."""

    appended_bytes: int
    """What this follower added."""
    missing: str
    """Why the rest could not be read; empty when all was."""


class PodLogFollower:
    """The log of one container."""

    def __init__(
        self,
        source: LogSource,
        log: ContainerLog,
        append: Append,
        *,
        pod_gone: Callable[[], bool] = lambda: False,
        position: LogPosition | None = None,
        pauses: Backoff = PAUSES,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        """`pod_gone`: there is no such pod any more. `position` is that of the archive's tail
        (`read_tail`)."""
        self._source = source
        self._log = log
        self._append = append
        self._pod_gone = pod_gone
        self._position = position or LogPosition()
        self._backoff = pauses
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._appended_bytes = 0
        self._pauses = self._backoff.pauses(self._rng)

    async def follow(self) -> LogEnd:
        """Returns when a stream that was opened after the container's end has ended."""
        failures = 0
        while True:
            ended = self._log.ended.is_set()
            try:
                await self._read_stream(last=ended)
            except ApiError as error:
                failures += ended
                # 400: no such container has started. 404: its pod is gone, unless that is the word
                # of a kubelet that has just begun. Else its node may be away for a moment.
                hopeless = error.status == 400 or (error.status == 404 and self._pod_gone())
                if ended and (hopeless or failures >= TRIES_AFTER_END):
                    return LogEnd(self._appended_bytes, error.message)
            else:
                failures = 0
                if ended:
                    return LogEnd(self._appended_bytes, "")
            await self._sleep(next(self._pauses))

    async def _read_stream(self, *, last: bool) -> None:
        stream = LogStream(self._position)
        since_time = self._position.since_time
        async with self._source.read(self._log, since_time, to_end=last) as chunks:
            async for chunk in chunks:
                await self._put(stream.feed(chunk))
        if last:
            await self._put(stream.finish())

    async def _put(self, lines: bytes) -> None:
        if lines:
            await self._append(lines)
            self._appended_bytes += len(lines)
            self._pauses = self._backoff.pauses(self._rng)


def mending(append: Append, broken: bytes) -> Append:
    """Completes a log that ends within a line (`ArchiveTail.broken`) before it is added to.

    The line comes again from the API and is formatted as before, so its rest is what follows the
    part that is there. Should another line come first, the broken one is ended as it is.
    """

    async def append_rest(lines: bytes) -> None:
        nonlocal broken
        if broken:
            lines = lines[len(broken) :] if lines.startswith(broken) else b"\n" + lines
            broken = b""
        await append(lines)

    return append_rest if broken else append


class InstallSplit:
    """Sends what comes before a marker line to one log, and what comes after it to another.

    The marker line ends the install output, so that its archive tells by its last line whether it
    was passed (`passed`). It may stand at the end of output that lacked a newline, or of the trace
    of a shell under `set -x`; the true marker line after such a trace is left out of the run too.
    """

    def __init__(self, marker: str, *, last_install_text: bytes = b"") -> None:
        self._marker = marker.encode()
        self.passed = last_install_text.endswith(self._marker)
        self._just_passed = self.passed

    def split(self, lines: bytes) -> tuple[bytes, bytes]:
        """Install output and the rest, out of whole lines."""
        if not self._just_passed and (self.passed or self._marker not in lines):
            return (b"", lines) if self.passed else (lines, b"")
        at = 0
        for line in lines.removesuffix(b"\n").split(b"\n"):
            if self.passed:
                self._just_passed = False
                if line.endswith(b" F " + self._marker):
                    at += len(line) + 1
                break
            at += len(line) + 1
            if line.endswith(self._marker):
                self.passed = self._just_passed = True
        return lines[:at], lines[at:]
