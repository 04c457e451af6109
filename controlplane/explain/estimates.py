"""What was foretold of starts, and how far it was off: the estimator's own record.

An estimate is a range of time. Its error is how far outside of the range the start came, 0 within;
of a range without an end, how far the start was from its beginning, either way. In memory only, and
bounded.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from typing import Final

from controlplane.explain.explanation import StartEstimate

# Of one experiment an estimate is remembered at most so often, and so many of them.
SPACING_SECONDS: Final = 60.0
KEPT_PER_EXPERIMENT: Final = 16
# Experiments with estimates that have not started.
KEPT_OPEN: Final = 4096
# Errors of the past.
KEPT_ERRORS: Final = 1024


@dataclass(frozen=True, slots=True)
class _Foretold:
    at: float
    earliest_time: float
    latest_time: float | None


class EstimateBook:
    """Remembers estimates and compares them with what came."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, deque[_Foretold]] = OrderedDict()
        self._errors: deque[float] = deque(maxlen=KEPT_ERRORS)

    def foretold(
        self, experiment_id: str, now: float, earliest_time: float, latest_time: float | None
    ) -> None:
        """An estimate was told to somebody, or room was kept from a time on."""
        known = self._open.get(experiment_id)
        if known is None:
            known = self._open[experiment_id] = deque(maxlen=KEPT_PER_EXPERIMENT)
            while len(self._open) > KEPT_OPEN:
                self._open.popitem(last=False)
        if not known or now - known[-1].at >= SPACING_SECONDS:
            known.append(_Foretold(now, earliest_time, latest_time))

    def started(self, experiment_id: str, now: float) -> None:
        """It has its places: each estimate of it has an error now."""
        for one in self._open.pop(experiment_id, ()):
            self._errors.append(_error(one, now))

    def given_up(self, experiment_id: str) -> None:
        """It ended without having started: nothing can be said of its estimates."""
        self._open.pop(experiment_id, None)

    def with_past(self, estimate: StartEstimate) -> StartEstimate:
        """The estimate with how good earlier ones were."""
        errors = sorted(self._errors)
        if not errors:
            return estimate
        return replace(
            estimate,
            past_count=len(errors),
            past_median_error_seconds=_quantile(errors, 0.5),
            past_p90_error_seconds=_quantile(errors, 0.9),
        )


def _error(told: _Foretold, start: float) -> float:
    if told.latest_time is None:
        return abs(start - told.earliest_time)
    return max(0.0, told.earliest_time - start, start - told.latest_time)


def _quantile(ordered: list[float], part: float) -> float:
    """The smallest value that at least this part of them does not exceed."""
    place = min(len(ordered) - 1, max(0, -(-len(ordered) * part // 1) - 1))
    return ordered[int(place)]
