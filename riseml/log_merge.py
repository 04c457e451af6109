"""Several attempts' logs as one sequence of lines in order of time, with names to print before
them.

Pure: time comes in as an argument. Lines of one attempt always keep their order, whatever its clock
says. A line is given out once nothing earlier can come from any attempt that is still open, or when
it was held for a moment, for in a live view a silent worker must not hold up the others.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from riseml.cri import CriDecoder, CriLine

HOLD_SECONDS: Final = 0.1
MAX_HELD_BYTES: Final = 64 << 20
MAX_LINE_BYTES: Final = 1 << 20
"""A longer line is broken, for one without an end would be held for ever."""

_LINE_COST: Final = 200
_SGR: Final = rb"\x1b\[[0-9;:]{0,64}m"
_UNSAFE: Final = re.compile(
    rb"(?P<colour>" + _SGR + rb")"
    # Other control sequences: CSI, OSC and its kind up to their end, two-byte escapes.
    rb"|\x1b\[[0-?]*[ -/]*[@-~]?"
    rb"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"
    rb"|\x1b[ -/]*[0-~]?"
    # C0 but for the tabulator, DEL, and C1 in UTF-8.
    rb"|[\x00-\x08\x0a-\x1f\x7f]|\xc2[\x80-\x9f]",
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line to print."""

    time_ns: int
    source: str
    """The attempt that wrote it, or for a note the id that it is about."""
    stream: str
    """``stdout``, ``stderr``, or ``note`` for what RiseML says: a change of state, a hole."""
    text: bytes


@dataclass(slots=True)
class _Source:
    """What is known of one attempt."""

    decoder: CriDecoder = field(default_factory=CriDecoder)
    parts: dict[str, tuple[int, bytearray]] = field(default_factory=dict)
    key: int = -1
    """Order of its newest line; nothing earlier comes from it."""
    open: bool = True


class LogMerger:
    """Takes chunks and notes, gives lines."""

    def __init__(
        self,
        *,
        since_ns: int = 0,
        hold_seconds: float = math.inf,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        """``hold_seconds``: how long a line waits for others at most; for ever when a log is
        complete.
        """
        self._since_ns = since_ns
        self._hold = hold_seconds
        self._max_held = max_held_bytes
        self._strangers: set[str] = set()
        self._sources: dict[str, _Source] = {}
        self._heap: list[tuple[int, int, float, LogLine]] = []
        self._held_bytes = 0
        self._count = 0

    def expect(self, attempt_ids: Iterable[str]) -> None:
        """Attempts that will come or end: nothing overtakes them."""
        for attempt_id in attempt_ids:
            self._sources.setdefault(attempt_id, _Source())

    def await_note(self, attempt_ids: Iterable[str]) -> None:
        """Attempts whose first lines come after a note about them: lines wait for it as long as
        for others.
        """
        self._strangers.update(attempt_ids)

    def introduce(self, attempt_ids: Iterable[str]) -> None:
        """The note about these attempts has been added."""
        self._strangers.difference_update(attempt_ids)

    def add(self, attempt_id: str, data: bytes, now: float) -> None:
        """The next bytes of an attempt's log."""
        source = self._sources.setdefault(attempt_id, _Source())
        for line in source.decoder.feed(data):
            self._add_part(attempt_id, source, line, now)

    def add_note(self, time_ns: int, about: str, text: str, now: float) -> None:
        """A line of RiseML's own, in its place by time."""
        self._push(time_ns, LogLine(time_ns, about, "note", text.encode()), now)

    def add_hole(self, attempt_id: str, length_bytes: int, reason: str, now: float) -> None:
        """A range that is gone: what was begun before it is given out, what comes after stands
        alone.
        """
        source = self._sources.setdefault(attempt_id, _Source())
        self._flush(attempt_id, source, now)
        time_ns = max(source.key, 0)
        text = f"--- {length_bytes} bytes of the log are gone: {reason} ---"
        self._push(source.key, LogLine(time_ns, attempt_id, "note", text.encode()), now)

    def end(self, attempt_id: str, now: float) -> None:
        """Nothing more comes from an attempt."""
        source = self._sources.setdefault(attempt_id, _Source())
        self._flush(attempt_id, source, now)
        source.open = False

    def take(self, now: float) -> list[LogLine]:
        """The lines that can be given out, in order."""
        frontier = min((s.key for s in self._sources.values() if s.open), default=math.inf)
        if self._strangers:
            frontier = -1
        taken = []
        while self._heap:
            key, _, arrived, line = self._heap[0]
            if key > frontier and now - arrived < self._hold and self._held_bytes <= self._max_held:
                break
            heapq.heappop(self._heap)
            self._held_bytes -= len(line.text) + _LINE_COST
            taken.append(line)
        return taken

    def take_all(self) -> list[LogLine]:
        """Everything, because nothing more comes."""
        for attempt_id, source in self._sources.items():
            self._flush(attempt_id, source, 0.0)
        taken = [line for _, _, _, line in sorted(self._heap, key=lambda item: item[:2])]
        self._heap.clear()
        self._held_bytes = 0
        return taken

    def wait_seconds(self, now: float) -> float | None:
        """After what time ``take`` may give more without anything new; None: not by waiting."""
        if not self._heap or math.isinf(self._hold):
            return None
        return max(0.0, self._heap[0][2] + self._hold - now)

    def _add_part(self, attempt_id: str, source: _Source, line: CriLine, now: float) -> None:
        begun = source.parts.get(line.stream)
        if begun is None and not line.partial:
            self._add_line(attempt_id, source, line.time_ns, line.stream, line.text, now)
            return
        time_ns, text = begun or (line.time_ns, bytearray())
        text += line.text
        if line.partial and len(text) < MAX_LINE_BYTES:
            source.parts[line.stream] = (time_ns, text)
            return
        source.parts.pop(line.stream, None)
        self._add_line(attempt_id, source, time_ns, line.stream, bytes(text), now)

    def _add_line(
        self, attempt_id: str, source: _Source, time_ns: int, stream: str, text: bytes, now: float
    ) -> None:
        source.key = max(source.key, time_ns)
        if time_ns >= self._since_ns:
            self._push(source.key, LogLine(time_ns, attempt_id, stream, text), now)

    def _flush(self, attempt_id: str, source: _Source, now: float) -> None:
        for line in source.decoder.finish():
            self._add_part(attempt_id, source, line, now)
        for stream, (time_ns, text) in source.parts.items():
            self._add_line(attempt_id, source, time_ns, stream, bytes(text), now)
        source.parts.clear()

    def _push(self, key: int, line: LogLine, now: float) -> None:
        self._count += 1
        self._held_bytes += len(line.text) + _LINE_COST
        heapq.heappush(self._heap, (key, self._count, now, line))


def safe_text(text: bytes) -> bytes:
    """A line without what could do more to a terminal than show it in colour.

    Of a line that rewrites itself with carriage returns, as progress bars do, the last state is
    kept.
    """
    if b"\r" in text:
        text = next((part for part in reversed(text.split(b"\r")) if part), b"")
    coloured = False

    def keep(match: re.Match[bytes]) -> bytes:
        nonlocal coloured
        coloured = coloured or match["colour"] is not None
        return match["colour"] or b""

    cleaned = _UNSAFE.sub(keep, text)
    return cleaned + b"\x1b[0m" if coloured else cleaned
