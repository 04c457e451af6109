"""From the lines that a container runtime writes to those that the Kubernetes API sends. Pure.

`TIME STREAM FLAG text` becomes `TIME text`, with the pieces of a long line (flag P) joined under
the time of the first. It is done as kubelets do it, byte for byte, so that the control plane may
read on there what it began to read here.
"""

from __future__ import annotations

import re
from typing import Final

from riseml import cri

# Nearly all lines of nearly all logs.
_WHOLE: Final = re.compile(rb"^([^ \n]+ )std(?:out|err) F(?::[^ \n]*)? ", re.MULTILINE)
_OTHER: Final = re.compile(rb"^(?![^ \n]+ std(?:out|err) F(?::[^ \n]*)? )", re.MULTILINE)
_LINE: Final = re.compile(rb"([^ ]+ )std(?:out|err) ([FP])(?::[^ ]*)? (.*)", re.DOTALL)
STEADY_NS: Final = 10 * 10**9
"""So far behind the wanted time every line is looked at: two streams may swap their times."""


class ApiLines:
    """One container's log. Bytes in, as they are read; lines out."""

    def __init__(self, since_ns: int = 0) -> None:
        """What is older than `since_ns` (nanoseconds since the epoch) is left out."""
        self._since_ns = since_ns
        self._held = b""
        self._within = False

    def feed(self, data: bytes) -> bytes:
        """What these bytes complete."""
        data = self._held + data
        end = data.rfind(b"\n") + 1
        data, self._held = data[:end], data[end:]
        if not data:
            return b""
        if not self._since_ns and not self._within and not _OTHER.search(data, 0, end - 1):
            return _WHOLE.sub(rb"\1", data)
        return b"".join([self._one(line) for line in data[:-1].split(b"\n")])

    def _one(self, line: bytes) -> bytes:
        match = _LINE.fullmatch(line)
        if match is None:
            # Not from a runtime; kubelets leave it out too.
            return b""
        time, flag, text = match.groups()
        begins, self._within = not self._within, flag == b"P"
        if self._since_ns and self._too_old(line):
            return b""
        return (time if begins else b"") + text + (b"" if self._within else b"\n")

    def _too_old(self, line: bytes) -> bool:
        try:
            time_ns = cri.parse_line(line).time_ns
        except cri.InvalidCriLine:
            return False
        if time_ns - STEADY_NS > self._since_ns:
            self._since_ns = 0
        return time_ns < self._since_ns
