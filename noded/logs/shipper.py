"""Ships the logs and results of all attempts over one connection at a time.

One task sends for all streams in turn, a chunk each, so none starves; an idle stream costs nothing.
Bytes count as shipped when the archive has said so; after a reconnect or a restart a stream goes on
from there, and the archive's answers put right whatever we got wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from noded.files import LOCAL_FILES, Files
from noded.logs.tailer import CHUNK_BYTES, LogGone, Tailer
from noded.logs.watch import Watcher
from noded.logs.window import AckWindow
from riseml.masking import Mask

_log = logging.getLogger(__name__)

_SMALL_CHUNK_BYTES: Final = 32 << 10
_GATHER_SECONDS: Final = 0.01
_RETRY_SECONDS: Final = 1.0
_SAVE_SECONDS: Final = 1.0
_COMPLAIN_SECONDS: Final = 60.0
_CONTEXT_BYTES: Final = 64 << 10


class StreamKind(enum.Enum):
    """What of an attempt is shipped."""

    OUTPUT = "output"
    RESULTS = "results"


@dataclass(frozen=True, slots=True)
class AppendRequest:
    """Bytes at an offset. `final`: nothing follows them."""

    attempt_id: str
    kind: StreamKind
    offset: int
    data: bytes
    final: bool


@dataclass(frozen=True, slots=True)
class AppendAnswer:
    """The archive's end after a request. `error`: not stored, to be sent again later. `unknown`:
    nobody wants this stream."""

    attempt_id: str
    kind: StreamKind
    next_offset: int
    error: str = ""
    unknown: bool = False


class AppendTransport(Protocol):
    """A connection. Every request of a stream gets one answer, in order, passed to
    `Shipping.answered`."""

    async def send(self, request: AppendRequest) -> None:
        """Waits while the peer is slow. Whatever it raises ends `Shipping.serve`."""
        ...


@dataclass(frozen=True, slots=True)
class Shipped:
    """A stream is through: all of it is archived, or `problem` says why it never will be."""

    attempt_id: str
    kind: StreamKind
    problem: str = ""


class _Stream:
    """One log or results file on its way."""

    __slots__ = (
        "acked_path", "attempt_id", "done", "final", "kind", "mask", "queued", "resting",
        "saved", "saved_at", "tailer", "unwatch", "window",
    )  # fmt: skip

    def __init__(
        self, attempt_id: str, kind: StreamKind, tailer: Tailer, mask: Mask, acked_path: str
    ) -> None:
        self.attempt_id = attempt_id
        self.kind = kind
        self.tailer = tailer
        self.mask = mask
        self.acked_path = acked_path
        self.window = AckWindow()
        self.final: int | None = None
        self.queued = False
        self.resting = False
        self.done = False
        self.saved = 0
        self.saved_at = 0.0
        self.unwatch: Callable[[], None] = lambda: None

    def next_chunk(self) -> bytes:
        """What may be sent at `window.sent`. Raises LogGone or OSError."""
        offset, ended = self.window.sent, self.final is not None
        rewound = self.window.take_rewound()
        if not self.mask:
            return self._bounded(self.tailer.read(offset, ended=ended), offset)
        if rewound:
            self.mask.restart()
            if self.kind is StreamKind.OUTPUT and offset > 0:
                return self._with_context(offset, ended)
        data = self._bounded(self.tailer.read(offset, ended=ended), offset)
        last = self.final is not None and offset + len(data) >= self.final
        if self.kind is StreamKind.RESULTS:
            whole_lines = len(data) if last else data.rfind(b"\n") + 1
            return self.mask.raw(data[:whole_lines] if whole_lines else data)
        return self.mask.log(data, must_move=len(data) > CHUNK_BYTES // 2, ended=last)

    def _with_context(self, offset: int, ended: bool) -> bytes:
        """After a rewind to any offset: masks from some lines before it, then takes the rest."""
        start = max(0, offset - _CONTEXT_BYTES)
        try:
            before = self.tailer.read(start, ended=True)
        except LogGone as gone:
            start = gone.next_offset
            if start > offset:
                raise
            before = self.tailer.read(start, ended=True)
        if start > 0:
            start += before.find(b"\n") + 1
        data = self._bounded(self.tailer.read(start, ended=ended), start)
        masked = self.mask.log(data, must_move=True, ended=ended)[offset - start :]
        self.window.rewound = not masked
        return masked

    def _bounded(self, data: bytes, offset: int) -> bytes:
        """A background process of the job can't add to what was counted as all."""
        return data if self.final is None else data[: max(0, self.final - offset)]


