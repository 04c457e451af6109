"""What would become of an experiment that is not created: place or wait, when, at whose cost."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.domain.plan import Eviction, Plan
from controlplane.domain.snapshot import GangRequest, MemberPlacement
from controlplane.domain.states import State
from controlplane.explain.explanation import Explanation, StartEstimate
from controlplane.explain.holdings import Holdings
from controlplane.explain.nodes import judge_nodes
from controlplane.explain.places import asked, gpu_indexes, where
from controlplane.explain.waiting import NODES_LISTED, Seen, never, waiting_lines
from controlplane.explain.words import Clock, counted, lower_first, sentence


def explain_plan(
    seen: Seen,
    members: Sequence[MemberPlacement],
    clock: Clock,
    estimate: StartEstimate | None = None,
    suggestions: tuple[str, ...] = (),
) -> Explanation:
    """One experiment on a snapshot in which it waits. `members`: where it was placed, if it was."""
    trace = seen.trace
    gang = trace.gang
    name = gang.experiment_id
    if members:
        place = where(members, gpu_indexes(seen.snapshot.nodes))
        lines = []
        if trace.decision is not None and trace.decision.message:
            lines.append(sentence(f"Why there: {lower_first(trace.decision.message)}"))
        if trace.decision is not None and trace.decision.alternatives:
            lines.append("Next best would be:")
            lines += [f"  {text}" for text in trace.decision.alternatives]
        return Explanation(
            name,
            State.STARTING,
            f"It would start now on {place}.",
            tuple(lines),
            members=tuple(members),
        )
    judged = judge_nodes(trace, seen.views, Holdings(seen.snapshot), clock)
    return Explanation(
        experiment_id=name,
        state=State.PENDING,
        summary=_summary(seen),
        lines=tuple(waiting_lines(seen, judged, clock, would=True)),
        reasons=trace.reasons,
        members=() if trace.reservation is None else trace.reservation.members,
        nodes=tuple([one.verdict() for one in judged[:NODES_LISTED]]),
        estimate=None if trace.impossible else estimate,
        suggestions=suggestions,
        evictions=trace.evictions,
        impossible=trace.impossible,
    )


def _summary(seen: Seen) -> str:
    trace = seen.trace
    wanted = asked(trace.gang)
    why = f": {lower_first(trace.reasons[0].message)}" if trace.reasons else ""
    if trace.impossible:
        return sentence(f"It would wait: it asks for {wanted}, and {never(trace.reasons)}")
    if trace.evictions:
        victims = counted(len(trace.evictions), "running experiment")
        return f"It would start as soon as {victims} made room for it."
    return sentence(f"It would wait for {wanted}{why}")


def placed_child(gang: GangRequest, members: tuple[MemberPlacement, ...]) -> Explanation:
    """A child of a planned set that would start now."""
    name = gang.experiment_id
    return Explanation(name, State.STARTING, f"{name} would start now.", members=members)


def waiting_child(gang: GangRequest, plan: Plan) -> Explanation:
    """A child of a planned set that would wait, by what the plan says of its shape."""
    found = next((one for one in plan.waiting if one.shape == gang.shape), None)
    return Explanation(
        gang.experiment_id,
        State.PENDING,
        f"{gang.experiment_id} would wait.",
        reasons=() if found is None else found.reasons,
        evictions=tuple(
            [one for one in plan.evictions if one.for_experiment_id == gang.experiment_id]
        ),
        impossible=found is not None and found.impossible,
    )


def explain_set_plan(
    set_id: str, child_count: int, children: Sequence[Explanation], seen: Seen, clock: Clock
) -> Explanation:
    """A set, by what would become of those of its children that may run at once."""
    started = [child for child in children if child.state is State.STARTING]
    waits = [child for child in children if child.state is not State.STARTING]
    first = f"the first {len(children)}" if len(children) < child_count else f"its {child_count}"
    many = f"{len(started)} of {first} children would start now"
    if not waits:
        many = (
            f"{first} children would start now"
            if len(children) > 1
            else "its first child would start now"
        )
    lines = []
    if started:
        indexes = gpu_indexes(seen.snapshot.nodes)
        lines += [f"{one.experiment_id} on {where(one.members, indexes)}." for one in started]
    if len(children) < child_count:
        rest = counted(child_count - len(children), "child", "children")
        lines.append(f"{rest} more would wait for their turn, by its `concurrency`.")
    if waits:
        lines.append(f"{waits[0].experiment_id}: {lower_first(waits[0].summary)}")
        lines += [line if line.startswith("  ") else f"  {line}" for line in waits[0].lines]
    evictions: list[Eviction] = [one for child in children for one in child.evictions]
    return Explanation(
        set_id,
        State.STARTING if started else State.PENDING,
        sentence(f"{many[:1].upper()}{many[1:]}"),
        tuple(lines),
        reasons=waits[0].reasons if waits else (),
        members=tuple([member for child in started for member in child.members]),
        nodes=waits[0].nodes if waits else (),
        estimate=waits[0].estimate if waits else None,
        suggestions=waits[0].suggestions if waits else (),
        evictions=tuple(evictions),
        impossible=bool(waits) and waits[0].impossible,
    )
