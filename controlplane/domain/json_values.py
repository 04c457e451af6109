"""Values of the domain as JSON and back: frozen dataclasses by the names of their fields.

A field that has its default is left out, and one that is left out has its default. So files stay
small, and what is added later with a default can still be read from older ones. An unknown field is
refused: it may have decided something.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from math import isinf, isnan
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

Encoder = Callable[[Any], Any]
Decoder = Callable[[Any, str], Any]
"""Of a JSON value, and of the path to it that an error names."""

_NAMES: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    str: "text",
}
# JSON has no infinities.
_INFINITIES: Final[Mapping[str, float]] = {"inf": float("inf"), "-inf": float("-inf")}


class UnreadableJson(ValueError):
    """What was read is no such value; the message says where, and what is wanted there."""


@lru_cache(maxsize=256)
def encoder(kind: Any) -> Encoder:
    """What makes JSON (dicts, lists, text, numbers) of a value of this type.

    Types are bool, int, float, str, enums, frozen dataclasses, tuples of them, and any of these or
    None.
    """
    if kind in (bool, int, str):
        return _same
    if kind is float:
        return _encode_float
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return lambda value: value.value
    if is_dataclass(kind):
        return _dataclass_encoder(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return _tuple_encoder(arguments)
    inner = encoder(_not_none(kind))
    return lambda value: None if value is None else inner(value)


@lru_cache(maxsize=256)
def decoder(kind: Any) -> Decoder:
    """The reverse of `encoder`. It raises UnreadableJson."""
    if kind in (bool, int, str):
        return _plain_decoder(kind)
    if kind is float:
        return _decode_float
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _enum_decoder(kind)
    if is_dataclass(kind):
        return _dataclass_decoder(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        return _tuple_decoder(arguments)
    inner = decoder(_not_none(kind))
    return lambda value, path: None if value is None else inner(value, path)


def _not_none(kind: Any) -> Any:
    """The other type of `X | None`."""
    rest = [one for one in get_args(kind) if one is not NoneType]
    if get_origin(kind) not in (UnionType, Union) or len(rest) != 1:
        raise TypeError(f"{kind} is no type that this codec knows")
    return rest[0]


def _same(value: Any) -> Any:
    return value


def _encode_float(value: float) -> Any:
    if isnan(value):
        raise ValueError("not a number cannot be written")
    if isinf(value):
        return "inf" if value > 0 else "-inf"
    return value


def _decode_float(value: Any, path: str) -> float:
    if isinstance(value, str) and value in _INFINITIES:
        return _INFINITIES[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(path, "a number", value)
    return float(value)


def _plain_decoder(kind: type) -> Decoder:
    def decode(value: Any, path: str) -> Any:
        if type(value) is not kind:
            raise _wrong(path, _NAMES[kind], value)
        return value

    return decode


def _enum_decoder(kind: type[enum.Enum]) -> Decoder:
    def decode(value: Any, path: str) -> Any:
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(str(one.value) for one in kind)
            raise _wrong(path, f"one of {known}", value) from None

    return decode


def _tuple_encoder(arguments: tuple[Any, ...]) -> Encoder:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        each = encoder(arguments[0])
        return lambda value: [each(one) for one in value]
    parts = [encoder(one) for one in arguments]
    return lambda value: [part(one) for part, one in zip(parts, value, strict=True)]


def _tuple_decoder(arguments: tuple[Any, ...]) -> Decoder:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        each = decoder(arguments[0])

        def decode_all(value: Any, path: str) -> Any:
            if not isinstance(value, list):
                raise _wrong(path, "a list", value)
            return tuple([each(one, f"{path}[{place}]") for place, one in enumerate(value)])

        return decode_all
    parts = [decoder(one) for one in arguments]

    def decode(value: Any, path: str) -> Any:
        if not isinstance(value, list) or len(value) != len(parts):
            raise _wrong(path, f"a list of {len(parts)}", value)
        return tuple([part(one, path) for part, one in zip(parts, value, strict=True)])

    return decode


def _default(field: Field[Any]) -> Any:
    """What the field has when it is left out; MISSING when it may not be."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _dataclass_encoder(kind: Any) -> Encoder:
    hints = get_type_hints(kind)
    parts = [
        (field.name, _default(field), encoder(hints[field.name]))
        for field in fields(kind)
        if field.init
    ]

    def encode(value: Any) -> Any:
        made = {}
        for name, default, encode_part in parts:
            part = getattr(value, name)
            if default is MISSING or part != default:
                made[name] = encode_part(part)
        return made

    return encode


def _dataclass_decoder(kind: Any) -> Decoder:
    hints = get_type_hints(kind)
    parts = {field.name: decoder(hints[field.name]) for field in fields(kind) if field.init}
    needed = {one.name for one in fields(kind) if one.init and _default(one) is MISSING}

    def decode(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise _wrong(path, f"a {kind.__name__}", value)
        missing = needed - value.keys()
        if missing:
            raise UnreadableJson(f"{path}: {', '.join(sorted(missing))} missing")
        values = {}
        for name, part in value.items():
            decode_part = parts.get(name)
            if decode_part is None:
                raise UnreadableJson(f"{path}: a {kind.__name__} has no field {name!r}")
            values[name] = decode_part(part, f"{path}.{name}")
        return kind(**values)

    return decode


def _wrong(path: str, wanted: str, found: Any) -> UnreadableJson:
    shown = repr(found)
    return UnreadableJson(f"{path}: {wanted} is wanted, not {shown[:40]}")
