"""What of a container's log is archived, and which lines that come from the API are new.

The API sends `TIME text` lines: the kubelet joins what the runtime split, keeps the time of a
line's first piece, and mixes both streams (so everything counts as standard output here). A
connection that goes on asks for lines since a whole second, and is sent some again. They are known
by their times in nanoseconds, counted: of lines with equal times as many are dropped as were had.
Order does not matter, for the runtime writes both streams side by side and times may be swapped.

What the API cannot give: lines of a file that was rotated away while nobody read. A line of ours
(on standard error, so it is never counted) says so. What a kubelet passes over by itself when it
goes on to the next file nobody can tell; the daemon of a node passes nothing over. If a node's
clock is set back by seconds and the connection breaks then, lines are repeated rather than lost.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from riseml import cri

_log = logging.getLogger(__name__)

SECOND_NS: Final = 10**9
OVERLAP_SECONDS: Final = 1
"""Asked for beyond the second of the last line, as times of two streams may be swapped."""
REMEMBERED_SECONDS: Final = 3
REMEMBERED_LINES: Final = 200_000
GAP: Final = b"riseml: output may be missing here: the log was rotated while it was not being read"
_TAIL_BYTES: Final = 256 * 1024
_MOST_TAIL_BYTES: Final = 64 * 1024 * 1024
_LONGEST_STAMP: Final = len(b"2026-11-23T20:00:00.123456789+02:00 ")


class LogPosition:
    """The end of what is archived of one container's log."""

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=REMEMBERED_LINES)
        self._last_ns: int | None = None
        self.open_ns = -1
        """The time of the line of which only a beginning is archived; -1: there is none."""
        self.open_bytes = 0
        """How much of its text."""

    @property
    def begun(self) -> bool:
        return self._last_ns is not None

    @property
    def last_time(self) -> float | None:
        """Of the last line that is archived, in seconds since the epoch."""
        return None if self._last_ns is None else self._last_ns / SECOND_NS

    @property
    def since_time(self) -> str:
        """From when to ask for lines (RFC 3339, whole seconds); empty: from the beginning."""
        if self._last_ns is None:
            return ""
        second_ns = (self._last_ns // SECOND_NS - OVERLAP_SECONDS) * SECOND_NS
        return cri.format_time(second_ns)[:19].decode() + "Z"

    def repeatable(self) -> Counter[int]:
        """The times of archived lines that may be sent again, with how many lines have each."""
        return Counter(self._recent)

    def archived(self, time_ns: int, text_bytes: int, *, partial: bool) -> None:
        """A piece of a line, or with `partial` false its end, was archived."""
        self._last_ns = time_ns
        if self.open_ns not in (-1, time_ns):
            # All pieces of a line have one time: that one goes on no more.
            self._recent.append(self.open_ns)
            self.open_ns, self.open_bytes = -1, 0
        if partial:
            self.open_bytes = text_bytes + (self.open_bytes if self.open_ns == time_ns else 0)
            self.open_ns = time_ns
            return
        self.open_ns, self.open_bytes = -1, 0
        self._recent.append(time_ns)
        horizon_ns = time_ns - REMEMBERED_SECONDS * SECOND_NS
        while self._recent[0] < horizon_ns:
            self._recent.popleft()


@dataclass(frozen=True, slots=True)
class ArchiveTail:
    """Where an archived log ends."""

    position: LogPosition
    last_text: bytes
    """Of the last line of standard output."""
    broken: bytes
    """The beginning of a line whose rest a power cut took; see `mending` in `pod_logs.py`."""


def read_tail(
    read: Callable[[int, int], bytes], end: int, after: LogPosition | None = None
) -> ArchiveTail:
    """Finds the position from the archive: `read(offset, length)` reads it, `end` is its length.

    Reads backwards as far as a stream will repeat. `after` is the position of another log that the
    same container began with (install output); it is carried on. Not for the event loop.
    """
    position = after or LogPosition()
    wanted = _TAIL_BYTES
    while True:
        start = max(0, end - wanted)
        tail = read(start, end - start)
        if start > 0:
            tail = tail[tail.find(b"\n") + 1 :]
        whole = tail.rfind(b"\n") + 1
        lines = [line for line in cri.CriDecoder().feed(tail[:whole]) if line.stream == "stdout"]
        reached = lines and lines[0].time_ns < lines[-1].time_ns - REMEMBERED_SECONDS * SECOND_NS
        if start == 0 or reached or wanted >= _MOST_TAIL_BYTES:
            break
        wanted *= 2
    for line in lines:
        position.archived(line.time_ns, len(line.text), partial=line.partial)
    return ArchiveTail(position, lines[-1].text if lines else b"", tail[whole:])


class LogStream:
    """One connection: its bytes in, new lines in the archive's format out.

    Lines are given out when they are whole, or by pieces of 16 KiB; the rest of one that a lost
    connection cut comes again over the next. The position is moved with what is given out.
    """

    def __init__(self, position: LogPosition) -> None:
        self._position = position
        self._repeated = position.repeatable()
        self._open_ns = position.open_ns
        self._gap_possible = position.begun
        self._held = b""
        self._out: list[bytes] = []
        # Of the line that is being read: its time (-1: between lines), and how much of its text
        # is to be passed over; None: all of it.
        self._line_ns = -1
        self._skip: int | None = 0

    def feed(self, chunk: bytes) -> bytes:
        """The new lines that this chunk completes."""
        data, at = self._held + chunk, 0
        while True:
            if self._line_ns < 0:
                begun = self._begin(data, at)
                if begun < 0:
                    break
                at = begun
            newline = data.find(b"\n", at)
            at = self._text(data, at, newline)
            if newline < 0:
                break
            at = newline + 1
            self._line_ns = -1
        self._held = data[at:]
        return self._taken()

    def finish(self) -> bytes:
        """The rest, when the container has ended and the stream too: output without a newline at
        its end is a partial line."""
        if self._line_ns >= 0 and self._skip == 0 and self._held:
            self._put(self._held, partial=True)
        self._held = b""
        return self._taken()

    def _taken(self) -> bytes:
        taken = b"".join(self._out)
        self._out.clear()
        return taken

    def _begin(self, data: bytes, at: int) -> int:
        """Reads the time of a line; returns where its text begins, -1 if that is not there yet."""
        blank = data.find(b" ", at, at + _LONGEST_STAMP)
        newline = data.find(b"\n", at, at + _LONGEST_STAMP)
        if blank < 0 and newline < 0 and len(data) - at < _LONGEST_STAMP:
            return -1
        try:
            if blank < 0 or 0 <= newline < blank:
                raise cri.InvalidCriLine("no time")
            self._line_ns = cri.parse_line(data[at:blank] + b" stdout F ").time_ns
        except cri.InvalidCriLine:
            self._line_ns, self._skip = 0, None
            self._stray(data[at : at + 200])
            return at
        self._skip = self._passed_over(self._line_ns)
        return blank + 1

    def _passed_over(self, time_ns: int) -> int | None:
        """How much of a new line's text is archived; None: all of it."""
        if self._repeated[time_ns] > 0:
            self._repeated[time_ns] -= 1
            self._gap_possible = False
            return None
        if self._open_ns == time_ns:
            self._open_ns, self._gap_possible = -1, False
            return self._position.open_bytes
        if self._gap_possible:
            self._gap_possible = False
            self._tell_gap(time_ns)
        return 0

    def _tell_gap(self, time_ns: int) -> None:
        """Nothing came again, so what was to come again was rotated away, and perhaps more."""
        if self._position.open_ns >= 0:
            self._line_ns, before = self._position.open_ns, self._line_ns
            self._put(b"", partial=False)
            self._line_ns, self._open_ns = before, -1
        self._out.append(b"%s stderr F %s\n" % (cri.format_time(time_ns), GAP))

    def _text(self, data: bytes, at: int, newline: int) -> int:
        """Takes the text from `at` on; returns how far it came."""
        stop = len(data) if newline < 0 else newline
        if self._skip is None:
            return stop
        passed = min(self._skip, stop - at)
        self._skip -= passed
        at += passed
        if self._skip:
            return at
        while stop - at > cri.MAX_TEXT_BYTES:
            self._put(data[at : at + cri.MAX_TEXT_BYTES], partial=True)
            at += cri.MAX_TEXT_BYTES
        if newline >= 0:
            self._put(data[at:stop], partial=False)
        return at

    def _put(self, text: bytes, *, partial: bool) -> None:
        line = cri.CriLine(self._line_ns, "stdout", partial, text)
        self._out.append(cri.format_line(line))
        self._position.archived(self._line_ns, len(text), partial=partial)

    def _stray(self, line: bytes) -> None:
        """No time: the end of a line that began before what was asked for and is archived, or a
        word of the kubelet's own. Neither is new output of the job."""
        _log.debug("left out of a log, for it bears no time: %r", line)
