"""Amounts as people write them, and back: memory, CPUs and time.

Every amount is read from its text in exact decimal arithmetic; floats never come into it. Memory
takes the suffixes of Kubernetes quantities
(https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/), with or without
a closing ``B``.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

from riseml.spec.errors import InvalidQuantity

MEMORY_SUFFIXES: Final = {
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
    "Pi": 1 << 50,
}
"""Bytes per suffix."""

_DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})", re.ASCII)
_AMOUNT: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-z]*)", re.ASCII)
_DURATION: Final = re.compile(r"(?:[0-9]{1,9}[dhms])+", re.ASCII)
_DURATION_PART: Final = re.compile(r"([0-9]+)([dhms])", re.ASCII)
_SECONDS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_decimal(text: str) -> Decimal:
    """A plain decimal number such as ``2``, ``0.5`` or ``-1.25``. Raises InvalidQuantity."""
    if not _DECIMAL.fullmatch(text.strip()):
        raise InvalidQuantity(f"{text!r} is not a number; write one like 2 or 0.5")
    return Decimal(text.strip())


def parse_milli(text: str, what: str) -> int:
    """Thousandths of a decimal number that has no finer part and is not negative.

    Raises InvalidQuantity.
    """
    milli = parse_decimal(text) * 1000
    if milli < 0:
        raise InvalidQuantity(f"{text} {what} is below 0; write 0 or more")
    if milli != int(milli):
        raise InvalidQuantity(f"{text} {what} is finer than a thousandth; round it")
    return int(milli)


def parse_memory(text: str) -> int:
    """Bytes of ``4Gi``, ``500M``, ``80GB`` or ``1.5Ti``; part of a byte is rounded up.

    Raises InvalidQuantity.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise InvalidQuantity(f"{text!r} is not an amount of memory; write one like 4Gi or 500M")
    number, suffix = match.groups()
    if not suffix:
        raise InvalidQuantity(
            f"{text} has no unit; write {number}Gi ({number} x 2^30 bytes), "
            f"{number}G ({number} x 10^9 bytes), {number}Mi or {number}M"
        )
    factor = MEMORY_SUFFIXES.get(suffix.removesuffix("B"))
    if factor is None:
        raise InvalidQuantity(f"{text}: the unit {suffix!r} is unknown; {_nearest_suffix(suffix)}")
    return int((Decimal(number) * factor).to_integral_value(rounding=ROUND_CEILING))


def _nearest_suffix(suffix: str) -> str:
    wanted = suffix.lower().removesuffix("b")
    near = [known for known in MEMORY_SUFFIXES if known.lower() == wanted]
    return f"write {near[0]}" if near else f"use one of {', '.join(MEMORY_SUFFIXES)}"


def parse_cpus(text: str) -> int:
    """Thousandths of a CPU of ``2``, ``0.5`` or, as Kubernetes writes it, ``500m``.

    Raises InvalidQuantity.
    """
    stripped = text.strip()
    if stripped.endswith("m") and stripped[:-1].isascii() and stripped[:-1].isdigit():
        return int(stripped[:-1]) if len(stripped) < 16 else parse_milli(stripped[:-1], "CPUs")
    return parse_milli(stripped, "CPUs")


def parse_duration(text: str) -> int:
    """Seconds of ``12h``, ``30m``, ``90s``, ``2d`` or ``1h30m``. Raises InvalidQuantity."""
    stripped = text.strip()
    if stripped.isascii() and stripped.isdigit():
        raise InvalidQuantity(
            f"{stripped} has no unit; write {stripped}s, {stripped}m or {stripped}h"
        )
    if not _DURATION.fullmatch(stripped):
        raise InvalidQuantity(f"{text!r} is not a time; write one like 90s, 30m, 12h or 1h30m")
    parts = _DURATION_PART.findall(stripped)
    units = [unit for _, unit in parts]
    if len(set(units)) < len(units):
        raise InvalidQuantity(f"{text!r} names a unit twice; write one like 1h30m")
    return sum(int(number) * _SECONDS[unit] for number, unit in parts)


def format_memory(memory_bytes: int) -> str:
    """For people, to three digits: ``4Gi``, ``1.5Gi``, ``512Mi``, ``80Gi``; below 1Ki ``17B``."""
    for suffix in ("Pi", "Ti", "Gi", "Mi", "Ki"):
        factor = MEMORY_SUFFIXES[suffix]
        if memory_bytes >= factor:
            amount = memory_bytes / factor
            return f"{amount:.{0 if amount >= 99.95 else 1}f}".removesuffix(".0") + suffix
    return f"{memory_bytes}B"


def format_memory_exact(memory_bytes: int) -> str:
    """What ``parse_memory`` reads back as the same number of bytes."""
    by_size = sorted(MEMORY_SUFFIXES.items(), key=lambda item: -item[1])
    for suffix, factor in by_size:
        if memory_bytes and memory_bytes % factor == 0:
            return f"{memory_bytes // factor}{suffix}"
    return f"{format_decimal(Decimal(memory_bytes) / 1000)}K"


def format_milli(milli: int) -> str:
    """Thousandths as a number: 2000 gives ``2``, 500 gives ``0.5``."""
    return format_decimal(Decimal(milli) / 1000)


def format_decimal(number: Decimal) -> str:
    """Without an exponent and without zeros that say nothing: ``0.1``, ``100``, ``0``."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def format_duration(seconds: int) -> str:
    """``1h30m``, ``90m`` as ``1h30m``, ``2d``, ``0s``; what ``parse_duration`` reads back."""
    if seconds <= 0:
        return "0s"
    text = ""
    for unit, size in _SECONDS.items():
        count, seconds = divmod(seconds, size)
        text += f"{count}{unit}" if count else ""
    return text
