"""The output of jobs as it comes over the wire: raw bytes at offsets, through lost connections.

A reader that was cut off asks again from where it stopped, so nothing is missed and nothing comes
twice. ``riseml.log_merge`` makes lines of it, ``riseml.follow`` a whole experiment with its states.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from riseml.errors import RisemlError, Unavailable
from riseml.retry import STREAM, Backoff
from riseml.transport import AnswerStream
from riseml.v1 import log_service_pb2 as pb

if TYPE_CHECKING:
    from riseml.client import Client


@dataclass(frozen=True, slots=True)
class LogBytes:
    """The next bytes of one attempt's log, in CRI format; they follow what came before."""

    attempt_id: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Nothing more comes for this attempt."""

    attempt_id: str
    final_offset: int
    """-1 when it is not known."""
    node_lost: bool
    """The log may go on when the node comes back."""


@dataclass(frozen=True, slots=True)
class LogHole:
    """A range that is gone for good."""

    attempt_id: str
    offset: int
    length_bytes: int
    reason: str


LogRecord: TypeAlias = LogBytes | LogEnd | LogHole


class LogReader:
    """Reads the logs of an experiment, job type, job or attempt. Iterate it once; raises
    RisemlError.
    """

    def __init__(
        self,
        client: Client,
        id: str,
        *,
        follow: bool = False,
        tail_lines: int = 0,
        since_ns: int = 0,
        cursors: Mapping[str, int] | None = None,
        backoff: Backoff = STREAM,
        sleep: Callable[[float], None] = time.sleep,
        on_lost: Callable[[RisemlError], None] | None = None,
    ) -> None:
        """``on_lost`` hears of each lost connection before it is tried again."""
        self._client = client
        self._id = id
        self._follow = follow
        self._tail_lines = tail_lines
        self._since = _timestamp(since_ns) if since_ns else None
        self._ended: set[str] = set()
        self._backoff = backoff
        self._sleep = sleep
        self._on_lost = on_lost or (lambda _: None)
        self._stream: AnswerStream[pb.TailLogsResponse] | None = None
        self._cancelled = False
        self.cursors: dict[str, int] = dict(cursors or {})
        """How far each attempt was read; give them to another reader to go on from here."""

    def cancel(self) -> None:
        """End the iteration, from any thread."""
        self._cancelled = True
        if self._stream is not None:
            self._stream.cancel()

    def __iter__(self) -> Iterator[LogRecord]:
        pauses = self._backoff.pauses()
        while not self._cancelled:
            try:
                for record in self._read_once():
                    pauses = self._backoff.pauses()
                    yield record
                return
            except Unavailable as error:
                pause = next(pauses, None)
                if pause is None:
                    raise
                self._on_lost(error)
            # Attempts that begin from now on are wanted whole, not only their last lines.
            self._tail_lines = 0
            self._sleep(pause)

    def _read_once(self) -> Iterator[LogRecord]:
        self._stream = self._client.logs.tail(
            self._id,
            cursors=self.cursors,
            follow=self._follow,
            tail_lines=self._tail_lines,
            since=self._since,
        )
        if self._cancelled:
            self._stream.cancel()
        for answer in self._stream:
            yield from self._records(answer)

    def _records(self, answer: pb.TailLogsResponse) -> Iterator[LogRecord]:
        attempt_id = answer.attempt_id
        kind = answer.WhichOneof("record")
        if kind == "chunk":
            offset, data = answer.chunk.offset, answer.chunk.data
            have = self.cursors.get(attempt_id, offset)
            if offset > have:
                yield self._hole(attempt_id, have, offset - have, "the server left it out")
                have = offset
            if fresh := data[have - offset :]:
                self.cursors[attempt_id] = have + len(fresh)
                yield LogBytes(attempt_id, have, fresh)
        elif kind == "gap":
            have = self.cursors.get(attempt_id, answer.gap.offset)
            end = answer.gap.offset + answer.gap.length_bytes
            if end > have:
                yield self._hole(attempt_id, have, end - have, answer.gap.reason)
        elif kind == "eof" and attempt_id not in self._ended:
            self._ended.add(attempt_id)
            yield LogEnd(attempt_id, answer.eof.final_offset, answer.eof.node_lost)

    def _hole(self, attempt_id: str, offset: int, length_bytes: int, reason: str) -> LogHole:
        self.cursors[attempt_id] = offset + length_bytes
        return LogHole(attempt_id, offset, length_bytes, reason)


def _timestamp(time_ns: int) -> Timestamp:
    seconds, nanos = divmod(time_ns, 10**9)
    return Timestamp(seconds=seconds, nanos=nanos)
