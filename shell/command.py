"""What a command is: its words, its arguments and options, its help, and where its function
lies.
"""

from __future__ import annotations

import enum
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    from shell.context import Context


class UsageError(Exception):
    """What was typed is no command; the message says what would be one."""


class Completes(enum.Enum):
    """What can be offered for a value while it is typed."""

    NOTHING = enum.auto()
    EXPERIMENT = enum.auto()
    NODE = enum.auto()
    # Keys of taints that nodes have.
    TAINT = enum.auto()
    QUEUE = enum.auto()
    USER = enum.auto()
    PROJECT = enum.auto()
    FILE = enum.auto()
    COMMAND = enum.auto()
    # A file here, or data:// and output://.
    PLACE = enum.auto()


class Count(enum.Enum):
    """How many words an argument takes."""

    ONE = enum.auto()
    OPTIONAL = enum.auto()
    ANY = enum.auto()
    SOME = enum.auto()


@dataclass(frozen=True, slots=True)
class Argument:
    """A word by its place."""

    name: str
    help: str
    count: Count = Count.ONE
    completes: Completes = Completes.NOTHING

    @property
    def shown(self) -> str:
        """As in a usage line: ``[ID ...]``."""
        return {
            Count.ONE: self.name,
            Count.OPTIONAL: f"[{self.name}]",
            Count.ANY: f"[{self.name} ...]",
            Count.SOME: f"{self.name} ...",
        }[self.count]


Value: TypeAlias = str | int | float | bool | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Option:
    """``-f FILE, --file FILE``, or without a ``metavar`` a switch."""

    flags: tuple[str, ...]
    help: str
    metavar: str = ""
    default: Value = None
    read: Callable[[str], Value] = str
    """Makes the value of the text; raises ValueError with a message that says what would do."""
    choices: tuple[str, ...] = ()
    completes: Completes = Completes.NOTHING
    many: bool = False
    """May be given several times."""

    @property
    def name(self) -> str:
        """Under which its value is found: the long flag without dashes."""
        return self.flags[-1].lstrip("-").replace("-", "_")

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return not self.metavar

    @property
    def shown(self) -> str:
        """As in help: ``-f, --file FILE``."""
        flags = ", ".join(self.flags)
        return flags if self.is_switch else f"{flags} {self.metavar}"


class Values:
    """What was typed for a command's arguments and options, with defaults filled in."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = dict(values)

    def text(self, name: str) -> str:
        """A value as text, empty when it is absent."""
        value = self._values[name]
        return "" if value is None else str(value)

    def flag(self, name: str) -> bool:
        """Whether a switch was given."""
        return bool(self._values[name])

    def number(self, name: str) -> int:
        """A whole number, 0 when it is absent."""
        value = self._values[name]
        return value if isinstance(value, int) else 0

    def words(self, name: str) -> tuple[str, ...]:
        """All words of an argument or option that may have several."""
        value = self._values[name]
        return value if isinstance(value, tuple) else ()


Handler: TypeAlias = "Callable[[Context, Values], int]"


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the CLI and the prompt."""

    path: tuple[str, ...]
    """Its words: ``("user", "create")``."""
    help: str
    """One line."""
    handler: str
    """``module:function``, loaded when it runs."""
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    more: str = ""
    """What else is worth saying, in sentences."""
    examples: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its words with spaces."""
        return " ".join(self.path)

    @property
    def usage(self) -> str:
        """``logs [ID] [-f] [--tail N]``."""
        options = [
            f"[{option.flags[0]}{'' if option.is_switch else f' {option.metavar}'}]"
            for option in self.options
        ]
        return " ".join([self.name, *(a.shown for a in self.arguments), *options])

    def load(self) -> Handler:
        """The function that does it."""
        module, _, function = self.handler.partition(":")
        return cast("Handler", getattr(importlib.import_module(module), function))
