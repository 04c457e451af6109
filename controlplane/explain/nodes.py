"""What one node means for one experiment: what is free there, and what stands in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from controlplane.domain.plan import PendingCode
from controlplane.domain.snapshot import GangRequest, GpuView, NodeView
from controlplane.domain.trace import DecisionTrace, GpuTrace, NodeTrace
from controlplane.explain.explanation import GpuCode, GpuVerdict, NodeVerdict
from controlplane.explain.gpus import gpu_clauses, gpu_verdict
from controlplane.explain.holdings import Holdings, until
from controlplane.explain.words import Clock, gpu_kind, gpus_asked, listed, sentence, verb
from riseml.spec.model import GPU, Resources
from riseml.spec.units import format_memory, format_milli

# What time changes, then what a person can change, then what stays as it is.
_TIERS: Final[Mapping[PendingCode, int]] = {
    PendingCode.RESERVED: 1,
    PendingCode.GPUS_UNUSABLE: 3,
    PendingCode.NODES_CLOSED: 4,
    PendingCode.TAINTED: 5,
    PendingCode.PINNED: 6,
    PendingCode.TOO_LARGE: 6,
    PendingCode.NO_MATCHING_GPU: 7,
    PendingCode.NO_MATCHING_LABELS: 7,
    PendingCode.OTHER_USERS_NODE: 7,
}
_FITS: Final = 0
_BUSY: Final = 2
# Nodes of these tiers are told in a few words: what is free there does not matter.
_BARRED: Final = 4

_AMOUNTS: Final = (
    (PendingCode.CPU_BUSY, "cpu_milli", "free_cpu_milli"),
    (PendingCode.MEMORY_BUSY, "memory_bytes", "free_memory_bytes"),
    (PendingCode.SHM_BUSY, "shm_bytes", "free_shm_bytes"),
)
_HOLDERS_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class JudgedNode:
    """A verdict with what is needed to tell it together with others."""

    verdict: NodeVerdict
    # `has 4 of 8 GPUs free`: after the node's name, or after `each`.
    head: str
    # `2 are held by paul.17`, ...: about this very node.
    details: tuple[str, ...]
    # Equal for nodes that are told together; their heads are equal then.
    alike: tuple[object, ...]
    # The lowest is of most interest.
    rank: tuple[float, ...]


def hardest(gang: GangRequest) -> Resources:
    """What the job wants that is hardest to place."""
    wanted = [member.resources for member in gang.members]
    return max(wanted, key=lambda one: (one.gpu_milli, one.memory_bytes, one.cpu_milli))


def judge_nodes(
    trace: DecisionTrace, views: Mapping[str, NodeView], holdings: Holdings, clock: Clock
) -> list[JudgedNode]:
    """Every node of a trace, those of most interest first."""
    wanted = hardest(trace.gang)
    judged = [
        judge_node(views[one.node_name], one, trace.gang, wanted, holdings, clock)
        for one in trace.nodes
        if one.node_name in views
    ]
    judged.sort(key=lambda one: (one.rank, one.verdict.node_name))
    return judged


def judge_node(
    view: NodeView,
    trace: NodeTrace,
    gang: GangRequest,
    wanted: Resources,
    holdings: Holdings,
    clock: Clock,
) -> JudgedNode:
    """One node for the hardest job of a gang."""
    code = None if trace.obstacle is None or trace.fits else trace.obstacle.code
    tier = _FITS if code is None else _TIERS.get(code, _BUSY)
    gpus: tuple[GpuVerdict, ...] = ()
    if wanted.gpu_milli:
        gpus = _judge_gpus(view, trace.gpus, wanted, holdings, clock)
    if code is not None and tier >= _BARRED:
        head = _barred(code, view, gang, wanted)
        details: tuple[str, ...] = ()
        alike: tuple[object, ...] = (tier, code, head)
        rank: tuple[float, ...] = (tier,)
    else:
        head, details = _open(view, trace, wanted, gpus, holdings, clock)
        alike = (tier, code, head, *_counts(gpus))
        rank = (tier, *_distance(wanted, gpus))
    words = f"{view.name} {head}" + (f": {', '.join(details)}" if details else "")
    verdict = NodeVerdict(view.name, trace.fits, sentence(words), gpus)
    return JudgedNode(verdict, head, details, alike, rank)


def _judge_gpus(
    view: NodeView,
    traces: Sequence[GpuTrace],
    wanted: Resources,
    holdings: Holdings,
    clock: Clock,
) -> tuple[GpuVerdict, ...]:
    known = {trace.uuid: trace for trace in traces}
    return tuple(
        [
            gpu_verdict(one, known.get(one.gpu.uuid) or _as_seen(one), wanted, holdings, clock)
            for one in view.gpus
        ]
    )


def _as_seen(one: GpuView) -> GpuTrace:
    """Of a GPU that the trace does not speak of: as the cycle began."""
    return GpuTrace(one.gpu.uuid, one.gpu.index, one.free_milli)


def _barred(code: PendingCode, view: NodeView, gang: GangRequest, wanted: Resources) -> str:
    match code:
        case PendingCode.NODES_CLOSED:
            return f"is closed: {view.closed_reason}" if view.closed_reason else "is closed"
        case PendingCode.TAINTED:
            taints = [f"{key}={value}" if value else key for key, value in _untolerated(view, gang)]
            plural = "taints" if len(taints) > 1 else "taint"
            return f"has the {plural} {listed(taints)}, which it does not tolerate"
        case PendingCode.PINNED:
            return f"does not have its earlier output, which lies on {listed(gang.only_nodes)}"
        case PendingCode.NO_MATCHING_GPU:
            return f"has no {gpu_kind(wanted, plural=False)}"
        case PendingCode.NO_MATCHING_LABELS:
            missing = [f"{key}={value}" for key, value in gang.node_selector]
            missing = [
                text
                for text, label in zip(missing, gang.node_selector, strict=True)
                if label not in view.labels
            ]
            return f"does not have the label{'s' if len(missing) > 1 else ''} {listed(missing)}"
        case PendingCode.OTHER_USERS_NODE:
            return f"runs jobs of {view.only_user} only"
        case _:
            return _too_small(view, wanted)


def _untolerated(view: NodeView, gang: GangRequest) -> list[tuple[str, str]]:
    """Taints of the node that the gang names no toleration for; an empty value tolerates all."""
    return [
        (key, value)
        for key, value in view.taints
        if (key, value) not in gang.tolerations and (key, "") not in gang.tolerations
    ]


def _too_small(view: NodeView, wanted: Resources) -> str:
    if wanted.cpu_milli > view.cpu_milli:
        have, need = format_milli(view.cpu_milli), format_milli(wanted.cpu_milli)
        return f"has {have} CPUs in all where {need} are asked for"
    if wanted.memory_bytes > view.memory_bytes:
        have, need = format_memory(view.memory_bytes), format_memory(wanted.memory_bytes)
        return f"has {have} of memory in all where {need} are asked for"
    if view.shm_bytes and wanted.shm_bytes > view.shm_bytes:
        have, need = format_memory(view.shm_bytes), format_memory(wanted.shm_bytes)
        return f"has {have} of /dev/shm in all where {need} are asked for"
    have = str(len(view.gpus))
    return f"has {have} GPUs in all where {gpus_asked(wanted)} are asked for"


def _open(
    view: NodeView,
    trace: NodeTrace,
    wanted: Resources,
    gpus: Sequence[GpuVerdict],
    holdings: Holdings,
    clock: Clock,
) -> tuple[str, tuple[str, ...]]:
    """What is free there, and who has the rest."""
    heads, details = [], []
    if wanted.gpu_milli:
        heads.append(_gpus_free(wanted, gpus))
        details += gpu_clauses(gpus)
    for code, whole, free in _AMOUNTS:
        asked, left = getattr(wanted, whole), max(0, getattr(trace, free))
        in_all = getattr(view, whole)
        if asked <= left or (code is PendingCode.SHM_BUSY and not in_all):
            continue
        unit = {"cpu_milli": "CPUs", "memory_bytes": "memory", "shm_bytes": "/dev/shm"}[whole]
        amounts = [_amount(code, amount) for amount in (left, in_all, asked)]
        of = "" if code is PendingCode.CPU_BUSY else "of "
        heads.append(f"{amounts[0]} of {amounts[1]} {of}{unit} free where {amounts[2]} are wanted")
        holders = holdings.of_node(view.name, whole)
        shown = [
            f"{one.gang.experiment_id} holds {_amount(code, one.amount)} {of}{unit}"
            f"{until(one.gang, clock)}"
            for one in holders[:_HOLDERS_SHOWN]
        ]
        if len(holders) > _HOLDERS_SHOWN:
            shown.append(f"{len(holders) - _HOLDERS_SHOWN} more hold the rest")
        details += shown
    if trace.obstacle is not None and not trace.fits:
        if trace.obstacle.code is PendingCode.PORTS_BUSY:
            heads.append("no rendezvous port free")
        elif trace.obstacle.code is PendingCode.RESERVED and not _kept(gpus):
            details.append(_lower(trace.obstacle.message))
    if not heads:
        heads.append("room for it" if trace.fits else "no room for it")
    return f"has {listed(heads, shown=len(heads))}", tuple(details)


def _kept(gpus: Sequence[GpuVerdict]) -> bool:
    return any(one.code is GpuCode.RESERVED for one in gpus)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _gpus_free(wanted: Resources, gpus: Sequence[GpuVerdict]) -> str:
    free = sum(one.code is GpuCode.FREE for one in gpus)
    if wanted.gpu_milli < GPU:
        part = format_milli(wanted.gpu_milli)
        enough = f"with {part} or more free"
        return f"no GPU {enough}" if not free else f"{free} of {len(gpus)} GPUs {enough}"
    if not free:
        return f"none of {len(gpus)} GPUs free" if len(gpus) > 1 else "its GPU not free"
    return f"{free} of {len(gpus)} {verb(len(gpus), 'GPU', 'GPUs')} free"


def _amount(code: PendingCode, amount: int) -> str:
    return format_milli(amount) if code is PendingCode.CPU_BUSY else format_memory(amount)


def _counts(gpus: Sequence[GpuVerdict]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(one.code.value for one in gpus).items()))


def _distance(wanted: Resources, gpus: Sequence[GpuVerdict]) -> tuple[float, float]:
    """How many GPUs are missing, and when there should be enough of them."""
    if not wanted.gpu_milli:
        return 0.0, 0.0
    times = sorted(inf if one.free_time is None else one.free_time for one in gpus)
    needed = wanted.gpu_count
    free = sum(one.code is GpuCode.FREE for one in gpus)
    when = times[needed - 1] if len(times) >= needed else inf
    return float(max(0, needed - free)), when
