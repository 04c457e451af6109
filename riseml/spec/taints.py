"""Taints, which keep jobs away from nodes, and tolerations, which let them come all the same.

Both are written ``dedicated=vision`` or ``spot``, and are pairs of key and value. A toleration
without a value takes any value of its key; one with a value takes just that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from riseml.spec.errors import InvalidName
from riseml.spec.labels import LABEL_KEY, LABEL_VALUE

MAX_TAINTS: Final = 64

Taint = tuple[str, str]
"""Key and value; the value may be empty."""


def parse_taint(text: str) -> Taint:
    """A taint or toleration as it is written. Raises InvalidName."""
    key, _, value = text.strip().partition("=")
    return check_taint((key.strip(), value.strip()))


def format_taint(taint: Taint) -> str:
    """What ``parse_taint`` reads back."""
    key, value = taint
    return f"{key}={value}" if value else key


def check_taint(taint: Taint) -> Taint:
    """Return the taint or toleration, or raise InvalidName."""
    key, value = taint
    if not LABEL_KEY.fullmatch(key):
        raise InvalidName(
            f"{format_taint(taint)[:80]!r} is no taint; write KEY or KEY=VALUE, such as spot or "
            "dedicated=vision"
        )
    if not LABEL_VALUE.fullmatch(value):
        raise InvalidName(
            f"{value[:80]!r} is no value of a taint; use up to 63 letters, digits, '-_.', with a "
            "letter or digit at both ends"
        )
    return taint


def untolerated(taints: Iterable[Taint], tolerations: Iterable[Taint]) -> Taint | None:
    """The first of the taints that keeps away who has these tolerations; None if there is none."""
    known = set(tolerations)
    for taint in taints:
        if taint not in known and (taint[0], "") not in known:
            return taint
    return None
