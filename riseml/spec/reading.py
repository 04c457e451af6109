"""Reads values out of a YAML tree, noting every problem with its line instead of ending at one."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Final, TypeVar

from riseml.spec import schema
from riseml.spec.errors import FieldError, InvalidQuantity, Problem
from riseml.spec.schema import Key
from riseml.spec.tree import Mapping, Node, Scalar, Sequence

T = TypeVar("T")

_TRUE: Final = ("true", "yes", "on")
_FALSE: Final = ("false", "no", "off")


class Reader:
    """Turns nodes into values; what it cannot read becomes a problem and None."""

    def __init__(self, file_name: str) -> None:
        self.file_name = file_name
        self.problems: list[Problem] = []
        self.lines: dict[str, int] = {}
        """The line of each key that was met, by its path."""

    def problem(self, path: str, message: str, line: int | None = None) -> None:
        """Note what is wrong with a key."""
        self.problems.append(Problem(self.file_name, line or self.line_of(path), path, message))

    def line_of(self, path: str) -> int:
        """The line of a key, or of the nearest one above it that is there."""
        while path and path not in self.lines:
            cut = max(path.rfind("."), path.rfind("["))
            path = path[:cut] if cut > 0 else ""
        return self.lines.get(path, 1)

    def place(self, error: FieldError) -> Problem:
        """An error of a validated spec, with its line."""
        return Problem(self.file_name, self.line_of(error.path), error.path, error.message)

    def section(self, node: Node | None, path: str, key: Key) -> dict[str, Node]:
        """The known keys of a mapping that are there; unknown ones and missing ones are problems.

        A key with nothing behind it counts as absent.
        """
        if node is None or (isinstance(node, Scalar) and node.is_null):
            entries: dict[str, Node] = {}
        else:
            entries = self.entries(node, path)
        known = {}
        for name, value in entries.items():
            if name not in key.key_names:
                self.problem(_join(path, name), _unknown(name, path, key))
            elif not (isinstance(value, Scalar) and value.is_null):
                known[name] = value
        for child in key.keys:
            if child.required and child.name not in known:
                example = f", such as {child.name}: {child.example}" if child.example else ""
                self.problem(_join(path, child.name), f"is missing; add it{example}")
        return known

    def entries(self, node: Node, path: str) -> dict[str, Node]:
        """A mapping with any keys; a key that stands twice is a problem."""
        if not isinstance(node, Mapping):
            self.problem(path, f"found {_found(node)}; write keys with values")
            return {}
        values: dict[str, Node] = {}
        for key, value in node.entries:
            below = _join(path, key.text)
            if key.text in values:
                first = self.lines[below]
                self.problem(below, f"stands here again, first in line {first}; keep one", key.line)
                continue
            self.lines[below] = key.line
            values[key.text] = value
        return values

    def text(self, node: Node, path: str) -> str | None:
        """One text."""
        if isinstance(node, Scalar) and not node.is_null:
            return node.text
        self.problem(path, f"found {_found(node)}; write one text")
        return None

    def texts(self, node: Node | None, path: str, *, one: bool = False) -> tuple[str, ...]:
        """A list of texts, or with ``one`` also a single text."""
        if node is None:
            return ()
        if one and isinstance(node, Scalar):
            text = self.text(node, path)
            return () if text is None else (text,)
        if not isinstance(node, Sequence):
            self.problem(path, f"found {_found(node)}; write a list")
            return ()
        texts = []
        for place, item in enumerate(node.items):
            below = f"{path}[{place}]"
            self.lines[below] = item.line
            if (text := self.text(item, below)) is not None:
                texts.append(text)
        return tuple(texts)

    def quantity(self, node: Node, path: str, parse: Callable[[str], T]) -> T | None:
        """What ``parse`` makes of a text; its InvalidQuantity becomes a problem."""
        text = self.text(node, path)
        if text is None:
            return None
        try:
            return parse(text)
        except InvalidQuantity as error:
            self.problem(path, str(error))
            return None

    def whole(self, node: Node, path: str) -> int | None:
        """One whole number."""
        return self.quantity(node, path, _whole_number)

    def truth(self, node: Node, path: str) -> bool | None:
        """True or false."""
        return self.quantity(node, path, _truth)

    def word(self, node: Node, path: str, words: tuple[str, ...]) -> str | None:
        """One of a few words."""
        text = self.text(node, path)
        if text is None or text in words:
            return text
        near = get_close_matches(text.lower(), words, n=1)
        meant = f"; did you mean {near[0]}?" if near else f"; write one of {', '.join(words)}"
        self.problem(path, f"found {text[:80]!r}{meant}")
        return None


def _whole_number(text: str) -> int:
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 15):
        raise InvalidQuantity(f"found {text[:80]!r}; write a whole number")
    return int(text)


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise InvalidQuantity(f"found {text[:80]!r}; write true or false")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _found(node: Node) -> str:
    match node:
        case Scalar() if node.is_null:
            return "nothing"
        case Scalar():
            return repr(node.text[:80])
        case Sequence():
            return "a list"
        case Mapping():
            return "keys with values"


def _unknown(name: str, path: str, key: Key) -> str:
    if not path and name in schema.RETIRED:
        return f"unknown key; {schema.RETIRED[name]}"
    wanted = schema.OTHER_WORDS.get(name.lower(), name)
    if wanted in key.key_names:
        return f"unknown key; did you mean {wanted!r}?"
    near = get_close_matches(name.lower(), key.key_names, n=1)
    if near:
        return f"unknown key; did you mean {near[0]!r}?"
    elsewhere = schema.paths_of(wanted)
    if elsewhere:
        return f"unknown key here; {wanted!r} stands under {elsewhere[0] or 'no other key'}"
    return f"unknown key; known are {', '.join(key.key_names)}"
