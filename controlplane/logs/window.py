"""Where in an archived log to begin: at the last N lines, or at a time. Coarse; readers cut
exactly.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from controlplane.logs.archive import Archive, Kind

_BLOCK_BYTES: Final = 64 * 1024


def offset_of_last_lines(archive: Archive, attempt_id: str, lines: int) -> int:
    """The offset from which on there are `lines` lines (fewer when the log has fewer)."""
    position = archive.end(attempt_id)
    wanted = lines + 1
    while position > 0:
        begin = max(0, position - _BLOCK_BYTES)
        block = archive.read(attempt_id, Kind.OUTPUT, begin, position - begin)
        found = block.count(b"\n")
        if found < wanted:
            wanted -= found
            position = begin
            continue
        cut = len(block)
        for _ in range(wanted):
            cut = block.rindex(b"\n", 0, cut)
        return begin + cut + 1
    return 0


def offset_of_time(archive: Archive, attempt_id: str, since: float) -> int:
    """An offset at the begin of a line, before which all was printed before `since`.

    A binary search over the lines' own times, which rise within a log but for clock steps.
    """
    low, high = 0, archive.end(attempt_id)
    while high - low > _BLOCK_BYTES:
        middle = (low + high) // 2
        block = archive.read(attempt_id, Kind.OUTPUT, middle, _BLOCK_BYTES)
        line = block.find(b"\n") + 1
        printed = _time_of(block[line:])
        if line == 0 or printed is None or printed >= since:
            high = middle
        else:
            low = middle + line
    return low


def _time_of(line: bytes) -> float | None:
    """Seconds since the epoch at the head of a CRI line."""
    stamp = line[:26].decode("ascii", "replace")
    try:
        return datetime.fromisoformat(stamp + "+00:00").timestamp()
    except ValueError:
        return None
