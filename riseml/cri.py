"""Log lines in the format of the Kubernetes container runtimes, between bytes and values.

A line is ``2026-11-23T20:00:00.123456789Z stdout F text\\n``: time, stream, ``F`` for a full line
or ``P`` for a partial one (longer than 16 KiB, or an end of output without a newline), text. Texts
with a newline after each ``F`` are exactly the bytes that the job wrote (KEP "CRI log format",
https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md). Times
are nanoseconds since 1970, UTC; runtimes may write fewer digits and other zones.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

MAX_TEXT_BYTES: Final = 16 * 1024
"""Texts that we write are at most so long; longer lines become partial ones."""

MAX_LINE_BYTES: Final = 1 << 20
"""A decoder holds back at most so much while it waits for the end of a line."""

Stream: TypeAlias = Literal["stdout", "stderr"]

_LINE: Final = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d) "
    rb"(stdout|stderr) ([FP])(?::[^ ]*)? (.*)",
    re.DOTALL,
)
# Nearly every line looks so; one call of this reads a whole chunk. Only times in UTC.
_USUAL_LINES: Final = re.compile(
    rb"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{1,9})Z (std(?:out|err) [FP]) (.*)\n", re.MULTILINE
)
_PARTIAL: Final = {b"F": False, b"P": True}
_STREAMS: Final[dict[bytes, Stream]] = {b"stdout": "stdout", b"stderr": "stderr"}
_KINDS: Final[dict[bytes, tuple[Stream, bool]]] = {
    b"stdout F": ("stdout", False),
    b"stdout P": ("stdout", True),
    b"stderr F": ("stderr", False),
    b"stderr P": ("stderr", True),
}
# A decoder takes its input in pieces of this size, for the processor's caches.
_PIECE_BYTES: Final = 128 * 1024


class CriLine(NamedTuple):
    """One line of a log."""

    time_ns: int
    stream: Stream
    partial: bool
    """No newline follows the text in the job's output."""
    text: bytes


class InvalidCriLine(ValueError):
    """Bytes that are no line of a CRI log."""


def parse_line(line: bytes) -> CriLine:
    """Read one line, with or without its newline. Raises InvalidCriLine."""
    match = _LINE.fullmatch(line.removesuffix(b"\n"))
    if match is None:
        raise InvalidCriLine(f"no line of a CRI log: {line[:80]!r}")
    second, fraction, zone, stream, flag, text = match.groups()
    try:
        time_ns = _second_ns(second)
    except ValueError as error:
        raise InvalidCriLine(f"no time: {second!r}") from error
    if fraction is not None:
        time_ns += int(fraction[1:].ljust(9, b"0"))
    if zone != b"Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        time_ns -= (offset if zone[:1] == b"+" else -offset) * 10**9
    return CriLine(time_ns, _STREAMS[stream], _PARTIAL[flag], text)


def format_line(line: CriLine) -> bytes:
    """The bytes of one line, with its newline. The text may hold none and is not split."""
    flag = b"P" if line.partial else b"F"
    return b"%s %s %s %s\n" % (format_time(line.time_ns), line.stream.encode(), flag, line.text)


def format_time(time_ns: int) -> bytes:
    """``2026-11-23T20:00:00.123456789Z``: always in UTC with nine digits, 30 bytes."""
    seconds, nanoseconds = divmod(time_ns, 10**9)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return b"%s.%09dZ" % (text.encode(), nanoseconds)


def encode(time_ns: int, stream: Stream, output: bytes) -> bytes:
    """A job's output as log lines of one moment; a text of more than 16 KiB is split.

    Output that does not end with a newline ends with a partial line, so that ``payload`` of the
    encoded pieces, one after the other, is the output again.
    """
    stamp = b"%s %s " % (format_time(time_ns), stream.encode())
    lines = output.split(b"\n")
    rest = lines.pop()
    pieces = [piece for line in lines for piece in _split(stamp, line, b"F")]
    if rest:
        pieces += _split(stamp, rest, b"P")
    return b"".join(pieces)


def _split(stamp: bytes, text: bytes, last_flag: bytes) -> Iterator[bytes]:
    while len(text) > MAX_TEXT_BYTES:
        yield b"%sP %s\n" % (stamp, text[:MAX_TEXT_BYTES])
        text = text[MAX_TEXT_BYTES:]
    yield b"%s%s %s\n" % (stamp, last_flag, text)


class CriDecoder:
    """Lines out of a log's bytes that come in chunks with any boundaries.

    Nothing is dropped: bytes that are no line of a CRI log, such as the second half of one after a
    gap, come out as a full line of standard output at the time of the line before (0 at first).
    """

    __slots__ = ("_held", "_last_time_ns")

    def __init__(self) -> None:
        self._held = b""
        self._last_time_ns = 0

    @property
    def held_bytes(self) -> int:
        """How many bytes wait for the end of their line."""
        return len(self._held)

    def feed(self, chunk: bytes) -> list[CriLine]:
        """The lines that this chunk completes."""
        if len(chunk) <= _PIECE_BYTES:
            return self._feed_piece(chunk)
        lines: list[CriLine] = []
        for start in range(0, len(chunk), _PIECE_BYTES):
            lines += self._feed_piece(chunk[start : start + _PIECE_BYTES])
        return lines

    def finish(self) -> list[CriLine]:
        """What is held back, as far as it goes; afterwards the decoder can begin another log."""
        held, self._held = self._held, b""
        return [self._any_line(held)] if held else []

    def _feed_piece(self, piece: bytes) -> list[CriLine]:
        data = self._held + piece
        end = data.rfind(b"\n") + 1
        self._held = data[end:]
        decoded = self._lines(data[:end]) if end else []
        return decoded + self.finish() if len(self._held) > MAX_LINE_BYTES else decoded

    def _lines(self, data: bytes) -> list[CriLine]:
        usual = _USUAL_LINES.findall(data)
        if len(usual) < data.count(b"\n"):
            return [self._any_line(line) for line in data[:-1].split(b"\n")]
        decoded: list[CriLine] = []
        add, make, kinds = decoded.append, tuple.__new__, _KINDS
        last_second, second_ns, time_ns = b"", 0, 0
        for second, fraction, kind, text in usual:
            if second != last_second:
                try:
                    second_ns = _second_ns(second)
                except ValueError:
                    return [self._any_line(line) for line in data[:-1].split(b"\n")]
                last_second = second
            stream, partial = kinds[kind]
            time_ns = second_ns + int(fraction if len(fraction) == 9 else fraction.ljust(9, b"0"))
            add(make(CriLine, (time_ns, stream, partial, text)))
        self._last_time_ns = time_ns
        return decoded

    def _any_line(self, line: bytes) -> CriLine:
        try:
            parsed = parse_line(line)
        except InvalidCriLine:
            return CriLine(self._last_time_ns, "stdout", False, line)
        self._last_time_ns = parsed.time_ns
        return parsed


def payload(log: bytes, stream: Stream | None = None) -> bytes:
    """The job's output from its log: both streams in the order written, or one of them.

    A log that ends within a line is read as far as it goes.
    """
    decoder = CriDecoder()
    lines = decoder.feed(log) + decoder.finish()
    return b"".join(
        line.text if line.partial else line.text + b"\n"
        for line in lines
        if stream is None or line.stream == stream
    )


@lru_cache(maxsize=64)
def _second_ns(text: bytes) -> int:
    """Nanoseconds of ``2026-11-23T20:00:00``. Raises ValueError for a day or hour that is none."""
    moment = datetime.strptime(text.decode(), "%Y-%m-%dT%H:%M:%S")
    return timegm(moment.timetuple()) * 10**9
