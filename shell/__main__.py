"""``riseml``: one command from the arguments, commands from standard input, or the prompt."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from shell.command import UsageError
from shell.context import Context
from shell.parser import split_line
from shell.run import FAILED, INTERRUPTED, OK, USAGE, explain, run_words


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 ok, 1 failed, 2 usage, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    context = Context(*_streams())
    try:
        if not words:
            return _session(context)
        if words[0] == "-c":
            return _lines(words[1:], context)
        return run_words(["version"] if words == ["--version"] else _help_words(words), context)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if context.debug or "--debug" in words:
            raise
        return explain(error, context)
    finally:
        context.disconnect()


def _streams() -> tuple[TextIO, TextIO, TextIO]:
    """Standard output, error and input, whatever we were given: one that is closed holds nothing,
    and what a terminal's encoding lacks is shown as ``?``.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # Python has None for a closed one; the program's end closes what is opened here.
    return (
        sys.stdout or open(os.devnull, "w", encoding="utf-8"),
        sys.stderr or open(os.devnull, "w", encoding="utf-8"),
        sys.stdin or open(os.devnull, encoding="utf-8"),
    )


def _help_words(words: list[str]) -> list[str]:
    return ["help"] if words in (["-h"], ["--help"]) else words


def _session(context: Context) -> int:
    """The prompt on a terminal; else the lines of standard input, as a script."""
    if context.stdin.isatty() and context.stdout.isatty():
        from shell.prompt import run_prompt

        return run_prompt(context)
    return _script(context.stdin.read().splitlines(), context)


def _lines(arguments: list[str], context: Context) -> int:
    if len(arguments) != 1:
        context.say("-c takes one text: riseml -c 'status -a'.")
        return USAGE
    return _script(arguments[0].splitlines(), context)


def _script(lines: list[str], context: Context) -> int:
    """Run lines until one fails, as ``sh -e`` does; returns its status."""
    for line in lines:
        try:
            words = split_line(line)
        except UsageError as error:
            context.say(str(error))
            return USAGE
        if words in (["exit"], ["quit"]):
            return OK
        status = run_words(words, context) if words else OK
        if status != OK:
            return status
    return OK


if __name__ == "__main__":
    status = main()
    # Threads of a stream that was left must not hold up the end.
    sys.exit(status if status in (OK, FAILED, USAGE, INTERRUPTED) else FAILED)
