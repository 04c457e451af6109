"""Why an experiment waits, in words: every node counts under what stands in the way there."""

from __future__ import annotations

from collections.abc import Sequence
from math import isinf
from typing import Final

from controlplane.domain.plan import PendingCode, PendingReason, Reservation
from controlplane.domain.snapshot import GangRequest
from controlplane.scheduler.decisions import about
from controlplane.scheduler.feasibility import EligibleKey, barrier_of
from controlplane.scheduler.obstacles import BARRED, Kind, Obstacle, What, busy, too_small
from controlplane.scheduler.packing import largest_first
from controlplane.scheduler.quota import QueueAccount
from controlplane.scheduler.room import Room
from controlplane.scheduler.rows import Row
from controlplane.scheduler.survey import Place, Short, Survey
from controlplane.scheduler.timeline import Opening
from riseml.spec.gpus import models_in_words
from riseml.spec.model import GPU, Resources
from riseml.spec.taints import format_taint, untolerated
from riseml.spec.units import format_memory, format_milli

Explanation = tuple[tuple[PendingReason, ...], bool]
"""The reasons, and whether no node of this cluster could ever hold it."""

_NAMES_SHOWN: Final = 3


# What time, other jobs or a person can change comes first; what never changes for itself last.
_IMPORTANCE: Final[Sequence[Kind]] = (
    (PendingCode.GPUS_BUSY, What.GPUS),
    (PendingCode.CPU_BUSY, What.CPUS),
    (PendingCode.MEMORY_BUSY, What.MEMORY),
    (PendingCode.SHM_BUSY, What.SHM),
    (PendingCode.PORTS_BUSY, What.PORTS),
    (PendingCode.GPUS_UNUSABLE, What.GPUS),
    (PendingCode.NODES_CLOSED, What.NONE),
    (PendingCode.TOO_LARGE, What.GPUS),
    (PendingCode.TOO_LARGE, What.CPUS),
    (PendingCode.TOO_LARGE, What.MEMORY),
    (PendingCode.TOO_LARGE, What.SHM),
    (PendingCode.WHOLE_GPUS, What.NONE),
    (PendingCode.NO_MATCHING_GPU, What.NONE),
    (PendingCode.NO_MATCHING_LABELS, What.NONE),
    (PendingCode.TAINTED, What.NONE),
    (PendingCode.NO_IMAGES, What.NONE),
    (PendingCode.OTHER_USERS_NODE, What.NONE),
    (PendingCode.PINNED, What.NONE),
)
_FOR_EVER: Final = frozenset(
    {
        PendingCode.TOO_LARGE,
        PendingCode.WHOLE_GPUS,
        PendingCode.NO_MATCHING_GPU,
        PendingCode.NO_MATCHING_LABELS,
        PendingCode.TAINTED,
        PendingCode.NO_IMAGES,
        PendingCode.OTHER_USERS_NODE,
        PendingCode.PINNED,
    }
)


def explain(room: Room, gang: GangRequest) -> Explanation:
    """Why a gang that did not find its places waits, most important reason first, whatever is held
    for others.
    """
    total = room.size
    if not total:
        words = "The cluster has no node yet"
        return (PendingReason(PendingCode.NO_NODES, words),), False
    surveys = room.surveys(gang)
    never = next((one for one in surveys if one.room_ever < one.count), None)
    short = never or next((one for one in surveys if one.room_now < one.count), None)
    several = len(gang.members) > 1
    if short is None:
        words = "Each of its jobs would find a place now, but not all of them at once"
        return (PendingReason(PendingCode.GANG_INCOMPLETE, words),), False
    reasons = [
        _reason(code, what, short.resources, gang, found, _count(len(found.nodes), total))
        for code, what in _IMPORTANCE
        if (found := short.obstacles.get((code, what))) is not None
    ]
    if never is not None:
        reasons.sort(key=lambda reason: reason.code not in _FOR_EVER)
        if short.room_ever:
            reasons.insert(0, _too_many(short))
    elif several:
        reasons.insert(0, _incomplete(short, gang))
    return tuple(reasons), never is not None


def reserved(kept: Reservation, waited_seconds: float, now: float) -> PendingReason:
    """There is room, but it is kept for another, who has waited so long."""
    words = f"The room there is on {_list(kept.node_names)} is kept for {kept.experiment_id}"
    if isinf(kept.start_time):
        words += f", which has waited for {about(waited_seconds)}"
    else:
        words += f", which starts in {about(kept.start_time - now)} at the latest"
    return PendingReason(PendingCode.RESERVED, words, kept.node_names)


