"""Numbers about those who waited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from riseml.spec.model import GPU

# A task that takes less counts as though it took this much: a minute's wait before a second's work
# is no slowdown of 60. (Bounded slowdown, Feitelson and Rudolph 1998, with a bound that fits jobs
# on GPUs.)
SLOWDOWN_BOUND_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A task and what became of it."""

    gpu_milli: int
    duration_seconds: float
    # All time in which it did not get on: it waited, or did what was lost later.
    wait_seconds: float
    user_name: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """Waits in seconds, and bounded slowdowns."""

    count: int
    mean: float
    p50: float
    p95: float
    longest: float
    slowdown: float
    slowdown_p95: float


def summary(outcomes: Sequence[Outcome]) -> Summary:
    """Of at least one task."""
    waits = sorted(outcome.wait_seconds for outcome in outcomes)
    slowdowns = sorted(slowdown(outcome) for outcome in outcomes)
    return Summary(
        count=len(waits),
        mean=sum(waits) / len(waits),
        p50=quantile(waits, 0.5),
        p95=quantile(waits, 0.95),
        longest=waits[-1],
        slowdown=sum(slowdowns) / len(slowdowns),
        slowdown_p95=quantile(slowdowns, 0.95),
    )


def slowdown(outcome: Outcome) -> float:
    """How many times longer it took than if it had been alone; 1 at least."""
    took = outcome.wait_seconds + outcome.duration_seconds
    return max(1.0, took / max(outcome.duration_seconds, SLOWDOWN_BOUND_SECONDS))


def quantile(ascending: Sequence[float], part: float) -> float:
    """Linear between the two nearest of them (R-7 in Hyndman and Fan 1996)."""
    place = part * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (place - below) * (ascending[above] - ascending[below])


def size_class(gpu_milli: int) -> str:
    """Tasks are told apart by how many GPUs they ask for."""
    if gpu_milli == 0:
        return "none"
    if gpu_milli < GPU:
        return "share"
    gpus = gpu_milli // GPU
    least = 1 << (gpus - 1).bit_length() - 1 if gpus > 1 else 0
    most = 1 << (gpus - 1).bit_length()
    return str(most) if most - least <= 1 else f"{least + 1}-{most}"


def by_size(outcomes: Iterable[Outcome]) -> dict[str, Summary]:
    """Smallest first."""
    ascending = sorted(outcomes, key=lambda outcome: outcome.gpu_milli)
    return _grouped(ascending, lambda outcome: size_class(outcome.gpu_milli))


def by_priority(outcomes: Iterable[Outcome]) -> dict[str, Summary]:
    """Highest first."""
    descending = sorted(outcomes, key=lambda outcome: -outcome.priority)
    return _grouped(descending, lambda outcome: str(outcome.priority))


def by_user(outcomes: Iterable[Outcome]) -> dict[str, Summary]:
    """In the order of their names."""
    ascending = sorted(outcomes, key=lambda outcome: outcome.user_name)
    return _grouped(ascending, lambda outcome: outcome.user_name)


def _grouped(outcomes: Iterable[Outcome], group_of: Callable[[Outcome], str]) -> dict[str, Summary]:
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(group_of(outcome), []).append(outcome)
    return {name: summary(group) for name, group in found.items()}


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """And the standard deviation of the sample; 0 for a single value."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, 0.0
    return mean, (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
