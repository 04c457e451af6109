"""From the lines of one container's log to where they are kept: install output apart from the run,
results apart from output, secrets masked, each byte once.

    LogStream -> InstallSplit -> build's log
                              -> ResultSplit -> attempt's log
                                             -> attempt's results
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from controlplane.launch.kubernetes.log_position import ArchiveTail, LogPosition, read_tail
from controlplane.launch.kubernetes.pod_logs import Append, InstallSplit, mending
from controlplane.launch.kubernetes.ports import LogKind, LogSink
from controlplane.launch.kubernetes.result_split import ResultSplit
from riseml import cri
from riseml.masking import Mask

_READ_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 256 * 1024
"""What is appended at once; the mask holds back at most this much of a line that has not ended."""


@dataclass(frozen=True, slots=True)
class LogNames:
    """Whose log it is, and what the lines are that the supervisor in the container adds."""

    attempt_id: str
    build_attempt_id: str
    """"" without install steps."""
    install_marker: str
    result_marker: str


class LogPipe:
    """Made by `open_pipe`; `append` takes whole lines in the log's format, in order."""

    def __init__(
        self,
        position: LogPosition,
        install: InstallSplit | None,
        run: Outlet,
        build: Outlet | None,
        results: ResultSplit,
        results_outlet: _Results,
        installed_at: float | None,
        on_installed: Callable[[], None],
    ) -> None:
        self.position = position
        self.installed_at = installed_at
        """Seconds since the epoch at which the install steps were through; None: they are not."""
        self._install = install
        self._run = run
        self._build = build
        self._results = results
        self._results_outlet = results_outlet
        self._on_installed = on_installed

    async def append(self, lines: bytes) -> None:
        """Returns when the lines are archived, but for what could be the beginning of a secret."""
        if self._install is None or self._build is None:
            await self._put_run(lines)
            return
        passed = self._install.passed
        install_lines, run_lines = self._install.split(lines)
        if install_lines:
            await self._build.put(install_lines)
        if self._install.passed and not passed:
            await self._build.flush()
            self.installed_at = _last_time(install_lines)
            self._on_installed()
        if run_lines:
            await self._put_run(run_lines)

    async def close(self) -> None:
        """The container's log has ended."""
        if self._build is not None:
            await self._build.flush()
        await self._run.flush()

    async def _put_run(self, lines: bytes) -> None:
        output, results = self._results.split(lines)
        if output:
            await self._run.put(output)
        if results:
            await self._results_outlet.put(results)


class Outlet:
    """One log in the archive, with the end that it has."""

    def __init__(self, sink: LogSink, attempt_id: str, mask: Mask, broken: bytes = b"") -> None:
        self._sink = sink
        self._attempt_id = attempt_id
        self._mask = mask
        self._held = b""
        self._archive: Append = mending(self._append, broken)

    async def put(self, lines: bytes) -> None:
        self._held += lines
        while self._held:
            chunk = self._held[:_CHUNK_BYTES]
            whole = chunk if len(chunk) == len(self._held) else chunk[: chunk.rfind(b"\n") + 1]
            masked = self._mask.log(whole or chunk, must_move=len(chunk) == _CHUNK_BYTES)
            if not masked:
                return
            self._held = self._held[len(masked) :]
            await self._archive(masked)

    async def flush(self) -> None:
        if self._held:
            masked, self._held = self._mask.log(self._held, ended=True), b""
            await self._archive(masked)

    async def _append(self, lines: bytes) -> None:
        end = self._sink.end(self._attempt_id, LogKind.OUTPUT)
        await self._sink.append(self._attempt_id, LogKind.OUTPUT, end, lines)


class _Results:
    def __init__(self, sink: LogSink, attempt_id: str, mask: Mask) -> None:
        self._sink = sink
        self._attempt_id = attempt_id
        self._mask = mask

    async def put(self, results: bytes) -> None:
        end = self._sink.end(self._attempt_id, LogKind.RESULTS)
        await self._sink.append(self._attempt_id, LogKind.RESULTS, end, self._mask.raw(results))


async def open_pipe(
    sink: LogSink, names: LogNames, secrets: tuple[str, ...], on_installed: Callable[[], None]
) -> LogPipe:
    """Goes on where the archive ends. Nobody else may append to these logs meanwhile. `secrets`:
    values that nobody may read in them."""
    position = LogPosition()
    install = build = installed_at = None
    if names.build_attempt_id:
        tail = await asyncio.to_thread(_tail, sink, names.build_attempt_id, None)
        position = tail.position
        build = Outlet(sink, names.build_attempt_id, Mask(secrets), tail.broken)
        install = InstallSplit(names.install_marker, last_install_text=tail.last_text)
        if install.passed:
            installed_at = tail.position.last_time
    tail = await asyncio.to_thread(_tail, sink, names.attempt_id, position)
    archived = await asyncio.to_thread(_count_results, sink, names.attempt_id)
    return LogPipe(
        tail.position,
        install,
        Outlet(sink, names.attempt_id, Mask(secrets), tail.broken),
        build,
        ResultSplit(names.result_marker, archived),
        _Results(sink, names.attempt_id, Mask(secrets)),
        installed_at,
        on_installed,
    )


def _tail(sink: LogSink, attempt_id: str, after: LogPosition | None) -> ArchiveTail:
    def read(offset: int, length: int) -> bytes:
        return sink.read(attempt_id, LogKind.OUTPUT, offset, length)

    return read_tail(read, sink.end(attempt_id, LogKind.OUTPUT), after)


def _count_results(sink: LogSink, attempt_id: str) -> int:
    count, at, end = 0, 0, sink.end(attempt_id, LogKind.RESULTS)
    while at < end:
        data = sink.read(attempt_id, LogKind.RESULTS, at, _READ_BYTES)
        if not data:
            break
        count += data.count(b"\n")
        at += len(data)
    return count


def _last_time(lines: bytes) -> float:
    last = lines.rstrip(b"\n").rpartition(b"\n")[2]
    return cri.parse_line(last).time_ns / 1e9