def behind(first: GangRequest) -> PendingReason:
    """Nobody may pass the first that does not fit."""
    return PendingReason(
        PendingCode.RESERVED, f"It waits for its turn, after {first.experiment_id}"
    )


def queue_limit(queue: QueueAccount, wanted_milli: int) -> tuple[PendingReason, bool]:
    """Its queue may not hold so much more; and whether it never may."""
    limit = queue.queue.limit_gpu_milli or 0
    name, held = queue.queue.name, queue.held.gpu_milli
    words = f"Queue {name} may hold {format_milli(limit)} GPUs at once: "
    if wanted_milli > limit:
        words += f"this experiment asks for {format_milli(wanted_milli)}"
    else:
        words += f"it holds {format_milli(held)}, and this experiment asks for "
        words += format_milli(wanted_milli)
        if held + wanted_milli <= limit:
            words += "; what is left is kept for one that has waited longer"
    left = max(0, limit - held)
    reason = PendingReason(PendingCode.QUEUE_LIMIT, words, (), wanted_milli, left)
    return reason, wanted_milli > limit


def preempting(gang: GangRequest, opening: Opening, now: float) -> PendingReason | None:
    """Others are being stopped for it; None if nobody is."""
    leaving = [one for one in opening.waits_for if one.stopping_for == gang.experiment_id]
    if not leaving:
        return None
    names = _list([one.experiment_id for one in leaving])
    verb = "makes" if len(leaving) == 1 else "make"
    words = f"{names} {verb} room for it, within {about(opening.time - now)}"
    nodes = tuple(dict.fromkeys(member.node_name for member in opening.members))
    return PendingReason(PendingCode.PREEMPTING, words, nodes)


def obstacle_on(row: Row, gang: GangRequest) -> PendingReason | None:
    """What keeps the hardest of a gang's jobs from one node, whatever is kept for others."""
    wanted = gang.members[largest_first(gang)[0]].resources
    barrier = barrier_of(row.view, EligibleKey.of(gang))
    found: Obstacle | None = (*BARRED[barrier], 0) if barrier else None
    if found is None and not row.view.open:
        found = PendingCode.NODES_CLOSED, What.NONE, 0
    if found is None:
        ports = 1 if len(gang.members) > 1 else 0
        found = too_small(row.view, wanted) or busy(row, wanted, ports)
    if found is None:
        return None
    code, what, have = found
    return _reason(code, what, wanted, gang, Short((row,), (row.name,), have), row.name)


def kept_on(name: str, holders: Sequence[str], short: PendingReason) -> PendingReason:
    """A node has room, but so much of it is kept for others that it is short of something."""
    words = f"Room on {name} is kept for {_list(list(dict.fromkeys(holders)))}"
    return PendingReason(PendingCode.RESERVED, words, (name,), short.needed, short.available)


# --- words


def _reason(
    code: PendingCode, what: What, wanted: Resources, gang: GangRequest, found: Short, who: str
) -> PendingReason:
    nodes, available = found.nodes, found.available
    needed = _needed(what, wanted)
    words = _words(code, what, wanted, gang, nodes)
    if what is not What.NONE:
        most = "at most " if len(nodes) > 1 else ""
        have = f"{most}{_amount(what, available)}" if available else "none"
        where = {PendingCode.TOO_LARGE: "on one node", PendingCode.GPUS_UNUSABLE: "usable"}
        words += f": {_amount(what, needed)} asked for, {have} {where.get(code, 'free')}"
    return PendingReason(code, f"{who} {words}", found.names, needed, available)


