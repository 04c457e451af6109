"""Prints lines of logs with the names of their jobs before them."""

from __future__ import annotations

import io
from typing import Final

from riseml.log_merge import LogLine, safe_text
from riseml.states import JobNames
from shell.context import Context
from shell.render import coloured

_COLOURS: Final = ("36", "33", "32", "35", "34")
"""Given to jobs in turn, so that their lines can be told apart."""


class LinePrinter:
    """To a terminal lines come cleaned of control sequences, elsewhere byte by byte as they
    were.
    """

    def __init__(
        self, context: Context, names: JobNames, caller: str, *, raw: bool = False
    ) -> None:
        self._context = context
        self._names = names
        self._caller = caller
        self._raw = raw
        self._width = 0
        self._colours: dict[str, str] = {}

    def print(self, line: LogLine) -> None:
        """Write one line to standard output."""
        note = line.stream == "note"
        text = safe_text(line.text) if self._context.out_is_terminal else line.text
        if self._raw:
            if not note:
                self._write(text + b"\n")
            return
        name = self._names.prefix(line.source, self._caller)
        self._width = max(self._width, len(name))
        shown = name.ljust(self._width)
        if self._context.colour:
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            shown = f"\x1b[{colour}m{shown}\x1b[0m"
            if note:
                words = text.decode().split(" ", 2)
                state = words[1] if len(words) > 1 else ""
                text = coloured(text.decode(), state, True).encode()
        self._write(f"{shown} | ".encode() + text + b"\n")

    def flush(self) -> None:
        """Hand what was written to the reader."""
        self._context.stdout.flush()

    def _write(self, data: bytes) -> None:
        stdout = self._context.stdout
        if isinstance(stdout, io.TextIOWrapper) and not self._context.out_is_terminal:
            stdout.flush()
            stdout.buffer.write(data)
        else:
            stdout.write(data.decode("utf-8", "replace"))
