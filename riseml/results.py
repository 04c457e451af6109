"""Results of a job, such as accuracies, reported from inside it without any set-up.

A report is one line of JSON, appended to the file that RISEML_RESULTS names, which the node ships
like a log. It works offline and needs only the standard library; this file and
``riseml/__init__.py`` work without the rest of RiseML. Several processes of a job may report: each
holds a lock on the file while it numbers and writes its line.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from dataclasses import dataclass
from typing import Final

MAX_METRICS: Final = 200
MAX_NAME_LENGTH: Final = 128
MAX_LINE_BYTES: Final = 64 * 1024

_notice_given = False


@dataclass(frozen=True)
class Report:
    """One report, as read back from its line."""

    sequence: int
    """Counts up from 1 in each attempt."""
    time_ns: int
    """Since 1970, UTC."""
    metrics: tuple[tuple[str, float], ...]
    """Names with values, in the order of the report."""


def report_result(**metrics: object) -> None:
    """Report results, such as ``report_result(accuracy=0.93, step=100)``.

    Values are numbers, or arrays and tensors of one element (anything with ``.item()``); nan and
    infinities are taken. Outside of a job this does nothing but say so once on standard error.

    Raises TypeError for a value that is no number, ValueError for no metrics, too many, too long a
    name or a number that no double holds, and OSError when the file cannot be written; then nothing
    of the report is left in it.
    """
    numbers = _checked(metrics)
    path = os.environ.get("RISEML_RESULTS")
    if not path:
        _say_once(
            "riseml: RISEML_RESULTS is not set, so results are not kept (this is no RiseML job)"
        )
        return
    _append(path, numbers)


def parse_report(line: bytes) -> Report | None:
    """Read one line of a results file, without or with its newline; None for anything that is no
    report.
    """
    if len(line) > MAX_LINE_BYTES:
        return None
    try:
        record = json.loads(line)
        sequence, time_ns, metrics = record["sequence"], record["time_ns"], record["metrics"]
        pairs = tuple((name, float(value)) for name, value in metrics.items())
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    if (
        not _is_count(sequence)
        or not _is_count(time_ns)
        or sequence < 1
        or len(pairs) > MAX_METRICS
    ):
        return None
    return Report(sequence, time_ns, pairs)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _checked(metrics: dict[str, object]) -> dict[str, float | str]:
    if not metrics:
        raise ValueError("report_result needs at least one metric, such as accuracy=0.93")
    if len(metrics) > MAX_METRICS:
        raise ValueError(f"{len(metrics)} metrics in one report; {MAX_METRICS} are allowed")
    for name in metrics:
        if not 0 < len(name) <= MAX_NAME_LENGTH:
            raise ValueError(
                f"a metric's name has {len(name)} characters; 1 to {MAX_NAME_LENGTH} are allowed"
            )
    return {name: _encodable(name, value) for name, value in metrics.items()}


def _encodable(name: str, value: object) -> float | str:
    """A number that JSON can hold, or the name that proto3's JSON has for one that it can't
    (``NaN``).
    """
    if not isinstance(value, int | float):
        value = _item(name, value)
    if isinstance(value, bool):
        raise TypeError(f"{name} is {value}, which is no number; report 0 or 1")
    if not isinstance(value, int | float):
        raise TypeError(f"{name} is a {type(value).__name__}, which is no number")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} is too large for a double") from None
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return int(value) if isinstance(value, int) and abs(value) <= 2**53 else number


def _item(name: str, value: object) -> object:
    item = getattr(value, "item", None)
    if not callable(item):
        raise TypeError(f"{name} is a {type(value).__name__}, which is no number")
    try:
        return item()
    except (ValueError, RuntimeError, TypeError) as error:
        raise TypeError(
            f"{name} is a {type(value).__name__} and not one number: {error}"
        ) from error


def _append(path: str, numbers: dict[str, float | str]) -> None:
    import fcntl  # Here, so that importing this file works where there is none.

    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = os.fstat(file).st_size
        tail = os.pread(file, 2 * MAX_LINE_BYTES, max(0, size - 2 * MAX_LINE_BYTES))
        record = {
            "sequence": _last_sequence(tail) + 1,
            "time_ns": time.time_ns(),
            "metrics": numbers,
        }
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"the report takes {len(line)} bytes; {MAX_LINE_BYTES} are allowed")
        # A writer that was killed in the middle leaves half a line; ours must not be glued to it.
        written = line if tail.endswith(b"\n") or not tail else b"\n" + line
        if os.write(file, written) != len(written):
            os.ftruncate(file, size)
            raise OSError(28, "no space for the report", path)
    finally:
        os.close(file)


def _last_sequence(tail: bytes) -> int:
    for line in reversed(tail.split(b"\n")):
        report = parse_report(line)
        if report is not None:
            return report.sequence
    return 0


def _say_once(notice: str) -> None:
    global _notice_given
    if not _notice_given:
        _notice_given = True
        sys.stderr.write(notice + "\n")
