"""The smallest changes of a request that would let it start now, found by trying each.

A change is tried by the scheduler itself on the snapshot that it decided on, with nothing but the
request changed; one that would not start at once is not told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Final

from controlplane.domain.plan import GangPlacement, PendingCode, Plan, Reservation
from controlplane.domain.snapshot import GangRequest, MemberRequest, Snapshot
from controlplane.domain.trace import DecisionTrace
from controlplane.explain.nodes import hardest
from controlplane.explain.places import gpu_indexes, where
from controlplane.explain.trial import with_gangs, without_gang
from controlplane.explain.words import gpu_kind
from controlplane.scheduler.feasibility import gpu_matches, wants_share
from riseml.spec.model import GIB, GPU, Resources
from riseml.spec.units import format_duration, format_memory, format_milli

Schedule = Callable[[Snapshot, float], Plan]

# Of one kind of change so many are tried at most, largest amount first.
TRIES_PER_KIND: Final = 8
QUEUES_TRIED: Final = 6
# Shares of a GPU that are worth asking for.
_SHARE_STEP: Final = 50
# What is told of a shorter max_duration is a round number of these.
_DURATION_STEPS: Final = (3600, 900, 300, 60)
# Between a limit and the end of a job lies its grace period.
_GRACE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Change:
    """A changed request and how a person would say it: `With 4 GPUs instead of 8`."""

    words: str
    gang: GangRequest


def suggest(
    snapshot: Snapshot,
    now: float,
    trace: DecisionTrace,
    reservations: Sequence[Reservation],
    schedule: Schedule,
    may_go_on: Callable[[], bool] = lambda: True,
) -> tuple[str, ...]:
    """What would let it start now, at most one of each kind, the smallest change first.

    `may_go_on` is asked before each try: a cycle of a large cluster takes its time.
    """
    gang = trace.gang
    rest = without_gang(snapshot, gang.experiment_id)
    indexes = gpu_indexes(snapshot.nodes)

    def first_that_works(changes: Iterator[Change]) -> str:
        for change in changes:
            if not may_go_on():
                return ""
            plan = schedule(with_gangs(rest, [change.gang]), now)
            placed = _placement(plan, gang.experiment_id)
            if placed is not None:
                return f"{change.words} it would start now on {where(placed.members, indexes)}."
        return ""

    found = [
        words
        for changes in _single(snapshot, now, trace, reservations)
        if (words := first_that_works(changes))
    ]
    if not found:
        words = first_that_works(_any_kind_and_fewer_gpus(gang))
        found = [words] if words else []
    return tuple(found)


def _placement(plan: Plan, experiment_id: str) -> GangPlacement | None:
    return next((one for one in plan.placements if one.experiment_id == experiment_id), None)


def _single(
    snapshot: Snapshot, now: float, trace: DecisionTrace, reservations: Sequence[Reservation]
) -> Iterator[Iterator[Change]]:
    """Kinds of change, those that cost the user least first."""
    gang = trace.gang
    yield _shorter(gang, now, reservations)
    yield _less_cpu(trace)
    yield _less_memory(trace)
    yield _other_kind(snapshot, gang)
    yield _fewer_labels(gang)
    yield _whole_gpu(trace)
    yield _fewer_gpus(snapshot, trace)
    yield _fewer_jobs(gang)
    yield _other_queue(snapshot, gang)


def _with(gang: GangRequest, change: Callable[[Resources], Resources]) -> GangRequest:
    members = [MemberRequest(one.job_id, change(one.resources)) for one in gang.members]
    return replace(gang, members=tuple(members))


def _each(gang: GangRequest) -> str:
    return " per job" if len(gang.members) > 1 else ""


def _shorter(
    gang: GangRequest, now: float, reservations: Sequence[Reservation]
) -> Iterator[Change]:
    """A max_duration that ends before the room is needed for somebody else."""
    ends = {
        one.start_time - now - _GRACE_SECONDS
        for one in reservations
        if one.experiment_id != gang.experiment_id and isfinite(one.start_time)
    }
    limit = gang.max_duration_seconds
    for left in sorted(ends, reverse=True)[:TRIES_PER_KIND]:
        seconds = _round_duration(left)
        if seconds <= 0 or (limit is not None and seconds >= limit):
            continue
        instead = f" instead of {format_duration(limit)}" if limit is not None else ""
        yield Change(
            f"With a max_duration of {format_duration(seconds)}{instead}",
            replace(gang, max_duration_seconds=seconds),
        )


def _round_duration(seconds: float) -> int:
    for step in _DURATION_STEPS:
        if seconds >= 4 * step:
            return int(seconds // step) * step
    return int(seconds // 60) * 60


def _less_cpu(trace: DecisionTrace) -> Iterator[Change]:
    """As much CPU as is free where nothing else is in the way."""
    wanted = hardest(trace.gang).cpu_milli
    for free in _free(trace, PendingCode.CPU_BUSY, "free_cpu_milli"):
        cpus = free // 1000 * 1000 if free >= 1000 else free // 100 * 100
        if 0 < cpus < wanted:
            words = f"With {format_milli(cpus)} CPUs{_each(trace.gang)} instead of "

            def fewer(one: Resources, cpus: int = cpus) -> Resources:
                return replace(one, cpu_milli=min(one.cpu_milli, cpus))

            yield Change(f"{words}{format_milli(wanted)}", _with(trace.gang, fewer))


def _less_memory(trace: DecisionTrace) -> Iterator[Change]:
    wanted = hardest(trace.gang).memory_bytes
    for free in _free(trace, PendingCode.MEMORY_BUSY, "free_memory_bytes"):
        step = GIB if free >= GIB else GIB // 16
        memory = free // step * step
        if 0 < memory < wanted:
            words = f"With {format_memory(memory)} of memory{_each(trace.gang)} instead of "

            def less(one: Resources, memory: int = memory) -> Resources:
                return replace(one, memory_bytes=min(one.memory_bytes, memory))

            yield Change(f"{words}{format_memory(wanted)}", _with(trace.gang, less))


def _free(trace: DecisionTrace, code: PendingCode, what: str) -> list[int]:
    """The largest amounts that are free on nodes where this is in the way, without repeats."""
    found = {
        getattr(node, what)
        for node in trace.nodes
        if node.obstacle is not None and node.obstacle.code is code
    }
    return sorted(found, reverse=True)[:TRIES_PER_KIND]


def _other_kind(snapshot: Snapshot, gang: GangRequest) -> Iterator[Change]:
    """Any model in place of one, GPUs of the next smaller memories."""
    wanted = hardest(gang)
    if wanted.gpu_model is not None:
        yield Change(
            f"With any GPU model instead of {wanted.gpu_model.replace('|', ' or ')}",
            _with(gang, lambda one: replace(one, gpu_model=None)),
        )
    if wanted.gpu_min_memory_bytes:
        sizes = {one.gpu.memory_bytes for node in snapshot.nodes for one in node.gpus}
        smaller = sorted((s for s in sizes if s < wanted.gpu_min_memory_bytes), reverse=True)
        for size in smaller[:TRIES_PER_KIND]:
            words = f"With GPUs of {format_memory(size)} instead of "

            def at_least(one: Resources, size: int = size) -> Resources:
                return replace(one, gpu_min_memory_bytes=min(one.gpu_min_memory_bytes, size))

            yield Change(
                f"{words}{format_memory(wanted.gpu_min_memory_bytes)}", _with(gang, at_least)
            )


def _fewer_labels(gang: GangRequest) -> Iterator[Change]:
    for label in gang.node_selector:
        rest = tuple([one for one in gang.node_selector if one != label])
        words = f"Without {label[0]}={label[1]} in its node_selector"
        yield Change(words, replace(gang, node_selector=rest))


def _whole_gpu(trace: DecisionTrace) -> Iterator[Change]:
    """All of a GPU in place of a share, where nodes give out whole ones only."""
    wanted = hardest(trace.gang)
    obstacles = [node.obstacle for node in trace.nodes if node.obstacle is not None]
    if wants_share(wanted) and any(one.code is PendingCode.WHOLE_GPUS for one in obstacles):
        words = f"With 1 {gpu_kind(wanted, plural=False)}{_each(trace.gang)} instead of "

        def whole(one: Resources) -> Resources:
            return replace(one, gpu_milli=GPU) if wants_share(one) else one

        yield Change(f"{words}{format_milli(wanted.gpu_milli)}", _with(trace.gang, whole))


def _fewer_gpus(snapshot: Snapshot, trace: DecisionTrace) -> Iterator[Change]:
    """The most that are free on one node first."""
    wanted = hardest(trace.gang)
    if wanted.gpu_milli <= _SHARE_STEP:
        return
    most = _most_free_gpu_milli(snapshot, trace, wanted)
    amounts = [most] if 0 < most < wanted.gpu_milli else []
    if wanted.gpu_milli > GPU:
        first = min(most, wanted.gpu_milli - GPU)
        amounts = list(range(first, 0, -GPU))[:TRIES_PER_KIND]
    for milli in amounts:
        yield _gpu_change(trace.gang, wanted, milli)


def _gpu_change(gang: GangRequest, wanted: Resources, milli: int) -> Change:
    def fewer(one: Resources) -> Resources:
        return replace(one, gpu_milli=min(one.gpu_milli, milli))

    count = format_milli(milli)
    kind = f"{gpu_kind(wanted, plural=milli > GPU)}" if milli >= GPU else "of a GPU"
    words = f"With {count} {kind}{_each(gang)} instead of {format_milli(wanted.gpu_milli)}"
    return Change(words, _with(gang, fewer))


def _most_free_gpu_milli(snapshot: Snapshot, trace: DecisionTrace, wanted: Resources) -> int:
    """Of whole GPUs as many as are free on one node; else the most that is free of one GPU."""
    views = {node.name: node for node in snapshot.nodes}
    most_whole = most_part = 0
    for node in trace.nodes:
        view = views.get(node.node_name)
        if view is None or not view.open:
            continue
        good = {one.gpu.uuid for one in view.gpus if one.usable and gpu_matches(one.gpu, wanted)}
        free = [gpu.free_milli - gpu.reserved_milli for gpu in node.gpus if gpu.uuid in good]
        most_whole = max(most_whole, GPU * sum(1 for milli in free if milli == GPU))
        most_part = max([most_part, *free])
    part = most_part // _SHARE_STEP * _SHARE_STEP
    if wanted.gpu_milli > GPU or most_whole:
        return most_whole
    return part


def _fewer_jobs(gang: GangRequest) -> Iterator[Change]:
    """Fewer of the type of which there are most; the last ones go."""
    types: dict[str, list[MemberRequest]] = {}
    for member in gang.members:
        types.setdefault(_job_type(member), []).append(member)
    name, members = max(types.items(), key=lambda item: len(item[1]))
    count = len(members)
    several = "nodes" if len(types) == 1 else f"{name} jobs"
    for fewer in range(count - 1, max(0, count - 1 - TRIES_PER_KIND), -1):
        dropped = {member.job_id for member in members[fewer:]}
        kept = tuple([one for one in gang.members if one.job_id not in dropped])
        what = several if fewer > 1 else several.removesuffix("s")
        yield Change(f"With {fewer} {what} instead of {count}", replace(gang, members=kept))


def _job_type(member: MemberRequest) -> str:
    """`worker` of `ana.17.worker.3`."""
    return member.job_id.rpartition(".")[0].rpartition(".")[2]


def _other_queue(snapshot: Snapshot, gang: GangRequest) -> Iterator[Change]:
    names = [view.queue.name for view in snapshot.queues if view.queue.name != gang.queue]
    for name in names[:QUEUES_TRIED]:
        yield Change(f"In queue {name} instead of {gang.queue}", replace(gang, queue=name))


def _any_kind_and_fewer_gpus(gang: GangRequest) -> Iterator[Change]:
    """Two changes at once, where no single one helps."""
    wanted = hardest(gang)
    if wanted.gpu_milli <= GPU or (wanted.gpu_model is None and not wanted.gpu_min_memory_bytes):
        return
    anything = _with(gang, lambda one: replace(one, gpu_model=None, gpu_min_memory_bytes=0))
    fewest = max(0, wanted.gpu_milli - GPU * (TRIES_PER_KIND + 1))
    for milli in range(wanted.gpu_milli - GPU, fewest, -GPU):
        change = _gpu_change(anything, hardest(anything), milli)
        yield Change(f"{change.words}, of any kind,", change.gang)
