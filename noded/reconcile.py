"""What to do when a session opens: the difference between what should run here and what does.

Pure. The control plane's Welcome is the whole truth about what should run; attempts are known by
their ids, so doing
the same twice is harmless. What runs and should run is left alone, whatever happened to either
side meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

NOT_DESIRED = "not_desired"


@dataclass(frozen=True, slots=True)
class Desired:
    """An attempt that should run here. `build_attempt_id` is the build that it may be waiting
    for."""

    attempt_id: str
    build_attempt_id: str = ""


@dataclass(frozen=True, slots=True)
class StopOrder:
    """An attempt is to be stopped. Grace None: as its order says; 0: at once."""

    attempt_id: str
    reason: str
    grace_milliseconds: int | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """An attempt that this node knows."""

    attempt_id: str
    ended: bool = False
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """It is missing: start it."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """It should not run, or no longer."""

    order: StopOrder


@dataclass(frozen=True, slots=True)
class Forget:
    """Its end is recorded: it may go once its logs are shipped."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class ReportNeverStarted:
    """It is being stopped and never came here: say that it ended."""

    order: StopOrder


Action = Start | Stop | Forget | ReportNeverStarted


def reconcile(
    desired: Sequence[Desired],
    stopping: Iterable[StopOrder],
    forget: Iterable[str],
    observed: Mapping[str, Observed],
) -> tuple[Action, ...]:
    """The actions that bring this node to what is desired: first stops, then forgetting, then
    starts in order."""
    stop_orders = {order.attempt_id: order for order in stopping}
    forgotten = frozenset(forget)
    wanted = {d.attempt_id for d in desired} | {
        d.build_attempt_id for d in desired if d.build_attempt_id
    }
    stops: list[Action] = []
    for attempt_id, seen in observed.items():
        if seen.ended or seen.stopping:
            continue
        order = stop_orders.get(attempt_id)
        if order is None and (attempt_id not in wanted or attempt_id in forgotten):
            order = StopOrder(attempt_id, NOT_DESIRED)
        if order is not None:
            stops.append(Stop(order))
    never = [
        ReportNeverStarted(order)
        for attempt_id, order in stop_orders.items()
        if attempt_id not in observed and attempt_id not in forgotten
    ]
    forgets = [Forget(i) for i in sorted(forgotten) if i in observed and observed[i].ended]
    starts = [
        Start(d.attempt_id)
        for d in desired
        if d.attempt_id not in observed
        and d.attempt_id not in stop_orders
        and d.attempt_id not in forgotten
    ]
    return (*stops, *never, *forgets, *starts)
