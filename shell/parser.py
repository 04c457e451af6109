"""From words to a command with its values. Pure: the same for the command line and the prompt."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from shell.command import Command, Count, Option, UsageError, Value, Values

GLOBAL_OPTIONS: Final = (
    Option(
        ("--format",),
        "how to print data: table, json (the contract's field names) or csv",
        "FORMAT",
        default="table",
        choices=("table", "json", "csv"),
    ),
    Option(("--debug",), "show where an error comes from"),
    Option(("-h", "--help"), "what the command does"),
)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command that is ready to run."""

    command: Command
    values: Values


def split_line(line: str) -> list[str]:
    """The words of a line, with the shell's quotes. Raises UsageError for a quote that is not
    closed.
    """
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise UsageError(f"{error}. Close it, or put a backslash before it.") from error


def find_command(words: Sequence[str], table: Iterable[Command]) -> tuple[Command | None, int]:
    """The command that the first words name, and how many words that are; longest name first."""
    by_path = {command.path: command for command in table}
    longest = max((len(path) for path in by_path), default=0)
    for length in range(min(longest, len(words)), 0, -1):
        command = by_path.get(tuple(words[:length]))
        if command is not None:
            return command, length
    return None, 0


def parse(words: Sequence[str], table: Sequence[Command]) -> Invocation:
    """The invocation that words make. Raises UsageError.

    Options may stand anywhere after the command's name, short switches may be joined (``-al``), and
    ``--`` ends the options.
    """
    ahead, rest = _global_ahead(words)
    command, length = find_command(rest, table)
    if command is None:
        raise UsageError(_unknown(rest, table))
    return Invocation(command, _values(command, [*ahead, *rest[length:]]))


def _global_ahead(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Global options before the command's name, and the rest."""
    ahead: list[str] = []
    rest = list(words)
    while rest and rest[0].startswith("-"):
        option = _find_option(rest[0].partition("=")[0], GLOBAL_OPTIONS)
        if option is None:
            raise UsageError(
                f"There is no option {rest[0]}. 'riseml help' lists the commands and options."
            )
        ahead.append(rest.pop(0))
        if not option.is_switch and "=" not in ahead[-1] and rest:
            ahead.append(rest.pop(0))
    return ahead, rest


def _unknown(words: Sequence[str], table: Sequence[Command]) -> str:
    if not words:
        return "Which command? 'help' lists them."
    group = sorted({c.path[1] for c in table if len(c.path) > 1 and c.path[0] == words[0]})
    if group:
        if len(words) == 1:
            return f"'{words[0]}' needs one more word: {', '.join(group)}."
        near = difflib.get_close_matches(words[1], group, 1)
        hint = f"Did you mean '{words[0]} {near[0]}'?" if near else f"There is {', '.join(group)}."
        return f"There is no command '{words[0]} {words[1]}'. {hint}"
    near = difflib.get_close_matches(words[0], sorted({c.path[0] for c in table}), 1)
    hint = f"Did you mean '{near[0]}'?" if near else "'help' lists the commands."
    return f"There is no command '{words[0]}'. {hint}"


def _find_option(flag: str, options: Iterable[Option]) -> Option | None:
    return next((option for option in options if flag in option.flags), None)


def _values(command: Command, words: Sequence[str]) -> Values:
    options = (*command.options, *GLOBAL_OPTIONS)
    values: dict[str, Value] = {o.name: _absent(o) for o in options}
    given: list[str] = []
    rest = _separate(words, options)
    while rest:
        word = rest.pop(0)
        if word == "--":
            given += rest
            break
        if not word.startswith("-") or word == "-":
            given.append(word)
            continue
        flag, equals, attached = word.partition("=")
        option = _find_option(flag, options)
        if option is None:
            raise UsageError(_no_option(command, flag, options))
        if option.is_switch:
            if equals:
                raise UsageError(f"{flag} takes no value. Write {flag} alone.")
            values[option.name] = True
            continue
        if not equals:
            if not rest:
                raise UsageError(f"{flag} needs a value: {flag} {option.metavar}.")
            attached = rest.pop(0)
        value = _read(option, flag, attached)
        earlier = values[option.name]
        values[option.name] = (*earlier, str(value)) if isinstance(earlier, tuple) else value
    if not values["help"]:
        values.update(_arguments(command, given))
    else:
        values.update({argument.name: None for argument in command.arguments})
    return Values(values)


def _absent(option: Option) -> Value:
    if option.many:
        return ()
    return False if option.is_switch else option.default


def _separate(words: Sequence[str], options: Sequence[Option]) -> list[str]:
    """``-al`` as ``-a -l`` and ``-ffile`` as ``-f file``, up to ``--``."""
    separated: list[str] = []
    for place, word in enumerate(words):
        if word == "--":
            return [*separated, *words[place:]]
        if len(word) <= 2 or word[0] != "-" or word[1] == "-" or "=" in word:
            separated.append(word)
            continue
        letters = word[1:]
        while letters:
            option = _find_option(f"-{letters[0]}", options)
            separated.append(f"-{letters[0]}")
            letters = letters[1:]
            if option is None or (not option.is_switch and letters):
                separated += [letters] if letters else []
                break
    return separated


def _no_option(command: Command, flag: str, options: Sequence[Option]) -> str:
    known = sorted(flag for option in options for flag in option.flags)
    near = difflib.get_close_matches(flag, known, 1)
    hint = f"Did you mean {near[0]}?" if near else f"'help {command.name}' lists its options."
    return f"'{command.name}' has no option {flag}. {hint}"


def _read(option: Option, flag: str, text: str) -> Value:
    if option.choices and text not in option.choices:
        raise UsageError(f"{flag} {text}: use one of {', '.join(option.choices)}.")
    try:
        return option.read(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text}: {error}") from error


def _arguments(command: Command, given: Sequence[str]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    rest = list(given)
    for place, argument in enumerate(command.arguments):
        needed_after = sum(
            1 for a in command.arguments[place + 1 :] if a.count in (Count.ONE, Count.SOME)
        )
        missing = False
        match argument.count:
            case Count.ONE:
                missing = not rest
                values[argument.name] = rest.pop(0) if rest else None
            case Count.OPTIONAL:
                values[argument.name] = rest.pop(0) if len(rest) > needed_after else None
            case Count.ANY | Count.SOME:
                cut = max(len(rest) - needed_after, 0)
                values[argument.name], rest = tuple(rest[:cut]), rest[cut:]
                missing = argument.count is Count.SOME and not values[argument.name]
        if missing:
            raise UsageError(f"{argument.name} is missing. Usage: {command.usage}")
    if rest:
        raise UsageError(f"'{rest[0]}' is too much. Usage: {command.usage}")
    return values
