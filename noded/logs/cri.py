"""The log format of containers, CRI: `2026-11-23T20:00:00.123456789Z stdout F text`.

F ends a line, P says that it goes on. Every prefix of the shim's has the same length.
"""

from __future__ import annotations

import os
import time
from typing import Final

PREFIX_BYTES: Final = 40
FLAG_AT: Final = 38
MAX_TEXT_BYTES: Final = 16 << 10
MAX_LINE_BYTES: Final = PREFIX_BYTES + MAX_TEXT_BYTES + 1


def cri_line(text: bytes, *, stream: str = "stdout", now_ns: int | None = None) -> bytes:
    """One line with its end, for what the daemon itself has to say in an attempt's log. The text
    holds no newline; a longer one than 16 KiB is split."""
    at_ns = time.time_ns() if now_ns is None else now_ns
    seconds, nanoseconds = divmod(at_ns, 1_000_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    head = f"{stamp}.{nanoseconds:09d}Z {stream} ".encode()
    lines = []
    while len(text) > MAX_TEXT_BYTES:
        lines.append(head + b"P " + text[:MAX_TEXT_BYTES] + b"\n")
        text = text[MAX_TEXT_BYTES:]
    lines.append(head + b"F " + text + b"\n")
    return b"".join(lines)


class LogWriter:
    """Writes an attempt's log where no shim does (a cached environment, say). Not for use beside
    a shim: the offsets would be wrong."""

    def __init__(self, log_directory: str) -> None:
        self._path = f"{log_directory}/{0:020d}.log"

    def write(self, text: str, *, stream: str = "stdout") -> None:
        """Appends the lines of `text`. Raises OSError."""
        data = b"".join(
            cri_line(line, stream=stream) for line in text.encode("utf-8", "replace").splitlines()
        )
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)


def payload(data: bytes) -> dict[str, bytes]:
    """What the job wrote, by stream: the inverse of the format. For tests and small logs."""
    written: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    for line in data.split(b"\n")[:-1]:
        _, stream, flag, text = line.split(b" ", 3)
        written[stream.decode()] += text + (b"\n" if flag == b"F" else b"")
    return {stream: bytes(text) for stream, text in written.items()}
