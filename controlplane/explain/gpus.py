"""What one GPU means for one experiment, and many of them in one clause."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.core.gpu_words import short_reason
from controlplane.domain.model import Gpu, GpuHealthName
from controlplane.domain.snapshot import GpuView
from controlplane.domain.trace import GpuTrace
from controlplane.explain.explanation import GpuCode, GpuVerdict
from controlplane.explain.holdings import Holding, Holdings, until
from controlplane.explain.words import Clock, gpu_kind, listed, verb
from controlplane.scheduler.feasibility import gpu_matches
from riseml.spec.model import GPU, Resources
from riseml.spec.units import format_memory, format_milli


def gpu_verdict(
    view: GpuView, trace: GpuTrace, wanted: Resources, holdings: Holdings, clock: Clock
) -> GpuVerdict:
    """One GPU, as it was when the experiment's turn came."""
    gpu = view.gpu
    if not gpu_matches(gpu, wanted):
        kind = gpu.model or gpu.name
        size = f" with {format_memory(gpu.memory_bytes)}" if wanted.gpu_min_memory_bytes else ""
        words = f"no {gpu_kind(wanted, plural=False)} but {kind}{size}"
        return GpuVerdict(gpu.uuid, gpu.index, 0, GpuCode.OTHER_KIND, words)
    holders = holdings.of_gpu(gpu.uuid)
    ids = tuple([one.gang.experiment_id for one in holders])
    if not view.usable:
        code, words = _unusable(view, clock)
        return GpuVerdict(gpu.uuid, gpu.index, 0, code, words, ids)
    needed = min(wanted.gpu_milli, GPU)
    left = max(0, trace.free_milli - trace.reserved_milli)
    if left >= needed:
        words = "free" if left == GPU else f"free to {format_milli(left)}"
        return GpuVerdict(gpu.uuid, gpu.index, left, GpuCode.FREE, words, ids, clock.now)
    if trace.free_milli >= needed:
        words = f"free and kept for {listed(trace.reserved_for)}"
        return GpuVerdict(gpu.uuid, gpu.index, left, GpuCode.RESERVED, words, trace.reserved_for)
    words = _held(holders, trace, left, clock)
    everybody = tuple(dict.fromkeys((*ids, *trace.given_to)))
    free_time = None if trace.given_to else _free_time(holders, needed, clock)
    return GpuVerdict(gpu.uuid, gpu.index, left, GpuCode.HELD, words, everybody, free_time)


def _unusable(view: GpuView, clock: Clock) -> tuple[GpuCode, str]:
    """The code and the words for a GPU that nobody may use."""
    gpu = view.gpu
    if gpu.health in (GpuHealthName.QUARANTINED, GpuHealthName.LOST) and gpu.health_reason:
        since = "" if gpu.health_time is None else f", {clock.at(gpu.health_time)}"
        lost = gpu.health == GpuHealthName.LOST
        words = f"{'lost' if lost else 'quarantined'} ({short_reason(gpu.health_reason)}{since})"
        return GpuCode.QUARANTINED, words
    why = f" ({view.unusable_reason})" if view.unusable_reason else ""
    if view.probation or gpu.health == GpuHealthName.PROBATION:
        return GpuCode.PROBATION, "in probation: it has to pass a test first"
    if gpu.health == GpuHealthName.QUARANTINED:
        return GpuCode.QUARANTINED, f"quarantined{why}"
    if gpu.health == GpuHealthName.LOST:
        return GpuCode.QUARANTINED, f"lost{why}"
    if gpu.health == GpuHealthName.UNKNOWN:
        return GpuCode.UNKNOWN, f"in an unknown state{why}"
    if gpu.foreign_processes or gpu.foreign_memory_bytes:
        return GpuCode.FOREIGN, _foreign(gpu)
    return GpuCode.UNKNOWN, f"unusable{why}"


def _foreign(gpu: Gpu) -> str:
    held = f" ({format_memory(gpu.foreign_memory_bytes)})" if gpu.foreign_memory_bytes else ""
    if not gpu.foreign_processes:
        return f"used by a process that RiseML did not start{held}"
    named = [
        f"process {process.pid}" + (f" of user {process.user_name}" if process.user_name else "")
        for process in gpu.foreign_processes
    ]
    return f"used by {listed(named)} that RiseML did not start{held}"


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


def _free_time(holders: Sequence[Holding], needed: int, clock: Clock) -> float | None:
    """When enough of it should be free; None when nothing bounds that."""
    free = GPU - sum(one.amount for one in holders)
    ends = [(one.gang.end_time, one.amount) for one in holders]
    known = sorted((end, amount) for end, amount in ends if end is not None)
    for end, amount in known:
        free += amount
        if free >= needed:
            return max(end, clock.now)
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
