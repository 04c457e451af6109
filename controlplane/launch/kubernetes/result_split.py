"""Takes the lines that carry results out of a container's log.

The supervisor in the container (`command.py`) prints them among the job's own output, as ``MARKER N
{json}`` with N counting from 1. A job may have left a line unfinished before: what stands before
the marker is output, and goes on after it. N tells which results are archived already.
"""

from __future__ import annotations

from riseml import cri


class ResultSplit:
    """Of one container's log, after its install output."""

    def __init__(self, marker: str, archived: int) -> None:
        """`archived`: how many results there are."""
        self._marker = marker.encode() + b" "
        self.archived = archived
        # Of a result whose line is longer than what the log's format has in one piece.
        self._begun: tuple[int, bytes] | None = None

    def split(self, lines: bytes) -> tuple[bytes, bytes]:
        """Output and new results, out of whole lines of the log's format."""
        if self._begun is None and self._marker not in lines:
            return lines, b""
        output: list[bytes] = []
        results: list[bytes] = []
        for raw in _lines(lines):
            if self._begun is None and self._marker not in raw:
                output.append(raw)
                continue
            before, found = self._take(cri.parse_line(raw))
            output.append(before)
            results.append(found)
        return b"".join(output), b"".join(results)

    def _take(self, line: cri.CriLine) -> tuple[bytes, bytes]:
        before = b""
        if self._begun is None:
            text, _, numbered = line.text.partition(self._marker)
            number, _, payload = numbered.partition(b" ")
            if not number.isdigit():
                return cri.format_line(line), b""
            if text:
                before = cri.format_line(line._replace(text=text, partial=True))
            self._begun = int(number), payload
        else:
            number_begun, payload = self._begun
            self._begun = number_begun, payload + line.text
        if line.partial:
            return before, b""
        number_begun, payload = self._begun
        self._begun = None
        if number_begun <= self.archived:
            return before, b""
        self.archived = number_begun
        return before, payload + b"\n"


def _lines(lines: bytes) -> list[bytes]:
    """Like `splitlines`, which would break at a carriage return as well."""
    return [line + b"\n" for line in lines.removesuffix(b"\n").split(b"\n")]
