"""When a gang that waits should start, as a range: the cycles to come are run in virtual time.

At the latest: all that runs or is started before it needs its whole max_duration; what names none
never ends. At the earliest: everything ends when a quarter of what is like it has ended, by what
was learned of how long experiments here really run. Nobody else is taken to come, so the range
holds as long as nothing of higher standing is submitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Final

from controlplane.domain.snapshot import Durations, RunningGang, Snapshot
from controlplane.scheduler.cycle import Scheduler
from controlplane.scheduler.policy import DEFAULT, Policy
from controlplane.scheduler.virtual import End, VirtualCluster

UNLEARNED_PARTS: Final = (0.02, 0.1, 0.3, 0.6, 1.0)
"""Of their max_duration that experiments need, as long as nothing was learned here."""

_EARLY: Final = 0.25
# Cycles that one forecast may run, and the nodes and lines that they may look at together.
_MOST_CYCLES: Final = 200
_MOST_WORK: Final = 400_000
# Ends that are closer together than this part of the time that has passed count as one.
_COARSE: Final = 0.02


@dataclass(frozen=True, slots=True)
class StartForecast:
    """Seconds since the epoch."""

    earliest: float
    # None: nothing that is known bounds it.
    latest: float | None
    # What it rests on, in words.
    basis: str


def forecast(
    snapshot: Snapshot, now: float, experiment_id: str, policy: Policy = DEFAULT
) -> StartForecast | None:
    """None if it does not wait, or if nothing can be said."""
    if all(gang.experiment_id != experiment_id for gang in snapshot.pending):
        return None
    durations = snapshot.durations
    latest = _start(snapshot, now, experiment_id, policy, lambda gang: gang.end_time)
    earliest = _start(snapshot, now, experiment_id, policy, early_end(durations, now))
    if earliest is None:
        earliest = latest
    if earliest is None:
        return None
    if latest is not None:
        earliest = min(earliest, latest)
    return StartForecast(earliest, latest, _basis(durations, latest))


def _start(
    snapshot: Snapshot, now: float, experiment_id: str, policy: Policy, end: End
) -> float | None:
    """When it starts if gangs end so; None: never, or not within the cycles that may be run."""
    cluster = VirtualCluster(snapshot, end)
    scheduler = Scheduler(replace(policy, explain=False))
    size = 1 + len(snapshot.nodes) + len(snapshot.pending.lines)
    kept: float | None = None
    time = now
    for _ in range(min(_MOST_CYCLES, 1 + _MOST_WORK // size)):
        plan = scheduler.schedule(cluster.snapshot(), time)
        if any(one.experiment_id == experiment_id for one in plan.placements):
            return time
        for one in plan.reservations:
            if one.experiment_id == experiment_id and isfinite(one.start_time):
                kept = one.start_time
        cluster.apply(plan, time)
        following = cluster.next_end(time)
        if following is None:
            return None
        time = max(following, time + _COARSE * (time - now))
        cluster.pass_until(time)
    return kept


def early_end(durations: Durations, now: float) -> End:
    """When a gang is done, if it is one of the quickest quarter of what is like it."""

    def end(gang: RunningGang) -> float | None:
        if gang.stopping_until is not None:
            return gang.stopping_until
        passed = max(0.0, now - gang.start_time)
        limit = gang.max_duration_seconds
        if limit is None:
            seconds = _early(durations.seconds, passed)
            return None if seconds is None else gang.start_time + seconds
        part = _early(durations.parts or UNLEARNED_PARTS, passed / limit if limit else 1.0)
        return gang.end_time if part is None else gang.start_time + part * limit

    return end


def _early(ordered: Sequence[float], passed: float) -> float | None:
    """Of those that needed longer than what has passed, the first quarter; None: there are none."""
    left = [value for value in ordered if value > passed]
    return left[int(_EARLY * len(left))] if left else None


def _basis(durations: Durations, latest: float | None) -> str:
    words = "by the max_duration of what is before it"
    if durations.parts:
        words += ", and how much of theirs experiments here needed lately"
    if latest is None:
        words += "; something in its way names none, or it is far off"
    return words