class Shipping:
    """All streams of a node. Call everything in the loop's thread."""

    def __init__(
        self, watcher: Watcher, on_shipped: Callable[[Shipped], None], files: Files = LOCAL_FILES
    ) -> None:
        self._watcher = watcher
        self._on_shipped = on_shipped
        self._files = files
        self._streams: dict[tuple[str, StreamKind], _Stream] = {}
        self._ready: deque[_Stream] = deque()
        self._work = asyncio.Event()
        self._connected = False
        self._complained_at = -_COMPLAIN_SECONDS
        self._loop = asyncio.get_running_loop()

    # ---- what is shipped ----

    def open(
        self,
        attempt_id: str,
        kind: StreamKind,
        tailer: Tailer,
        *,
        watch_path: str,
        acked_path: str,
        mask: Mask | None = None,
    ) -> None:
        """Begins to follow a stream, from where an earlier run of the daemon was acknowledged.
        `watch_path`: the folder or file that grows. Twice the same: the second is ignored."""
        if (attempt_id, kind) in self._streams:
            return
        stream = _Stream(attempt_id, kind, tailer, mask or Mask(()), acked_path)
        stream.window.acked = stream.window.sent = stream.saved = _read_acked(acked_path)
        stream.window.rewound = stream.saved > 0
        self._streams[attempt_id, kind] = stream
        stream.unwatch = self._watcher.add(watch_path, lambda: self._wake(stream))
        self._wake(stream)

    def end(self, attempt_id: str, kind: StreamKind, final_offset: int) -> None:
        """Nothing is added any more; the stream is this long."""
        stream = self._streams.get((attempt_id, kind))
        if stream is None:
            return
        stream.final = final_offset
        stream.resting = False
        if final_offset == 0:
            self._finish(stream, "")
        else:
            self._wake(stream)

    def drop(self, attempt_id: str) -> None:
        """Stops following; nothing is told."""
        for kind in StreamKind:
            stream = self._streams.get((attempt_id, kind))
            if stream is not None:
                self._forget(stream)

    def acked(self, attempt_id: str, kind: StreamKind) -> int:
        """How far the archive has it; 0 for a stream that is not followed."""
        stream = self._streams.get((attempt_id, kind))
        return stream.window.acked if stream is not None else 0

    def close(self) -> None:
        """Saves how far each stream is, for the next daemon."""
        for stream in list(self._streams.values()):
            self._save(stream)
            self._forget(stream)

    # ---- a connection ----

    async def serve(self, transport: AppendTransport) -> None:
        """Sends over this connection until it fails: raises what `transport.send` raises."""
        for stream in self._streams.values():
            stream.window.disconnected()
        self._connected = True
        for stream in self._streams.values():
            self._wake(stream)
        try:
            while True:
                while not self._ready:
                    self._work.clear()
                    await self._work.wait()
                stream = self._ready.popleft()
                stream.queued = False
                request = self._next_request(stream)
                if request is not None:
                    await transport.send(request)
        finally:
            self._connected = False
            self._ready.clear()
            for stream in self._streams.values():
                stream.queued = False
                stream.window.disconnected()

    def answered(self, answer: AppendAnswer) -> None:
        """Takes an answer from the connection."""
        stream = self._streams.get((answer.attempt_id, answer.kind))
        if stream is None:
            return
        if answer.unknown:
            self._finish(stream, "the control plane does not know this attempt")
            return
        before = stream.window.acked
        stream.window.answer(answer.next_offset, error=bool(answer.error))
        if stream.window.acked > before:
            self._saved_or_released(stream)
        if stream.window.final_acked:
            self._finish(stream, "")
        elif answer.error:
            self._complain(answer)
            self._rest(stream, _RETRY_SECONDS)
        else:
            self._wake(stream)

    def _complain(self, answer: AppendAnswer) -> None:
        """All streams fail alike when a disk is full: one of them says so, now and then."""
        now = self._loop.time()
        if now - self._complained_at >= _COMPLAIN_SECONDS:
            self._complained_at = now
            _log.warning("log of %s not stored yet: %s", answer.attempt_id, answer.error)

    # ---- one stream's turn ----

    def _wake(self, stream: _Stream) -> None:
        if self._connected and not stream.queued and not stream.resting and not stream.done:
            stream.queued = True
            self._ready.append(stream)
            self._work.set()

    def _rest(self, stream: _Stream, seconds: float) -> None:
        if not stream.resting:
            stream.resting = True
            self._loop.call_later(seconds, self._rested, stream)

    def _rested(self, stream: _Stream) -> None:
        stream.resting = False
        self._wake(stream)

    def _next_request(self, stream: _Stream) -> AppendRequest | None:
        window = stream.window
        if stream.done or not window.room():
            return None
        offset = window.sent
        try:
            data = stream.next_chunk()
        except LogGone as gone:
            self._finish(stream, str(gone))
            return None
        except OSError as error:
            _log.warning("log of %s can't be read now: %s", stream.attempt_id, error)
            self._rest(stream, _RETRY_SECONDS)
            return None
        final = stream.final is not None and offset + len(data) >= stream.final
        if not data and not (final and window.in_flight == 0):
            if stream.final is not None and window.in_flight == 0:
                self._shorter_than_told(stream)
            return None
        window.send(len(data), final=final)
        if len(data) >= _SMALL_CHUNK_BYTES:
            self._wake(stream)
        elif not final:
            self._rest(
                stream, _GATHER_SECONDS
            )  # let lines gather: a message costs more than a line
        return AppendRequest(stream.attempt_id, stream.kind, offset, data, final)

    def _shorter_than_told(self, stream: _Stream) -> None:
        """After a crash of the machine a file may be shorter than the archive or the status say."""
        size = stream.tailer.size()
        if size <= stream.window.sent:
            stream.final = stream.window.sent
            self._wake(stream)
        else:
            self._rest(stream, _RETRY_SECONDS)

    # ---- bookkeeping ----

    def _saved_or_released(self, stream: _Stream) -> None:
        now = self._loop.time()
        if now - stream.saved_at < _SAVE_SECONDS:
            return
        stream.saved_at = now
        self._save(stream)
        if stream.saved == stream.window.acked:  # else a restart would look for what is gone
            with contextlib.suppress(OSError):  # tried again with the next acknowledgement
                stream.tailer.release(stream.saved)

    def _save(self, stream: _Stream) -> None:
        if stream.window.acked == stream.saved or stream.done:
            return
        try:
            text = b"%d\n" % stream.window.acked
            self._files.write_atomic(stream.acked_path, text, durable=False)
            stream.saved = stream.window.acked
        except OSError as error:  # only means that more is sent twice after a restart
            _log.warning("%s: %s", stream.acked_path, error)

    def _finish(self, stream: _Stream, problem: str) -> None:
        if stream.done:
            return
        stream.done = True
        self._forget(stream)
        self._on_shipped(Shipped(stream.attempt_id, stream.kind, problem))

    def _forget(self, stream: _Stream) -> None:
        stream.done = True
        self._streams.pop((stream.attempt_id, stream.kind), None)
        stream.unwatch()
        stream.tailer.close()


def _read_acked(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return max(0, int(file.read(32)))
    except (FileNotFoundError, ValueError):
        return 0
