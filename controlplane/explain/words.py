"""Times, spans, lists and amounts as a person would say them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from math import isfinite
from typing import Final

from riseml.spec.model import GPU, Resources
from riseml.spec.units import format_memory, format_milli

NAMES_SHOWN: Final = 3
_DAY: Final = 86_400.0
# Beyond this a clock time says nothing: 100 years.
_FAR: Final = 100 * 365 * _DAY


@dataclass(frozen=True, slots=True)
class Clock:
    """When it is told, and by which clock the reader lives."""

    # Seconds since the epoch.
    now: float
    # East of Greenwich is positive.
    utc_offset_seconds: int = 0

    def at(self, time: float) -> str:
        """`14:00`, `14:00 tomorrow`, `Wed 14:00` within a week, else `2026-12-03 14:00`."""
        if not isfinite(time) or abs(time - self.now) > _FAR:
            return "a time that nobody knows"
        there, here = self._local(time), self._local(self.now)
        days = (there.date() - here.date()).days
        if days == 0:
            return f"{there:%H:%M}"
        if days in (1, -1):
            return f"{there:%H:%M} {'tomorrow' if days > 0 else 'yesterday'}"
        if 0 < days < 7:
            return f"{there:%a %H:%M}"
        return f"{there:%Y-%m-%d %H:%M}"

    def _local(self, time: float) -> datetime:
        zone = timezone(timedelta(seconds=self.utc_offset_seconds))
        return datetime.fromtimestamp(time, zone)


def span(seconds: float) -> str:
    """`12s`, `5m`, `2h10m`, `3d4h`: as exactly as it matters."""
    whole = max(0, round(seconds)) if isfinite(seconds) else 0
    if whole < 60:
        return f"{whole}s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes}m"
    if minutes < 24 * 60:
        return f"{minutes // 60}h" + (f"{minutes % 60}m" if minutes % 60 else "")
    hours = round(minutes / 60)
    return f"{hours // 24}d" + (f"{hours % 24}h" if hours % 24 else "")


def gpu_time(gpu_seconds: float) -> str:
    """Work: `40 GPU-seconds`, `12 GPU-minutes`, `3.5 GPU-hours`; `no work` for none."""
    if gpu_seconds < 0.5:
        return "no work"
    if gpu_seconds < 60:
        return f"{round(gpu_seconds)} GPU-seconds"
    if gpu_seconds < 3600:
        return f"{round(gpu_seconds / 60)} GPU-minutes"
    hours = gpu_seconds / 3600
    return f"{hours:.0f} GPU-hours" if hours >= 10 else f"{hours:.1f} GPU-hours"


def listed(names: Sequence[str], shown: int = NAMES_SHOWN) -> str:
    """`a`, `a and b`, `a, b and c`, `a, b, c and 4 more`."""
    if len(names) > shown + 1:
        return f"{', '.join(names[:shown])} and {len(names) - shown} more"
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def counted(count: int, one: str, several: str = "") -> str:
    """`1 node`, `3 nodes`."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def verb(count: int, one: str, several: str) -> str:
    """The form of a verb that goes with so many."""
    return one if count == 1 else several


def upper_first(text: str) -> str:
    """As a sentence begins."""
    return text[:1].upper() + text[1:]


def lower_first(text: str) -> str:
    """As it stands within a sentence; abbreviations stay."""
    return text[:1].lower() + text[1:] if not text[1:2].isupper() else text


def sentence(text: str) -> str:
    """With a full stop at its end, if it has none."""
    return text if not text or text.endswith((".", "!", "?", ":")) else f"{text}."


def gpu_kind(wanted: Resources, plural: bool = True) -> str:
    """`GPUs`, `H100 GPU`, `GPUs of 80Gi or more`."""
    words = f"{wanted.gpu_model} " if wanted.gpu_model else ""
    words = f"{words.replace('|', ' or ')}GPU{'s' if plural else ''}"
    if wanted.gpu_min_memory_bytes:
        words += f" of {format_memory(wanted.gpu_min_memory_bytes)} or more"
    return words


def gpus_asked(wanted: Resources) -> str:
    """`4 H100 GPUs`, `0.5 of a GPU`, `1 GPU`."""
    if wanted.gpu_milli < GPU:
        return f"{format_milli(wanted.gpu_milli)} of {_article(gpu_kind(wanted, plural=False))}"
    return f"{format_milli(wanted.gpu_milli)} {gpu_kind(wanted, plural=wanted.gpu_milli > GPU)}"


def resources_asked(wanted: Resources) -> str:
    """`4 GPUs, 16 CPUs and 64Gi`."""
    parts = [gpus_asked(wanted)] if wanted.gpu_milli else []
    cpus = "CPU" if wanted.cpu_milli == 1000 else "CPUs"
    parts += [f"{format_milli(wanted.cpu_milli)} {cpus}", format_memory(wanted.memory_bytes)]
    if wanted.shm_bytes:
        parts.append(f"{format_memory(wanted.shm_bytes)} of /dev/shm")
    return listed(parts, shown=len(parts))


def _article(words: str) -> str:
    return f"an {words}" if words[:1] in "AEFHILMNORSX" else f"a {words}"
