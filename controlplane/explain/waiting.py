"""Why an experiment waits, from the trace of the cycle that left it waiting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final

from controlplane.domain.plan import Eviction, PendingCode, PendingReason, Reservation
from controlplane.domain.snapshot import MemberPlacement, NodeView, Snapshot
from controlplane.domain.states import State
from controlplane.domain.trace import DecisionTrace
from controlplane.explain.explanation import Explanation, StartEstimate
from controlplane.explain.groups import told
from controlplane.explain.holdings import Holdings
from controlplane.explain.nodes import JudgedNode, judge_nodes
from controlplane.explain.places import asked
from controlplane.explain.words import (
    Clock,
    counted,
    gpu_time,
    listed,
    lower_first,
    sentence,
    span,
)
from riseml.spec.model import GPU
from riseml.spec.units import format_milli

# Reasons that the lines on the nodes tell anyway, and better.
_OF_NODES: Final = frozenset(
    {
        PendingCode.NODES_CLOSED,
        PendingCode.NO_MATCHING_LABELS,
        PendingCode.NO_MATCHING_GPU,
        PendingCode.WHOLE_GPUS,
        PendingCode.NO_IMAGES,
        PendingCode.OTHER_USERS_NODE,
        PendingCode.TOO_LARGE,
        PendingCode.CPU_BUSY,
        PendingCode.MEMORY_BUSY,
        PendingCode.SHM_BUSY,
        PendingCode.GPUS_BUSY,
        PendingCode.GPUS_UNUSABLE,
        PendingCode.PORTS_BUSY,
        PendingCode.PINNED,
        PendingCode.TAINTED,
    }
)
NODES_LISTED: Final = 200
"""As many verdicts on nodes an explanation has at most; words tell of all of them."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a cycle saw of one experiment."""

    snapshot: Snapshot
    # The cycle's `now`.
    now: float
    trace: DecisionTrace
    # All that the cycle made, whoever they are for.
    reservations: tuple[Reservation, ...] = ()
    # 0: no cycle of the cluster but a trial on this snapshot.
    number: int = 0
    # Why the placement that the cycle made for it was not applied; "" if it made none.
    rejected: str = ""

    @property
    def views(self) -> dict[str, NodeView]:
        return {node.name: node for node in self.snapshot.nodes}


def explain_waiting(
    seen: Seen,
    clock: Clock,
    estimate: StartEstimate | None = None,
    suggestions: tuple[str, ...] = (),
) -> Explanation:
    """An experiment that is PENDING."""
    trace = seen.trace
    judged = judge_nodes(trace, seen.views, Holdings(seen.snapshot), clock)
    return Explanation(
        experiment_id=trace.gang.experiment_id,
        state=State.PENDING,
        summary=_summary(seen, clock),
        lines=tuple(waiting_lines(seen, judged, clock)),
        reasons=trace.reasons,
        members=_kept_members(trace),
        nodes=tuple([one.verdict() for one in judged[:NODES_LISTED]]),
        estimate=None if trace.impossible else estimate,
        suggestions=suggestions,
        evictions=trace.evictions,
        impossible=trace.impossible,
        cycle_number=seen.number,
        cycle_time=seen.now,
    )


def _kept_members(trace: DecisionTrace) -> tuple[MemberPlacement, ...]:
    return () if trace.reservation is None else trace.reservation.members


def _summary(seen: Seen, clock: Clock) -> str:
    trace = seen.trace
    gang = trace.gang
    name, wanted = gang.experiment_id, asked(gang)
    waited = span(clock.now - gang.submit_time)
    why = lower_first(trace.reasons[0].message) if trace.reasons else ""
    if trace.impossible:
        return sentence(f"{name} asks for {wanted}, and {never(trace.reasons)}")
    if trace.decision is not None and seen.rejected:
        return sentence(
            f"{name} was to start, but the cluster had changed meanwhile: {seen.rejected}. "
            "It is tried again"
        )
    if trace.evictions or _has(trace.reasons, PendingCode.PREEMPTING):
        # Those that this cycle stops have lines of their own.
        by_others = not trace.evictions and trace.reasons[0].code is PendingCode.PREEMPTING
        told = why if by_others else ""
        return sentence(
            f"{name} starts as soon as others have made room for it" + (f": {told}" if told else "")
        )
    if why and trace.reasons[0].code is PendingCode.RESERVED:
        return sentence(f"{name} waits although there is room for it: {why}")
    return sentence(f"{name} has waited {waited} for {wanted}" + (f": {why}" if why else ""))


