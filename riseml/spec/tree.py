"""YAML text as a tree of plain text with line numbers, without any of YAML's guesses.

Scalars stay the text that stands in the file, so ``version: 2.10`` is not 2.1, ``mode: on`` is not
true, and a number loses no digit. Anchors, tags and merges are refused: riseml.yml has no use for
them, and a tree that shares nothing is only as large as its file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

import yaml

MAX_CHARACTERS: Final = 256 * 1024
MAX_DEPTH: Final = 16


@dataclass(frozen=True, slots=True)
class Scalar:
    """One text; ``plain`` when it stood without quotes."""

    text: str
    plain: bool
    line: int

    @property
    def is_null(self) -> bool:
        """Whether there is nothing, or YAML's word for it."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    line: int
    items: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys with their values, in the order of the file."""

    line: int
    entries: list[tuple[Scalar, Node]] = field(default_factory=list)


Node: TypeAlias = Scalar | Sequence | Mapping


class InvalidYaml(ValueError):
    """Text that is no YAML, or uses what is refused here."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def read_tree(text: str) -> Node:
    """The tree of the one document in the text. Lines count from 1. Raises InvalidYaml."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidYaml(1, f"the file has {len(text)} characters; {MAX_CHARACTERS} are allowed")
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or "cannot be read"
        context = f" ({error.context})" if error.context else ""
        line = mark.line + 1 if mark is not None else 1
        raise InvalidYaml(line, f"no valid YAML: {problem}{context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise InvalidYaml(line, f"holds the character {error.character!r}; remove it") from error
    if builder.root is None:
        raise InvalidYaml(1, "the file is empty; `riseml init` writes one to begin with")
    return builder.root


class _Builder:
    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[Sequence | Mapping] = []
        # For each open mapping the key that waits for its value, for a list always None.
        self._keys: list[Scalar | None] = []
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise InvalidYaml(line, "a second document begins; write only one")
            case yaml.AliasEvent():
                raise InvalidYaml(line, f"*{event.anchor}: aliases are not taken; repeat the text")
            case yaml.ScalarEvent():
                self._refuse_extras(event, line, quoted=event.style is not None)
                self._add(Scalar(event.value, event.style is None, line))
            case yaml.SequenceStartEvent():
                self._refuse_extras(event, line)
                self._enter(Sequence(line))
            case yaml.MappingStartEvent():
                self._refuse_extras(event, line)
                self._enter(Mapping(line))
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._open.pop()
                self._keys.pop()
            case _:
                pass

    def _refuse_extras(self, event: yaml.NodeEvent, line: int, quoted: bool = False) -> None:
        if event.anchor is not None:
            raise InvalidYaml(line, f"&{event.anchor}: anchors are not taken; remove it")
        tag = getattr(event, "tag", None)
        if tag is not None and not (quoted and tag == "!"):
            raise InvalidYaml(line, f"{tag}: tags are not taken; remove it")

    def _enter(self, node: Sequence | Mapping) -> None:
        if len(self._open) >= MAX_DEPTH:
            raise InvalidYaml(node.line, f"more than {MAX_DEPTH} levels deep")
        self._add(node)
        self._open.append(node)
        self._keys.append(None)

    def _add(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent, Sequence):
            parent.items.append(node)
            return
        key = self._keys[-1]
        if key is None:
            if not isinstance(node, Scalar):
                raise InvalidYaml(node.line, "a key must be a word")
            self._keys[-1] = node
        else:
            parent.entries.append((key, node))
            self._keys[-1] = None