def _words(
    code: PendingCode,
    what: What,
    wanted: Resources,
    gang: GangRequest,
    nodes: Sequence[Place],
) -> str:
    has = "has" if len(nodes) == 1 else "have"
    few = "too little" if what in (What.MEMORY, What.SHM) else "too few"
    unit = _gpu_words(wanted, "s") if what is What.GPUS else what.value
    match code:
        case PendingCode.GPUS_BUSY if wanted.gpu_milli < GPU:
            return f"{has} no {_gpu_words(wanted)} with enough of it free"
        case PendingCode.TOO_LARGE:
            return f"{has} {few} {unit} in all"
        case PendingCode.GPUS_UNUSABLE:
            return f"{has} too few usable {unit} ({_list(_unusable(nodes))})"
        case PendingCode.NODES_CLOSED:
            is_closed = "is closed" if len(nodes) == 1 else "are closed"
            return f"{is_closed} ({_list([f'{n.name} {n.view.closed_reason}' for n in nodes])})"
        case PendingCode.WHOLE_GPUS:
            gives = "gives" if len(nodes) == 1 else "give"
            return f"{gives} whole GPUs only, where {format_milli(wanted.gpu_milli)} is asked for"
        case PendingCode.NO_MATCHING_GPU:
            return f"{has} no {_gpu_words(wanted)}"
        case PendingCode.NO_MATCHING_LABELS:
            labels = [f"{key}={value}" for key, value in gang.node_selector]
            return f"{has} not the label{'s' if len(labels) > 1 else ''} {', '.join(labels)}"
        case PendingCode.TAINTED:
            found = [untolerated(node.view.taints, gang.tolerations) for node in nodes]
            taints = sorted({format_taint(taint) for taint in found if taint is not None})
            plural = "s" if len(taints) > 1 else ""
            return f"{has} the taint{plural} {_list(taints)}, which it does not tolerate"
        case PendingCode.OTHER_USERS_NODE:
            users = sorted({node.view.only_user for node in nodes})
            return f"only {'runs' if len(nodes) == 1 else 'run'} jobs of {_list(users)}"
        case PendingCode.NO_IMAGES:
            runs = "runs" if len(nodes) == 1 else "run"
            return f"{runs} jobs as processes, not in an image"
        case PendingCode.PINNED:
            return f"{has} not its earlier output, which lies on {_list(gang.only_nodes)}"
        case _:
            return f"{has} {few} free {unit}"


def _incomplete(survey: Survey, gang: GangRequest) -> PendingReason:
    words = (
        f"{survey.room_now} of {survey.count} jobs with {_resources(survey.resources)} find a "
        f"place now; all {len(gang.members)} of the experiment start together"
    )
    code = PendingCode.GANG_INCOMPLETE
    return PendingReason(code, words, (), survey.count, survey.room_now)


def _too_many(survey: Survey) -> PendingReason:
    words = (
        f"The nodes that it may use hold at most {survey.room_ever} of its {survey.count} jobs "
        f"with {_resources(survey.resources)}, even when nothing else runs"
    )
    return PendingReason(PendingCode.TOO_LARGE, words, (), survey.count, survey.room_ever)


def _needed(what: What, wanted: Resources) -> int:
    match what:
        case What.GPUS:
            return wanted.gpu_milli
        case What.CPUS:
            return wanted.cpu_milli
        case What.MEMORY:
            return wanted.memory_bytes
        case What.SHM:
            return wanted.shm_bytes
        case What.PORTS:
            return 1
        case What.NONE:
            return 0


def _amount(what: What, amount: int) -> str:
    if what in (What.MEMORY, What.SHM):
        return format_memory(amount)
    return str(amount) if what is What.PORTS else format_milli(amount)


def _gpu_words(wanted: Resources, plural: str = "") -> str:
    model = models_in_words(wanted.gpu_model) + " " if wanted.gpu_model else ""
    words = f"{model}GPU{plural}"
    if wanted.gpu_min_memory_bytes:
        words += f" of {format_memory(wanted.gpu_min_memory_bytes)} or more"
    return words


def _resources(wanted: Resources) -> str:
    parts = [f"{format_milli(wanted.cpu_milli)} CPUs", format_memory(wanted.memory_bytes)]
    if wanted.gpu_milli:
        plural = "" if wanted.gpu_milli == GPU else "s"
        parts.insert(0, f"{format_milli(wanted.gpu_milli)} {_gpu_words(wanted, plural)}")
    return ", ".join(parts)


def _unusable(nodes: Sequence[Place]) -> list[str]:
    return [
        f"{node.name} GPU {view.gpu.index}: {view.unusable_reason}"
        for node in nodes
        for view in node.view.gpus
        if not view.usable
    ]


def _count(some: int, total: int) -> str:
    if some < total:
        return f"{some} of {total} nodes"
    return "The only node" if total == 1 else f"All {total} nodes"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