def never(reasons: Sequence[PendingReason]) -> str:
    """Why something can never start, to follow `and`: the nodes, or the limit of its queue."""
    why = f": {lower_first(reasons[0].message)}" if reasons else ""
    if reasons and reasons[0].code is PendingCode.QUEUE_LIMIT:
        return f"its queue may never hold so much{why}. It waits in case that changes"
    return f"no node of this cluster could ever hold it{why}. It waits in case that changes"


def _has(reasons: Sequence[PendingReason], code: PendingCode) -> bool:
    return any(reason.code is code for reason in reasons)


def waiting_lines(
    seen: Seen, judged: Sequence[JudgedNode], clock: Clock, *, would: bool = False
) -> list[str]:
    """All but the summary: what else stands in the way, who makes room, nodes, the order.

    `would`: of an experiment that is not created.
    """
    trace = seen.trace
    rest = trace.reasons[1:] if judged else trace.reasons
    lines = [
        sentence(reason.message) for reason in rest if not judged or reason.code not in _OF_NODES
    ]
    lines += eviction_lines(trace.evictions, seen.snapshot, clock, would=would)
    if trace.reservation is not None:
        lines.append(_own_reservation(trace.reservation, clock, would))
    lines += told(judged)
    lines += _others_reservations(seen, judged, clock)
    lines += _order_lines(trace, would)
    return lines


def eviction_lines(
    evictions: Sequence[Eviction], snapshot: Snapshot, clock: Clock, *, would: bool = False
) -> list[str]:
    """Who has to make room, until when, and what is lost."""
    running = {gang.experiment_id: gang for gang in snapshot.running}
    lines = []
    for eviction in evictions:
        gang = running.get(eviction.experiment_id)
        text = f"{eviction.experiment_id} {'would make' if would else 'makes'} room for it"
        if gang is not None:
            gone = clock.at(clock.now + gang.grace_period_seconds)
            text += f" and {'be' if would else 'is'} gone by {gone}"
        lines.append(f"{text} (lost: {gpu_time(eviction.lost_gpu_seconds)}).")
    return lines


def _own_reservation(kept: Reservation, clock: Clock, would: bool) -> str:
    where = listed(kept.node_names) if kept.node_names else "the cluster"
    is_kept = "would be kept" if would else "is kept"
    if not isfinite(kept.start_time):
        return (
            f"What becomes free on {where} {is_kept} for it; nobody knows when that will be "
            "enough, for some that run there name no max_duration."
        )
    return (
        f"Room {is_kept} for it on {where} from about {clock.at(kept.start_time)} on; until then "
        "others use it only if they end before."
    )


def _others_reservations(seen: Seen, judged: Sequence[JudgedNode], clock: Clock) -> list[str]:
    """Until when what is kept for others is kept, where that is in the way."""
    known: Mapping[str, Reservation] = {one.experiment_id: one for one in seen.reservations}
    named = [
        name
        for node in seen.trace.nodes
        for gpu in node.gpus
        if gpu.reserved_milli
        for name in gpu.reserved_for
    ]
    if _has(seen.trace.reasons, PendingCode.RESERVED):
        named += known
    lines = []
    for name in dict.fromkeys(named):
        kept = known.get(name)
        if kept is None or name == seen.trace.gang.experiment_id:
            continue
        where = listed(kept.node_names) if kept.node_names else "the cluster"
        if isfinite(kept.start_time):
            when = f"which should start at about {clock.at(kept.start_time)}"
        else:
            when = "which has waited long; nobody can say when it starts"
        lines.append(f"Room on {where} is kept for {name}, {when}.")
    return lines


def _order_lines(trace: DecisionTrace, would: bool) -> list[str]:
    order, gang = trace.order, trace.gang
    who = counted(order.before, "experiment") if order.before else "Nobody"
    came = f"{who} would come before it" if would else f"{who} came before it in this cycle"
    if order.before_in_queue < order.before:
        came += f", {order.before_in_queue} of its own queue"
    held = format_milli(order.queue_held.gpu_milli)
    queue = (
        f"Queue {gang.queue} held {held} {'GPU' if order.queue_held.gpu_milli == GPU else 'GPUs'}, "
        f"{_percent(order.queue_share)} of the cluster; its weight of {order.queue_weight} "
        f"entitles it to {_percent(order.queue_fair_share)}"
    )
    lines = [f"{came}. {queue}."]
    if order.user_recent_seconds >= 60:
        lines.append(
            f"{gang.user_name} lately used as much as the whole cluster in "
            f"{span(order.user_recent_seconds)}; of equal priority those who used less come first."
        )
    return lines


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"
