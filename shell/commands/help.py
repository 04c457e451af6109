"""help"""

from __future__ import annotations

from shell.command import UsageError, Values
from shell.context import Context
from shell.help import command_help, group_help, overview
from shell.parser import find_command, parse
from shell.table import TABLE


def show(context: Context, values: Values) -> int:
    """All commands, those that begin with a word, or one in full."""
    words = values.words("COMMAND")
    if not words:
        context.out(overview())
        return 0
    command, length = find_command(words, TABLE)
    if command is not None and length == len(words):
        context.out(command_help(command))
        return 0
    below = [c for c in TABLE if c.path[: len(words)] == words]
    if not below:
        parse(words, TABLE)
        raise UsageError(f"There is no command '{' '.join(words)}'.")
    context.out(group_help(" ".join(words), below))
    return 0
