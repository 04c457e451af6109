"""What can come next on a line. Pure: what the cluster holds comes in as ``Known``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from shell.command import Command, Completes, Count, Option
from shell.parser import GLOBAL_OPTIONS, find_command

SCHEMES: Final = ("data://", "output://")


@dataclass(frozen=True, slots=True)
class Known:
    """Names that the cluster holds, each with a note to show beside it."""

    experiments: tuple[tuple[str, str], ...] = ()
    nodes: tuple[tuple[str, str], ...] = ()
    taints: tuple[tuple[str, str], ...] = ()
    queues: tuple[tuple[str, str], ...] = ()
    users: tuple[tuple[str, str], ...] = ()
    projects: tuple[tuple[str, str], ...] = ()
    user: str = ""
    server: str = ""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A text that could stand in place of the word at the cursor."""

    text: str
    note: str = field(default="", compare=False)
    goes_on: bool = False
    """No space follows: a folder, the beginning of a place."""


def complete(
    line: str,
    table: Sequence[Command],
    known: Known,
    list_files: Callable[[str], Iterable[str]],
) -> list[Suggestion]:
    """Suggestions for the last word of ``line`` (the text before the cursor), which may be empty.

    ``list_files`` gives the names in a local folder, folders with a slash at their end.
    """
    words, last = _words(line)
    command, length = find_command(words, table)
    below = _next_words(words, table)
    if command is None or (below and length == len(words)):
        found = [s for s in below if s.text.startswith(last)]
        if command is None or found:
            return found
    return list(_for_command(command, words[length:], last, table, known, list_files))


def last_word(line: str) -> str:
    """The word that is being typed at the end of a line, without an open quote before it."""
    return _words(line)[1]


def _words(line: str) -> tuple[list[str], str]:
    """The finished words of a line and the one that is being typed."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError:
        # A quote is open: the last word begins there.
        quote = max(line.rfind('"'), line.rfind("'"))
        return line[:quote].split(), line[quote + 1 :]
    if not line or line[-1].isspace():
        return words, ""
    return words[:-1], words[-1] if words else ""


def _next_words(words: Sequence[str], table: Iterable[Command]) -> list[Suggestion]:
    """Words that can follow as part of a command's name."""
    length = len(words)
    found: dict[str, Suggestion] = {}
    for command in table:
        if command.path[:length] == tuple(words) and len(command.path) > length:
            word = command.path[length]
            whole = len(command.path) == length + 1
            found.setdefault(word, Suggestion(word, command.help if whole else ""))
    return list(found.values())


def _for_command(
    command: Command,
    words: Sequence[str],
    last: str,
    table: Sequence[Command],
    known: Known,
    list_files: Callable[[str], Iterable[str]],
) -> Iterator[Suggestion]:
    options = (*command.options, *GLOBAL_OPTIONS)
    waiting = _option_of(words[-1], options) if words else None
    if waiting is not None and not waiting.is_switch:
        yield from _values(waiting.completes, waiting.choices, last, known, list_files)
        return
    if last.startswith("-"):
        given = set(words)
        for option in options:
            if option.many or not given & set(option.flags):
                flag = option.flags[-1]
                if flag.startswith(last):
                    yield Suggestion(flag, option.help)
        return
    given_words = _plain_words(words, options)
    place = 0
    for argument in command.arguments:
        takes = 1 if argument.count in (Count.ONE, Count.OPTIONAL) else len(given_words) + 1
        if place + takes > len(given_words):
            if argument.completes is Completes.COMMAND:
                found = _next_words(given_words, table)
                yield from (s for s in found if s.text.startswith(last))
                return
            taken = set(given_words)
            for suggestion in _values(argument.completes, (), last, known, list_files):
                if suggestion.text not in taken:
                    yield suggestion
            return
        place += takes


def _option_of(word: str, options: Iterable[Option]) -> Option | None:
    return next((option for option in options if word in option.flags), None)


def _plain_words(words: Sequence[str], options: Sequence[Option]) -> list[str]:
    """Words that are neither options nor their values."""
    plain: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-") and len(word) > 1:
            option = _option_of(word, options)
            skip = option is not None and not option.is_switch
        else:
            plain.append(word)
    return plain


def _values(
    completes: Completes,
    choices: Sequence[str],
    last: str,
    known: Known,
    list_files: Callable[[str], Iterable[str]],
) -> Iterator[Suggestion]:
    names: Sequence[tuple[str, str]] = [(choice, "") for choice in choices]
    match completes:
        case Completes.EXPERIMENT:
            names = known.experiments
        case Completes.NODE:
            names = known.nodes
        case Completes.TAINT:
            names = known.taints
        case Completes.QUEUE:
            names = known.queues
        case Completes.USER:
            names = known.users
        case Completes.PROJECT:
            names = known.projects
        case Completes.FILE:
            yield from _files(last, list_files)
            return
        case Completes.PLACE:
            yield from _places(last, known)
            if not last.startswith(SCHEMES):
                yield from _files(last, list_files)
            return
        case Completes.NOTHING | Completes.COMMAND:
            pass
    yield from (Suggestion(name, note) for name, note in names if name.startswith(last))


def _places(last: str, known: Known) -> Iterator[Suggestion]:
    for scheme in SCHEMES:
        if scheme.startswith(last) and last != scheme:
            yield Suggestion(scheme, goes_on=True)
    if last.startswith("output://"):
        for name, note in known.experiments:
            place = f"output://{name}/"
            if place.startswith(last):
                yield Suggestion(place, note, goes_on=True)


def _files(last: str, list_files: Callable[[str], Iterable[str]]) -> Iterator[Suggestion]:
    folder, slash, begun = last.rpartition("/")
    for name in sorted(list_files(folder + slash)):
        if name.startswith(begun) and (begun or not name.startswith(".")):
            yield Suggestion(folder + slash + name, goes_on=name.endswith("/"))
