"""Readers of option values: text to what a command works with. ValueError says what would do."""

from __future__ import annotations

import time
from datetime import datetime


def positive(text: str) -> int:
    """A whole number from 1."""
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise ValueError("write a whole number from 1.")
    return int(text)


def port(text: str) -> int:
    """A TCP port; 0 lets the system choose."""
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) < 65536):
        raise ValueError("write a port from 0 to 65535.")
    return int(text)


def moment(text: str) -> int:
    """Nanoseconds since 1970 of ``10m`` ago or of a date and time (local unless it has a zone)."""
    from riseml.spec.errors import InvalidQuantity
    from riseml.spec.units import parse_duration

    try:
        return int((time.time() - parse_duration(text)) * 1e9)
    except InvalidQuantity:
        pass
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1e9)
    except ValueError:
        raise ValueError(
            "write how long ago, such as 10m or 2h, or a time such as 2026-11-23T20:00."
        ) from None


def gpus(text: str) -> int:
    """Thousandths of an amount of GPUs."""
    from riseml.spec.errors import InvalidQuantity
    from riseml.spec.units import parse_milli

    try:
        return parse_milli(text, "GPUs")
    except InvalidQuantity as error:
        raise ValueError(f"{error}.") from None


def gpu_limit(text: str) -> int:
    """The same; -1 for ``none``."""
    return -1 if text == "none" else gpus(text)


def duration(text: str) -> int:
    """Seconds; 0 for ``none``."""
    from riseml.spec.errors import InvalidQuantity
    from riseml.spec.units import parse_duration

    if text == "none":
        return 0
    try:
        return parse_duration(text)
    except InvalidQuantity as error:
        raise ValueError(f"{error}.") from None
