"""The ``riseml>`` prompt: the same commands with completion, history and suggestions from it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import AnyFormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from riseml.credentials import config_dir
from shell.command import UsageError
from shell.completion import complete, last_word
from shell.context import Context
from shell.known import KnownNames
from shell.parser import split_line
from shell.run import OK, run_words
from shell.table import TABLE

HISTORY_FILE = "history"


def run_prompt(context: Context) -> int:
    """Read and run lines until ``exit`` or Ctrl-D; always ends with status 0."""
    context.at_prompt = True
    names = KnownNames(context)
    names.start()
    session: PromptSession[str] = PromptSession(
        history=open_history(context),
        auto_suggest=AutoSuggestFromHistory(),
        completer=TableCompleter(context, names),
        complete_while_typing=False,
        bottom_toolbar=lambda: toolbar(names),
        enable_open_in_editor=True,
    )
    context.say("Commands: help. Leave with exit or Ctrl-D.")
    try:
        while True:
            try:
                line = session.prompt("riseml> ")
            except KeyboardInterrupt:
                continue
            except EOFError:
                return OK
            if _is_exit(line):
                return OK
            run_line(context, line)
            names.refresh_soon()
    finally:
        names.stop()


def run_line(context: Context, line: str) -> None:
    """Run one line of the prompt; whatever goes wrong is told and does not end the prompt."""
    try:
        words = split_line(line)
    except UsageError as error:
        context.say(str(error))
        return
    if words[:1] == ["riseml"]:
        words = words[1:]
    if words:
        run_words(words, context)


def _is_exit(line: str) -> bool:
    return line.strip() in ("exit", "quit")


def open_history(context: Context) -> History:
    """The lines of earlier prompts, readable by their owner only; in memory where no file can be
    had.
    """
    file = config_dir(context.environ) / HISTORY_FILE
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(file))


def toolbar(names: KnownNames) -> AnyFormattedText:
    """Who and where."""
    known = names.now
    if not known.server:
        return "not connected: 'user login' or, in another terminal, 'riseml up'"
    return f"{known.user} at {known.server}"


class TableCompleter(Completer):
    """``shell.completion`` for prompt_toolkit."""

    def __init__(self, context: Context, names: KnownNames) -> None:
        self._context = context
        self._names = names

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Suggestions for the word before the cursor."""
        line = document.text_before_cursor
        last = last_word(line)
        quoted = line.endswith(last) and line[: len(line) - len(last)].endswith(("'", '"'))
        for suggestion in complete(line, TABLE, self._names.now, self._list_files):
            text = suggestion.text if quoted else shlex.quote(suggestion.text)
            text += "" if suggestion.goes_on or quoted else " "
            yield Completion(
                text,
                start_position=-len(last),
                display=suggestion.text,
                display_meta=suggestion.note,
            )

    def _list_files(self, folder: str) -> Iterable[str]:
        try:
            with os.scandir(Path(self._context.folder, folder).expanduser()) as entries:
                return [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
        except OSError:
            return []
