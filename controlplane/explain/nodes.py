"""What one node means for one experiment: what is free there, and what stands in the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from controlplane.domain.plan import PendingCode
from controlplane.domain.snapshot import GangRequest, GpuView, NodeView
from controlplane.domain.trace import DecisionTrace, GpuTrace, NodeTrace
from controlplane.explain.explanation import GpuCode, GpuVerdict, NodeVerdict
from controlplane.explain.gpus import gpu_clauses, gpu_verdict, judge_gpu
from controlplane.explain.holdings import Holdings, until
from controlplane.explain.words import Clock, gpu_kind, gpus_asked, listed, sentence, verb
from riseml.spec.model import GPU, Resources
from riseml.spec.taints import format_taint, untolerated
from riseml.spec.units import format_memory, format_milli

# What time changes, then what a person can change, then what stays as it is.
_TIERS: Final[Mapping[PendingCode, int]] = {
    PendingCode.RESERVED: 1,
    PendingCode.GPUS_UNUSABLE: 3,
    PendingCode.NODES_CLOSED: 4,
    PendingCode.TAINTED: 5,
    PendingCode.PINNED: 6,
    PendingCode.TOO_LARGE: 6,
    PendingCode.WHOLE_GPUS: 6,
    PendingCode.NO_MATCHING_GPU: 7,
    PendingCode.NO_MATCHING_LABELS: 7,
    PendingCode.NO_IMAGES: 7,
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
    """What one node means; words are made when they are asked for, for few nodes are told."""

    view: NodeView
    trace: NodeTrace
    gang: GangRequest
    wanted: Resources
    holdings: Holdings
    clock: Clock
    tier: int
    # Equal for nodes that are told together: their heads are equal then.
    alike: tuple[object, ...]
    # The lowest is of most interest.
    rank: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.view.name

    def gpus(self) -> tuple[GpuVerdict, ...]:
        """None where GPUs do not matter."""
        if not self.wanted.gpu_milli or self.tier >= _BARRED:
            return ()
        pairs = _with_traces(self.view, self.trace)
        return tuple(
            [gpu_verdict(one, gpu, self.wanted, self.holdings, self.clock) for one, gpu in pairs]
        )

    def words(self, gpus: Sequence[GpuVerdict]) -> tuple[str, tuple[str, ...]]:
        """`has 4 of 8 GPUs free`, to follow its name or `each`; and what is so of this very node:
        `2 are held by paul.17`, ...
        """
        code = _code(self.trace)
        if code is not None and self.tier >= _BARRED:
            return _barred(code, self.view, self.gang, self.wanted), ()
        return _open(self.view, self.trace, self.wanted, gpus, self.holdings, self.clock)

    def verdict(self) -> NodeVerdict:
        """With a sentence, and each GPU."""
        gpus = self.gpus()
        head, details = self.words(gpus)
        words = f"{self.name} {head}" + (f": {', '.join(details)}" if details else "")
        return NodeVerdict(self.name, self.trace.fits, sentence(words), gpus)


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
    judged.sort(key=lambda one: (one.rank, one.name))
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
    code = _code(trace)
    tier = _FITS if code is None else _TIERS.get(code, _BUSY)
    alike: tuple[object, ...]
    rank: tuple[float, ...]
    if code is not None and tier >= _BARRED:
        alike = (tier, _barred(code, view, gang, wanted))
        rank = (tier,)
    else:
        found = []
        if wanted.gpu_milli:
            found = [
                judge_gpu(one, gpu, wanted, holdings, clock.now)
                for one, gpu in _with_traces(view, trace)
            ]
        counts = Counter([gpu_code for gpu_code, _, _ in found])
        shortages = _shortages(view, trace, wanted)
        alike = (tier, code, len(found), tuple(sorted(counts.items(), key=_by_name)), *shortages)
        rank = (tier, *_distance(wanted, found))
    return JudgedNode(view, trace, gang, wanted, holdings, clock, tier, alike, rank)


def _code(trace: NodeTrace) -> PendingCode | None:
    """What stands in the way; None when nothing does."""
    return None if trace.obstacle is None or trace.fits else trace.obstacle.code


def _by_name(item: tuple[GpuCode, int]) -> str:
    return item[0].value


def _with_traces(view: NodeView, trace: NodeTrace) -> Iterator[tuple[GpuView, GpuTrace]]:
    """Each GPU with its trace; one that the trace does not speak of as the cycle began."""
    known = {one.uuid: one for one in trace.gpus}
    for one in view.gpus:
        yield one, known.get(one.gpu.uuid) or _as_seen(one)


def _as_seen(one: GpuView) -> GpuTrace:
    return GpuTrace(one.gpu.uuid, one.gpu.index, one.free_milli)


def _barred(code: PendingCode, view: NodeView, gang: GangRequest, wanted: Resources) -> str:
    match code:
        case PendingCode.NODES_CLOSED:
            return f"is closed: {view.closed_reason}" if view.closed_reason else "is closed"
        case PendingCode.TAINTED:
            taints = [
                format_taint(taint)
                for taint in view.taints
                if untolerated((taint,), gang.tolerations) is not None
            ]
            plural = "taints" if len(taints) > 1 else "taint"
            return f"has the {plural} {listed(taints)}, which it does not tolerate"
        case PendingCode.PINNED:
            return f"does not have its earlier output, which lies on {listed(gang.only_nodes)}"
        case PendingCode.WHOLE_GPUS:
            return "gives whole GPUs only: it runs pods, and its device plugin does not share GPUs"
        case PendingCode.NO_IMAGES:
            return "runs jobs as processes, not in an image"
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
    for code, whole, left, in_all in _shortages(view, trace, wanted):
        unit = {"cpu_milli": "CPUs", "memory_bytes": "memory", "shm_bytes": "/dev/shm"}[whole]
        amounts = [_amount(code, one) for one in (left, in_all, getattr(wanted, whole))]
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


def _shortages(
    view: NodeView, trace: NodeTrace, wanted: Resources
) -> list[tuple[PendingCode, str, int, int]]:
    """Of what too little is free: the field, how much is, and how much there is in all."""
    found = []
    for code, whole, free in _AMOUNTS:
        left, in_all = max(0, getattr(trace, free)), getattr(view, whole)
        if getattr(wanted, whole) > left and (in_all or code is not PendingCode.SHM_BUSY):
            found.append((code, whole, left, in_all))
    return found


def _distance(
    wanted: Resources, gpus: Sequence[tuple[GpuCode, int, float | None]]
) -> tuple[float, float]:
    """How many GPUs are missing, and when there should be enough of them."""
    if not wanted.gpu_milli:
        return 0.0, 0.0
    needed = wanted.gpu_count
    free = sum(code is GpuCode.FREE for code, _, _ in gpus)
    times = sorted([inf if time is None else time for _, _, time in gpus])
    when = times[needed - 1] if len(times) >= needed else inf
    return float(max(0, needed - free)), when
