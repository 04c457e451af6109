"""PURE: objects of the domain as rows, and back, without losing a bit.

A row has columns for what queries ask for; every other field stands in one compact JSON text, the
column `rest`, and only where it differs from its default. So a new field with a default needs no
migration. How a field is written follows from its type; the plan for a type is made once.
"""

from __future__ import annotations

import enum
import json
import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from controlplane.domain.model import (
    ApiKey,
    Attempt,
    Experiment,
    Job,
    Node,
    NodeToken,
    Project,
    Queue,
    Revision,
    User,
    UseRecord,
)
from riseml.spec.model import TrainSpec

E = TypeVar("E")
Convert = Callable[[Any], Any]

_dumps = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_loads = json.JSONDecoder().decode
# Compares unequal to every value: a field without a default is always written.
_REQUIRED: Final = object()


class _Converter:
    """A dataclass as a JSON object without the fields that have their default."""

    def __init__(self, cls: type[Any], without: Sequence[str] = ()) -> None:
        hints = get_type_hints(cls)
        kept = [item for item in fields(cls) if item.name not in without]
        converts = [_conversion(hints[item.name]) for item in kept]
        names = [item.name for item in kept]
        self._cls = cls
        self._values: Callable[[Any], Sequence[Any]] = _tuple_getter(names)
        self._plan = [
            (name, _default(item), encode)
            for name, item, (encode, _) in zip(names, kept, converts, strict=True)
        ]
        self._decoders = {
            name: decode
            for name, (_, decode) in zip(names, converts, strict=True)
            if decode is not None
        }

    def encode(self, value: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for (name, default, encode), part in zip(self._plan, self._values(value), strict=True):
            if part is not default and part != default:
                found[name] = part if encode is None else encode(part)
        return found

    def arguments(self, found: dict[str, Any]) -> dict[str, Any]:
        """Keyword arguments of the class; changes `found`."""
        decoders = self._decoders
        for name in found.keys() & decoders.keys():
            found[name] = decoders[name](found[name])
        return found

    def decode(self, found: dict[str, Any]) -> Any:
        return self._cls(**self.arguments(found))


def _default(item: Field[Any]) -> Any:
    if item.default is not MISSING:
        return item.default
    if item.default_factory is not MISSING:
        return item.default_factory()
    return _REQUIRED


def _tuple_getter(names: Sequence[str]) -> Callable[[Any], Sequence[Any]]:
    if not names:
        return lambda _value: ()
    if len(names) == 1:
        only = attrgetter(names[0])
        return lambda value: (only(value),)
    return attrgetter(*names)


def _conversion(hint: Any) -> tuple[Convert | None, Convert | None]:
    """How a value of this type becomes JSON and comes back; None: as it is."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        inner = [part for part in get_args(hint) if part is not type(None)]
        if len(inner) != 1:
            raise TypeError(f"the store cannot write a field of type {hint}")
        encode, decode = _conversion(inner[0])
        return _unless_none(encode), _unless_none(decode)
    if origin is tuple:
        return _tuple_conversion(get_args(hint))
    if hint in (str, int, float, bool):
        return None, None
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return attrgetter("value"), hint
    if is_dataclass(hint) and isinstance(hint, type):
        converter = _Converter(hint)
        return converter.encode, converter.decode
    raise TypeError(f"the store cannot write a field of type {hint}")


def _unless_none(convert: Convert | None) -> Convert | None:
    if convert is None:
        return None
    return lambda value: None if value is None else convert(value)


def _tuple_conversion(parts: tuple[Any, ...]) -> tuple[Convert | None, Convert | None]:
    if len(parts) == 2 and parts[1] is Ellipsis:
        encode, decode = _conversion(parts[0])
        return (
            None if encode is None else lambda values: [encode(value) for value in values],
            tuple if decode is None else lambda values: tuple(map(decode, values)),
        )
    if all(_conversion(part) == (None, None) for part in parts):
        return None, tuple
    raise TypeError(f"the store cannot write a field of type tuple{parts}")


class RowCodec(Generic[E]):
    """Rows of one type: the columns named here, then what is derived, then `rest`.

    `columns` are fields with a plain value or an enum. `mutable` are those of them that an update
    writes. `ended` adds a column with 0 or 1: whether the state, which is then the last of both, is
    one that nothing follows. `outside` are fields that the caller keeps elsewhere and gives to
    `from_row`.
    """

    def __init__(
        self,
        cls: type[E],
        *,
        key: Sequence[str],
        columns: Sequence[str] = (),
        mutable: Sequence[str] = (),
        ended: bool = False,
        outside: Sequence[str] = (),
    ) -> None:
        hints = get_type_hints(cls)
        self._cls: Callable[..., E] = cls
        self._fields = (*key, *columns)
        self._enums = {
            name: hints[name]
            for name in self._fields
            if isinstance(hints[name], type) and issubclass(hints[name], enum.Enum)
        }
        derived = ("ended",) if ended else ()
        self.key = tuple(key)
        self.columns = (*self._fields, *derived, "rest")
        self.mutable = (*mutable, *derived, "rest")
        self._key_values = _tuple_getter(self.key)
        self._field_values = self._getter(self._fields, ended)
        self._mutable_values = self._getter(tuple(mutable), ended)
        self._rest = _Converter(cls, without=(*self._fields, *outside))

    def _getter(self, names: Sequence[str], ended: bool) -> Callable[[Any], Sequence[Any]]:
        paths = [f"{name}.value" if name in self._enums else name for name in names]
        values = _tuple_getter(paths)
        if not ended:
            return values
        # The state is the last of the columns. Texts are looked up: an enum's hash is slow.
        numbers = {state.value: 1 if state.ended else 0 for state in self._enums["state"]}

        def with_ended(value: Any) -> Sequence[Any]:
            found = values(value)
            return (*found, numbers[found[-1]])

        return with_ended

    def key_of(self, entity: E) -> Sequence[Any]:
        """Values of the key's columns."""
        return self._key_values(entity)

    def to_row(self, entity: E) -> Sequence[Any]:
        """Values in the order of `columns`."""
        return (*self._field_values(entity), _dumps(self._rest.encode(entity)))

    def to_update(self, entity: E) -> Sequence[Any]:
        """Values in the order of `mutable`, then the key's."""
        rest = _dumps(self._rest.encode(entity))
        return (*self._mutable_values(entity), rest, *self._key_values(entity))

    def from_row(self, row: Sequence[Any], **outside: Any) -> E:
        """The object of a row whose values are in the order of `columns`."""
        arguments = self._rest.arguments(_loads(row[-1]))
        arguments.update(zip(self._fields, row, strict=False))
        for name, kind in self._enums.items():
            arguments[name] = kind(arguments[name])
        return self._cls(**arguments, **outside)


USER: Final = RowCodec(User, key=("name",))
API_KEY: Final = RowCodec(ApiKey, key=("id",), columns=("user_name",))
NODE_TOKEN: Final = RowCodec(NodeToken, key=("node_name",))
NODE: Final = RowCodec(Node, key=("name",))
QUEUE: Final = RowCodec(Queue, key=("name",))
USE_RECORD: Final = RowCodec(UseRecord, key=("queue", "user_name"))
PROJECT: Final = RowCodec(Project, key=("user_name", "name"))
REVISION: Final = RowCodec(Revision, key=("user_name", "id"))
EXPERIMENT: Final = RowCodec(
    Experiment,
    key=("id",),
    columns=(
        "user_name",
        "number",
        "child_number",
        "set_id",
        "project",
        "request_id",
        "create_time",
        "end_time",
        "state",
    ),
    mutable=("end_time", "state"),
    ended=True,
    outside=("spec",),
)
JOB: Final = RowCodec(Job, key=("experiment_id", "id"), columns=("state",), mutable=("state",))
ATTEMPT: Final = RowCodec(
    Attempt,
    key=("experiment_id", "id"),
    columns=("node_name", "state"),
    mutable=("state",),
    ended=True,
)

_SPEC: Final = _Converter(TrainSpec)


def spec_text(spec: TrainSpec) -> str:
    """A spec as JSON, without what has its default."""
    return _dumps(_SPEC.encode(spec))


class SpecReader:
    """Reads specs; equal texts give the same object, so equal experiments share one in memory."""

    def __init__(self) -> None:
        self._known: dict[str, TrainSpec] = {}

    def read(self, text: str) -> TrainSpec:
        """The spec of a text that `spec_text` made."""
        spec = self._known.get(text)
        if spec is None:
            spec = self._known[text] = _SPEC.decode(_loads(text))
        return spec
