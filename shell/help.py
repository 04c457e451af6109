"""Help as text, made from the table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from shell.command import Command
from shell.parser import GLOBAL_OPTIONS
from shell.table import GROUPS

WIDTH = 88


def overview() -> str:
    """All commands with a line each."""
    lines = ["riseml COMMAND [OPTIONS]      or 'riseml' alone for the prompt", ""]
    for title, commands in GROUPS:
        lines.append(title)
        lines += _pairs((command.name, command.help) for command in commands)
        lines.append("")
    lines.append("Options of every command")
    lines += _pairs((option.shown, option.help) for option in GLOBAL_OPTIONS)
    lines += ["", "riseml -c 'COMMAND' runs a line; lines on standard input run as a script."]
    lines.append("'help COMMAND' says more.")
    return "\n".join(lines)


def command_help(command: Command) -> str:
    """One command in full."""
    lines = [f"riseml {command.usage}", "", _sentence(command.help)]
    if command.more:
        lines += ["", *textwrap.wrap(command.more, WIDTH)]
    if command.arguments:
        lines += ["", "Arguments", *_pairs((a.name, a.help) for a in command.arguments)]
    lines += ["", "Options"]
    lines += _pairs((o.shown, o.help) for o in (*command.options, *GLOBAL_OPTIONS))
    if command.examples:
        lines += ["", "Examples", *(f"  riseml {example}" for example in command.examples)]
    return "\n".join(lines)


def group_help(word: str, commands: Sequence[Command]) -> str:
    """The commands that begin with a word."""
    lines = [f"riseml {word} ...", "", *_pairs((c.name, c.help) for c in commands)]
    return "\n".join(lines)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[str]:
    found = list(pairs)
    width = min(max((len(name) for name, _ in found), default=0), 28)
    lines = []
    for name, text in found:
        wrapped = textwrap.wrap(text, WIDTH - width - 4) or [""]
        if len(name) > width:
            lines.append(f"  {name}")
            name = ""
        lines.append(f"  {name.ljust(width)}  {wrapped[0]}".rstrip())
        lines += [" " * (width + 4) + line for line in wrapped[1:]]
    return lines
