"""Replaces secrets in logs by as many `*`; offsets stay true. Whoever brings a log into the archive
does it first: noded before anything leaves the node, the control plane where it reads logs itself.

A secret may be cut by the format: a line longer than 16 KiB, or one that was flushed unfinished, is
several P lines, and other lines may lie between them. So texts are joined per stream, from P to F,
and the marks are put where the bytes lie. What could be the beginning of a secret at the end of an
unfinished line is held back until its continuation is there: then every chunk can be masked by
itself, from any offset at which an earlier chunk ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

MIN_SECRET_BYTES: Final = 4
PREFIX_BYTES: Final = 40
"""Of every line that the shim writes: time, stream, flag and a blank after each."""
FLAG_AT: Final = 38
_NUMBER: Final = re.compile(rb"[0-9.eE+-]+")
_OPEN_LINES: Final = (b" stdout P ", b" stderr P ")


@dataclass(slots=True)
class _Joined:
    """A line's text put together, and where its pieces lie in the chunk."""

    text: bytearray = field(default_factory=bytearray)
    pieces: list[tuple[int, int, int]] = field(default_factory=list)
    """(start in text, start of the text in the chunk, start of the line in the chunk)"""

    def add(self, line_at: int, text_at: int, text: bytes) -> None:
        self.pieces.append((len(self.text), text_at, line_at))
        self.text += text

    def cover(self, chunk: bytearray, start: int, end: int) -> None:
        """Marks text[start:end] where it lies."""
        bounds = [piece[0] for piece in self.pieces[1:]] + [len(self.text)]
        for (at, in_chunk, _), until in zip(self.pieces, bounds, strict=True):
            first, last = max(start, at), min(end, until)
            if first < last:
                place = in_chunk + first - at
                chunk[place : place + last - first] = b"*" * (last - first)

    def line_of(self, position: int) -> int:
        """Where in the chunk the line begins that holds this position of the text."""
        return max((line_at for at, _, line_at in self.pieces if at <= position), default=0)


class Mask:
    """The secrets of one attempt."""

    def __init__(self, values: Iterable[str]) -> None:
        """Values of several lines count line by line; lines below four bytes are left alone."""
        lines = {
            line.strip(b"\r")
            for value in values
            for line in value.encode("utf-8", "surrogateescape").split(b"\n")
        }
        self._secrets = sorted(line for line in lines if len(line) >= MIN_SECRET_BYTES)
        self._carried: dict[bytes, bytes] = {}
        self._spans: list[tuple[int, int]] = []
        """Of secrets that lie in several lines of a chunk: where the first and the last begin."""

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def log(self, chunk: bytes, *, must_move: bool = False, ended: bool = False) -> bytes:
        """The chunk masked, or as much of its beginning as may be told yet. `must_move`: the chunk
        is as long as chunks get, so something has to be told; what looks like the beginning of a
        secret is then masked on suspicion."""
        if not self._carried and not any(mark in chunk for mark in _OPEN_LINES):
            if not any(secret in chunk for secret in self._secrets):
                return chunk
        masked, whole = bytearray(chunk), len(chunk)
        first_seen: dict[bytes, int] = {}
        self._spans.clear()
        open_lines = self._mask_finished(chunk, masked, first_seen)
        cut = whole
        suspects: dict[bytes, bytes] = {}
        for stream, joined in open_lines.items():
            self._cover_all(joined, masked)
            suspect = b"" if ended else self._beginning_of_secret(bytes(joined.text))
            if suspect:
                suspects[stream] = suspect
                cut = min(cut, joined.line_of(len(joined.text) - len(suspect)))
        # A secret that lies on both sides would not be known as one when the rest is read again.
        while across := [start for start, end in self._spans if start < cut <= end]:
            cut = min(across)
        if cut == 0 and suspects and must_move:
            cut = whole
            for stream, suspect in suspects.items():
                joined = open_lines[stream]
                joined.cover(masked, len(joined.text) - len(suspect), len(joined.text))
        self._carry(cut, whole, first_seen, suspects)
        return bytes(masked[:cut])

    def raw(self, chunk: bytes) -> bytes:
        """For results, lines of JSON: values that are whole within the chunk. A secret that looks
        like a number is left alone: it would make metrics and times unreadable wherever its digits
        happen to stand."""
        masked = bytearray(chunk)
        for secret in self._secrets:
            if _NUMBER.fullmatch(secret):
                continue
            at = chunk.find(secret)
            while at >= 0:
                masked[at : at + len(secret)] = b"*" * len(secret)
                at = chunk.find(secret, at + 1)
        return bytes(masked)

    def restart(self) -> None:
        """The next chunk is not the one that follows the last."""
        self._carried.clear()

    def _mask_finished(
        self, chunk: bytes, masked: bytearray, first_seen: dict[bytes, int]
    ) -> dict[bytes, _Joined]:
        """Masks all lines that end in this chunk; returns the unfinished one of each stream."""
        unfinished: dict[bytes, _Joined] = {}
        at = 0
        for line in chunk.split(b"\n"):
            if line:
                regular = len(line) >= PREFIX_BYTES and line[FLAG_AT - 1 : FLAG_AT] == b" "
                stream = line[31:37] if regular else b""
                text_at = at + PREFIX_BYTES if regular else at
                joined = unfinished.get(stream)
                if joined is None:
                    joined = unfinished[stream] = _Joined()
                    if stream not in first_seen:
                        first_seen[stream] = at
                        joined.text += self._carried.get(stream, b"")
                joined.add(at, text_at, line[text_at - at :])
                if not regular or line[FLAG_AT : FLAG_AT + 1] == b"F":
                    self._cover_all(joined, masked)
                    del unfinished[stream]
            at += len(line) + 1
        return unfinished

    def _cover_all(self, joined: _Joined, masked: bytearray) -> None:
        for secret in self._secrets:
            at = joined.text.find(secret)
            while at >= 0:
                joined.cover(masked, at, at + len(secret))
                if len(joined.pieces) > 1:
                    first, last = joined.line_of(at), joined.line_of(at + len(secret) - 1)
                    if first < last:
                        self._spans.append((first, last))
                at = joined.text.find(secret, at + 1)

    def _beginning_of_secret(self, text: bytes) -> bytes:
        """The longest end of `text` that a secret begins with."""
        longest = b""
        for secret in self._secrets:
            for length in range(min(len(secret) - 1, len(text)), len(longest), -1):
                if text.endswith(secret[:length]):
                    longest = secret[:length]
                    break
        return longest

    def _carry(
        self, cut: int, whole: int, first_seen: dict[bytes, int], suspects: dict[bytes, bytes]
    ) -> None:
        kept = {
            stream: text
            for stream, text in self._carried.items()
            if first_seen.get(stream, whole) >= cut
        }
        self._carried = {**kept, **suspects} if cut == whole else kept
