"""Kubernetes' quantities: ``250m``, ``1.5Gi``, ``2e9``.

https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any, Final

_QUANTITY: Final = re.compile(
    r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))([eE][+-]?[0-9]{1,3}|[numkMGTPE]|[KMGTPE]i)?", re.ASCII
)
_BINARY: Final = {name: 2 ** (10 * power) for power, name in enumerate("KMGTPE", 1)}
_DECIMAL: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal("1e3"),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
    "T": Decimal("1e12"),
    "P": Decimal("1e15"),
    "E": Decimal("1e18"),
}


def parse_quantity(text: Any) -> Decimal:
    """Its value in the resource's unit: cores, bytes, pieces. ValueError if it is none."""
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is no quantity")
    number, unit = match.groups()
    try:
        value = Decimal(number)
        if not unit:
            return value
        if unit[0] in "eE" and len(unit) > 1:
            return value.scaleb(int(unit[1:]))
        return value * (_BINARY[unit[0]] if unit.endswith("i") else _DECIMAL[unit])
    except (InvalidOperation, KeyError) as error:
        raise ValueError(f"{text!r} is no quantity") from error


def quantity_or(text: Any, default: Decimal = Decimal(0)) -> Decimal:
    """The same; what is missing, negative or not understood counts as `default`."""
    try:
        value = parse_quantity(text)
    except ValueError:
        return default
    return value if value >= 0 else default
