"""Why an experiment waits, in words: every node counts under what stands in the way there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import isinf
from typing import Final

from controlplane.domain.plan import PendingCode, PendingReason, Reservation
from controlplane.domain.snapshot import GangRequest, NodeView
from controlplane.scheduler.decisions import about
from controlplane.scheduler.feasibility import gpu_matches, has_labels
from controlplane.scheduler.quota import QueueAccount
from controlplane.scheduler.room import Row, largest_first
from controlplane.scheduler.timeline import Opening
from riseml.spec.gpus import models_in_words
from riseml.spec.model import GPU, Resources
from riseml.spec.taints import format_taint, untolerated
from riseml.spec.units import format_memory, format_milli

Explanation = tuple[tuple[PendingReason, ...], bool]
"""The reasons, and whether no node of this cluster could ever hold it."""

_NAMES_SHOWN: Final = 3


class _What(Enum):
    """The amount that a reason speaks of."""

    GPUS = "GPUs"
    CPUS = "CPUs"
    MEMORY = "memory"
    SHM = "shared memory"
    PORTS = "ports"
    NONE = ""


_Kind = tuple[PendingCode, _What]

# What time, other jobs or a person can change comes first; what never changes for itself last.
_IMPORTANCE: Final[Sequence[_Kind]] = (
    (PendingCode.GPUS_BUSY, _What.GPUS),
    (PendingCode.CPU_BUSY, _What.CPUS),
    (PendingCode.MEMORY_BUSY, _What.MEMORY),
    (PendingCode.SHM_BUSY, _What.SHM),
    (PendingCode.PORTS_BUSY, _What.PORTS),
    (PendingCode.GPUS_UNUSABLE, _What.GPUS),
    (PendingCode.NODES_CLOSED, _What.NONE),
    (PendingCode.TOO_LARGE, _What.GPUS),
    (PendingCode.TOO_LARGE, _What.CPUS),
    (PendingCode.TOO_LARGE, _What.MEMORY),
    (PendingCode.TOO_LARGE, _What.SHM),
    (PendingCode.NO_MATCHING_GPU, _What.NONE),
    (PendingCode.NO_MATCHING_LABELS, _What.NONE),
    (PendingCode.TAINTED, _What.NONE),
    (PendingCode.OTHER_USERS_NODE, _What.NONE),
    (PendingCode.PINNED, _What.NONE),
)
_FOR_EVER: Final = frozenset(
    {
        PendingCode.TOO_LARGE,
        PendingCode.NO_MATCHING_GPU,
        PendingCode.NO_MATCHING_LABELS,
        PendingCode.TAINTED,
        PendingCode.OTHER_USERS_NODE,
        PendingCode.PINNED,
    }
)


@dataclass(slots=True)
class _Survey:
    """One kind of member against all nodes."""

    resources: Resources
    # How many such members the gang has, find room now, and would on nodes without anything else.
    count: int
    room_now: int
    room_ever: int
    # Nodes by what stands in the way first, with what they have of it.
    obstacles: dict[_Kind, list[tuple[Row, int]]]


def explain(rows: Sequence[Row], gang: GangRequest) -> Explanation:
    """Why a gang that did not find its places waits, most important reason first."""
    total = len(rows)
    if not total:
        words = "The cluster has no node yet"
        return (PendingReason(PendingCode.NO_NODES, words),), False
    surveys = _survey_all(rows, gang)
    never = next((one for one in surveys if one.room_ever < one.count), None)
    short = never or next((one for one in surveys if one.room_now < one.count), None)
    several = len(gang.members) > 1
    if short is None:
        words = "Each of its jobs would find a place now, but not all of them at once"
        return (PendingReason(PendingCode.GANG_INCOMPLETE, words),), False
    reasons = [
        _reason(code, what, short, gang, total)
        for code, what in _IMPORTANCE
        if (code, what) in short.obstacles
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
    found = _barred(row.view, gang)
    if found is None and not row.view.open:
        found = PendingCode.NODES_CLOSED, _What.NONE, 0
    if found is None:
        ports = 1 if len(gang.members) > 1 else 0
        found = _too_small(row.view, wanted) or _busy(row, wanted, ports)
    if found is None:
        return None
    code, what, have = found
    survey = _Survey(wanted, 1, 0, 0, {(code, what): [(row, have)]})
    return _reason(code, what, survey, gang, 1, who=row.name)


def kept_on(name: str, holders: Sequence[str], short: PendingReason) -> PendingReason:
    """A node has room, but so much of it is kept for others that it is short of something."""
    words = f"Room on {name} is kept for {_list(list(dict.fromkeys(holders)))}"
    return PendingReason(PendingCode.RESERVED, words, (name,), short.needed, short.available)


# --- counting


def _survey_all(rows: Sequence[Row], gang: GangRequest) -> list[_Survey]:
    counts: dict[Resources, int] = {}
    for position in largest_first(gang):
        wanted = gang.members[position].resources
        counts[wanted] = counts.get(wanted, 0) + 1
    ports = 1 if len(gang.members) > 1 else 0
    return [_survey(rows, wanted, n, ports, gang) for wanted, n in counts.items()]


def _survey(
    rows: Sequence[Row], wanted: Resources, count: int, ports: int, gang: GangRequest
) -> _Survey:
    survey = _Survey(wanted, count, 0, 0, {})
    found: dict[int, _Finding] = {}
    for node in rows:
        room_now = 0
        obstacle = _barred(node.view, gang)
        if obstacle is None:
            state = node.state
            if state not in found:
                found[state] = _find(node, wanted, ports)
            obstacle, room_ever, room_now = found[state]
            survey.room_ever += room_ever
            if room_ever and not node.view.open:
                obstacle = PendingCode.NODES_CLOSED, _What.NONE, 0
        if obstacle is None:
            survey.room_now += min(room_now, node.free_ports) if ports else room_now
        else:
            code, what, have = obstacle
            survey.obstacles.setdefault((code, what), []).append((node, have))
    return survey


def _find(node: Row, wanted: Resources, ports: int) -> _Finding:
    obstacle = _too_small(node.view, wanted)
    if obstacle is not None:
        return obstacle, 0, 0
    room_ever = _room_when_empty(node.view, wanted)
    obstacle = _busy(node, wanted, ports)
    return obstacle, room_ever, 0 if obstacle else _room_now(node, wanted)


_Obstacle = tuple[PendingCode, _What, int]
# What stands in the way first; how many members the empty node would hold, and how many it can now.
_Finding = tuple[_Obstacle | None, int, int]


def _barred(node: NodeView, gang: GangRequest) -> _Obstacle | None:
    """What keeps a gang from this node whatever it asks for."""
    if gang.only_nodes and node.name not in gang.only_nodes:
        return PendingCode.PINNED, _What.NONE, 0
    if gang.node_selector and not has_labels(node, gang.node_selector):
        return PendingCode.NO_MATCHING_LABELS, _What.NONE, 0
    if untolerated(node.taints, gang.tolerations) is not None:
        return PendingCode.TAINTED, _What.NONE, 0
    if node.only_user and node.only_user != gang.user_name:
        return PendingCode.OTHER_USERS_NODE, _What.NONE, 0
    return None


def _too_small(node: NodeView, wanted: Resources) -> _Obstacle | None:
    """What keeps a member from this node even if nothing else ran there."""
    if wanted.gpu_milli:
        matching = sum(1 for view in node.gpus if gpu_matches(view.gpu, wanted))
        if not matching:
            return PendingCode.NO_MATCHING_GPU, _What.NONE, 0
        if matching < wanted.gpu_count:
            return PendingCode.TOO_LARGE, _What.GPUS, matching * GPU
    if wanted.cpu_milli > node.cpu_milli:
        return PendingCode.TOO_LARGE, _What.CPUS, node.cpu_milli
    if wanted.memory_bytes > node.memory_bytes:
        return PendingCode.TOO_LARGE, _What.MEMORY, node.memory_bytes
    if node.shm_bytes and wanted.shm_bytes > node.shm_bytes:
        return PendingCode.TOO_LARGE, _What.SHM, node.shm_bytes
    return None


def _busy(node: Row, wanted: Resources, ports: int) -> _Obstacle | None:
    """What keeps a member from this node now."""
    view = node.view
    if wanted.gpu_milli:
        usable = sum(1 for gpu in view.gpus if gpu.usable and gpu_matches(gpu.gpu, wanted))
        if usable < wanted.gpu_count:
            return PendingCode.GPUS_UNUSABLE, _What.GPUS, usable * GPU
        free = _free_gpu_milli(node, wanted)
        if free < wanted.gpu_milli:
            return PendingCode.GPUS_BUSY, _What.GPUS, free
    if node.free_cpu_milli < wanted.cpu_milli:
        return PendingCode.CPU_BUSY, _What.CPUS, max(0, node.free_cpu_milli)
    if node.free_memory_bytes < wanted.memory_bytes:
        return PendingCode.MEMORY_BUSY, _What.MEMORY, max(0, node.free_memory_bytes)
    if view.shm_bytes and node.free_shm_bytes < wanted.shm_bytes:
        return PendingCode.SHM_BUSY, _What.SHM, max(0, node.free_shm_bytes)
    if node.free_ports < ports:
        return PendingCode.PORTS_BUSY, _What.PORTS, max(0, node.free_ports)
    return None


def _free_gpu_milli(node: Row, wanted: Resources) -> int:
    """Of whole GPUs how many are wholly free; of a share the most that is free of one GPU."""
    free = [
        milli
        for milli, view in zip(node.gpu_free, node.view.gpus, strict=True)
        if gpu_matches(view.gpu, wanted)
    ]
    if wanted.gpu_milli < GPU:
        return max(free, default=0)
    return GPU * sum(1 for milli in free if milli == GPU)


def _room_now(node: Row, wanted: Resources) -> int:
    """How many such members find room here, at least one."""
    matching = [
        milli
        for milli, view in zip(node.gpu_free, node.view.gpus, strict=True)
        if gpu_matches(view.gpu, wanted)
    ]
    shm = node.free_shm_bytes if node.view.shm_bytes else None
    return _times(wanted, node.free_cpu_milli, node.free_memory_bytes, shm, matching)


def _room_when_empty(view: NodeView, wanted: Resources) -> int:
    """How many such members the whole node would hold, its unusable GPUs counted as usable."""
    matching = [GPU for gpu in view.gpus if gpu_matches(gpu.gpu, wanted)]
    return _times(wanted, view.cpu_milli, view.memory_bytes, view.shm_bytes or None, matching)


def _times(
    wanted: Resources,
    cpu_milli: int,
    memory_bytes: int,
    shm_bytes: int | None,
    gpus: Sequence[int],
) -> int:
    limits = []
    if wanted.cpu_milli:
        limits.append(cpu_milli // wanted.cpu_milli)
    if wanted.memory_bytes:
        limits.append(memory_bytes // wanted.memory_bytes)
    if wanted.shm_bytes and shm_bytes is not None:
        limits.append(shm_bytes // wanted.shm_bytes)
    if wanted.gpu_milli >= GPU:
        limits.append(GPU * sum(1 for milli in gpus if milli == GPU) // wanted.gpu_milli)
    elif wanted.gpu_milli:
        limits.append(sum(milli // wanted.gpu_milli for milli in gpus))
    # A member that asks for nothing fits any number of times.
    return min(limits, default=1 << 30)


# --- words


def _reason(
    code: PendingCode,
    what: _What,
    survey: _Survey,
    gang: GangRequest,
    total: int,
    who: str = "",
) -> PendingReason:
    found = survey.obstacles[code, what]
    nodes = [node for node, _ in found]
    available = max(have for _, have in found)
    needed = _needed(what, survey.resources)
    who = who or _count(len(nodes), total)
    words = _words(code, what, survey.resources, gang, nodes)
    if what is not _What.NONE:
        most = "at most " if len(nodes) > 1 else ""
        have = f"{most}{_amount(what, available)}" if available else "none"
        where = {PendingCode.TOO_LARGE: "on one node", PendingCode.GPUS_UNUSABLE: "usable"}
        words += f": {_amount(what, needed)} asked for, {have} {where.get(code, 'free')}"
    names = tuple(node.name for node in nodes)
    return PendingReason(code, f"{who} {words}", names, needed, available)


def _words(
    code: PendingCode,
    what: _What,
    wanted: Resources,
    gang: GangRequest,
    nodes: Sequence[Row],
) -> str:
    has = "has" if len(nodes) == 1 else "have"
    few = "too little" if what in (_What.MEMORY, _What.SHM) else "too few"
    unit = _gpu_words(wanted, "s") if what is _What.GPUS else what.value
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
        case PendingCode.PINNED:
            return f"{has} not its earlier output, which lies on {_list(gang.only_nodes)}"
        case _:
            return f"{has} {few} free {unit}"


def _incomplete(survey: _Survey, gang: GangRequest) -> PendingReason:
    words = (
        f"{survey.room_now} of {survey.count} jobs with {_resources(survey.resources)} find a "
        f"place now; all {len(gang.members)} of the experiment start together"
    )
    code = PendingCode.GANG_INCOMPLETE
    return PendingReason(code, words, (), survey.count, survey.room_now)


def _too_many(survey: _Survey) -> PendingReason:
    words = (
        f"The nodes that it may use hold at most {survey.room_ever} of its {survey.count} jobs "
        f"with {_resources(survey.resources)}, even when nothing else runs"
    )
    return PendingReason(PendingCode.TOO_LARGE, words, (), survey.count, survey.room_ever)


def _needed(what: _What, wanted: Resources) -> int:
    match what:
        case _What.GPUS:
            return wanted.gpu_milli
        case _What.CPUS:
            return wanted.cpu_milli
        case _What.MEMORY:
            return wanted.memory_bytes
        case _What.SHM:
            return wanted.shm_bytes
        case _What.PORTS:
            return 1
        case _What.NONE:
            return 0


def _amount(what: _What, amount: int) -> str:
    if what in (_What.MEMORY, _What.SHM):
        return format_memory(amount)
    return str(amount) if what is _What.PORTS else format_milli(amount)


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


def _unusable(nodes: Sequence[Row]) -> list[str]:
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
