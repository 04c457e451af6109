"""What one GPU means for one experiment, and many of them in one clause."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.core.gpu_words import short_reason
from controlplane.domain.model import GpuHealthName
from controlplane.domain.snapshot import GpuView
from controlplane.domain.trace import GpuTrace
from controlplane.explain.explanation import GpuCode, GpuVerdict
from controlplane.explain.holdings import Holding, Holdings, until
from controlplane.explain.words import Clock, gpu_kind, listed, verb
from controlplane.scheduler.feasibility import gpu_matches
from riseml.spec.model import GPU, Resources
from riseml.spec.units import format_memory, format_milli


def judge_gpu(
    view: GpuView, trace: GpuTrace, wanted: Resources, holdings: Holdings, now: float
) -> tuple[GpuCode, int, float | None]:
    """What one GPU means, without words: the code, what the experiment could have of it, and when
    enough of it should be free. Cheap: a large cluster has many.
    """
    if not gpu_matches(view.gpu, wanted):
        return GpuCode.OTHER_KIND, 0, None
    if not view.usable:
        return _unusable_code(view), 0, None
    needed = min(wanted.gpu_milli, GPU)
    left = max(0, trace.free_milli - trace.reserved_milli)
    if left >= needed:
        return GpuCode.FREE, left, now
    if trace.free_milli >= needed:
        return GpuCode.RESERVED, left, None
    free_time = None
    if not trace.given_to:
        free_time = _free_time(holdings.of_gpu(view.gpu.uuid), needed, now)
    return GpuCode.HELD, left, free_time


def gpu_verdict(
    view: GpuView, trace: GpuTrace, wanted: Resources, holdings: Holdings, clock: Clock
) -> GpuVerdict:
    """One GPU, as it was when the experiment's turn came."""
    gpu = view.gpu
    code, left, free_time = judge_gpu(view, trace, wanted, holdings, clock.now)
    holders = holdings.of_gpu(gpu.uuid)
    ids = tuple([one.gang.experiment_id for one in holders])
    match code:
        case GpuCode.OTHER_KIND:
            ids = ()
            kind = gpu.model or gpu.name
            size = f" with {format_memory(gpu.memory_bytes)}" if wanted.gpu_min_memory_bytes else ""
            words = f"no {gpu_kind(wanted, plural=False)} but {kind}{size}"
        case GpuCode.FREE:
            words = "free" if left == GPU else f"free to {format_milli(left)}"
        case GpuCode.RESERVED:
            ids = trace.reserved_for
            words = f"free and kept for {listed(trace.reserved_for)}"
        case GpuCode.HELD:
            words = _held(holders, trace, left, clock)
            ids = tuple(dict.fromkeys((*ids, *trace.given_to)))
        case _:
            words = _unusable(view, clock)
    return GpuVerdict(gpu.uuid, gpu.index, left, code, words, ids, free_time)


def _unusable_code(view: GpuView) -> GpuCode:
    gpu = view.gpu
    if view.probation or gpu.health == GpuHealthName.PROBATION:
        return GpuCode.PROBATION
    if gpu.health in (GpuHealthName.QUARANTINED, GpuHealthName.LOST):
        return GpuCode.QUARANTINED
    if gpu.health == GpuHealthName.HEALTHY and gpu.foreign_memory_bytes:
        return GpuCode.FOREIGN
    return GpuCode.UNKNOWN


def _unusable(view: GpuView, clock: Clock) -> str:
    """The words for a GPU that nobody may use."""
    gpu = view.gpu
    why = f" ({view.unusable_reason})" if view.unusable_reason else ""
    match _unusable_code(view):
        case GpuCode.PROBATION:
            return "in probation: it has to pass a test first"
        case GpuCode.QUARANTINED:
            if gpu.health_reason:
                since = "" if gpu.health_time is None else f", {clock.at(gpu.health_time)}"
                why = f" ({short_reason(gpu.health_reason)}{since})"
            return f"{'lost' if gpu.health == GpuHealthName.LOST else 'quarantined'}{why}"
        case GpuCode.FOREIGN:
            return view.unusable_reason or "used by a process of others"
        case _ if gpu.health == GpuHealthName.UNKNOWN:
            return f"in an unknown state{why}"
        case _:
            return f"unusable{why}"


def _held(holders: Sequence[Holding], trace: GpuTrace, left: int, clock: Clock) -> str:
    """By running experiments, and by those that this cycle gave it to."""
    given = [f"just given to {name}" for name in trace.given_to]
    shared = len(holders) + len(given) > 1 or (holders and holders[0].amount < GPU)
    if not shared:
        by = f"held by {_name(holders[0], clock)}" if holders else "held"
        return given[0] if given else by
    parts = [f"{format_milli(one.amount)} held by {_name(one, clock)}" for one in holders] + given
    if left:
        parts.append(f"{format_milli(left)} free")
    return f"shared: {listed(parts)}"


def _name(holding: Holding, clock: Clock) -> str:
    return f"{holding.gang.experiment_id}{until(holding.gang, clock)}"


def _free_time(holders: Sequence[Holding], needed: int, now: float) -> float | None:
    """When enough of it should be free; None when nothing bounds that."""
    if len(holders) == 1 and holders[0].amount == GPU:
        only = holders[0].gang.end_time
        return None if only is None else max(only, now)
    free = GPU - sum(one.amount for one in holders)
    ends = [(one.gang.end_time, one.amount) for one in holders]
    known = sorted((end, amount) for end, amount in ends if end is not None)
    for end, amount in known:
        free += amount
        if free >= needed:
            return max(end, now)
    return None


def gpu_clauses(verdicts: Sequence[GpuVerdict]) -> list[str]:
    """`2 are held by paul.17 until about 14:00`, for all that are not free; most of them first."""
    groups: dict[tuple[GpuCode, str], int] = {}
    for one in verdicts:
        if one.code is not GpuCode.FREE:
            groups[one.code, one.message] = groups.get((one.code, one.message), 0) + 1
    order = {code: place for place, code in enumerate(_ORDER)}
    ranked = sorted(groups.items(), key=lambda item: (order[item[0][0]], -item[1]))
    if len(ranked) == 1 and ranked[0][1] == len(verdicts) > 1:
        return [f"all are {ranked[0][0][1]}"]
    return [f"{count} {verb(count, 'is', 'are')} {message}" for (_, message), count in ranked]


# What time changes first.
_ORDER = (
    GpuCode.HELD,
    GpuCode.RESERVED,
    GpuCode.QUARANTINED,
    GpuCode.PROBATION,
    GpuCode.FOREIGN,
    GpuCode.UNKNOWN,
    GpuCode.OTHER_KIND,
    GpuCode.FREE,
)
