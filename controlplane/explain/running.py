"""Why an experiment is where it is, and how it came to its end: from the record of decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from controlplane.domain.decision_record import DecisionRecord
from controlplane.domain.model import Experiment
from controlplane.domain.plan import DecisionKind
from controlplane.domain.snapshot import MemberPlacement
from controlplane.domain.states import State
from controlplane.explain.explanation import Explanation
from controlplane.explain.places import GpuIndexes, where
from controlplane.explain.words import Clock, counted, listed, lower_first, sentence, span

_DOES: Final = {
    State.BUILDING: "prepares its environment",
    State.STARTING: "starts",
    State.RUNNING: "runs",
}
_ENDED: Final = {
    State.FINISHED: "finished",
    State.FAILED: "failed",
    State.KILLED: "was killed",
}


def explain_running(
    experiment: Experiment,
    members: Sequence[MemberPlacement],
    records: Sequence[DecisionRecord],
    indexes: GpuIndexes,
    clock: Clock,
) -> Explanation:
    """One that holds something: `members` is what. Records are its own, oldest first."""
    place = f" on {where(members, indexes)}" if members else ""
    does = _DOES.get(experiment.state, "is")
    since = f" since {clock.at(experiment.start_time)}" if experiment.start_time else ""
    summary = f"{experiment.id} {does}{place}{since}"
    if experiment.reason or experiment.message:
        note = experiment.message or experiment.reason.replace("_", " ").lower()
        summary += f" ({lower_first(note)})"
    lines = why_there(records, clock)
    lines += _limit(experiment, clock)
    lines += history(records, clock)
    return Explanation(
        experiment.id,
        experiment.state,
        sentence(summary),
        tuple(lines),
        members=tuple(members),
        cycle_number=records[-1].cycle_number if records else 0,
        cycle_time=records[-1].time if records else None,
    )


def why_there(records: Sequence[DecisionRecord], clock: Clock) -> list[str]:
    """The decision that placed it last, and what else there was."""
    placed = [one for one in records if one.decision.kind is DecisionKind.PLACED]
    if not placed:
        return ["The decision that placed it is not on record any more."]
    record = placed[-1]
    decision = record.decision
    words = f": {lower_first(decision.message)}" if decision.message else ""
    lines = [sentence(f"It was placed there in cycle {record.cycle_number}{words}")]
    if decision.alternatives:
        lines.append("Next best were:")
        lines += [f"  {text}" for text in decision.alternatives]
    return lines


def _limit(experiment: Experiment, clock: Clock) -> list[str]:
    limit = experiment.max_duration_seconds
    if limit is None or experiment.start_time is None:
        return []
    end = experiment.start_time + limit
    own = experiment.spec.max_duration_seconds is not None
    whose = "Its max_duration" if own else f"The max_duration of queue {experiment.spec.queue}"
    return [f"{whose} of {span(limit)} ends it at {clock.at(end)} at the latest."]


def history(records: Sequence[DecisionRecord], clock: Clock) -> list[str]:
    """When it was preempted before, by whom, and what was lost; and how often it was placed."""
    lines = []
    for record in records:
        if record.decision.kind is DecisionKind.PREEMPTED:
            words = record.decision.message or "it made room for another experiment"
            lines.append(sentence(f"At {clock.at(record.time)}: {lower_first(words)}"))
    if lines:
        lines.insert(0, f"It was preempted {counted(len(lines), 'time')}:")
        lines[1:] = [f"  {line}" for line in lines[1:]]
    return lines


def explain_ended(
    experiment: Experiment,
    members: Sequence[MemberPlacement],
    records: Sequence[DecisionRecord],
    indexes: GpuIndexes,
    clock: Clock,
) -> Explanation:
    """One that has ended; `members` is what its last attempts held."""
    when = f" at {clock.at(experiment.end_time)}" if experiment.end_time else ""
    summary = f"{experiment.id} {_ENDED.get(experiment.state, 'ended')}{when}"
    note = (experiment.message or experiment.reason.replace("_", " ").lower()).partition("\n")[0]
    if note:
        summary += f": {lower_first(note)}"
    lines = []
    if experiment.start_time is not None and experiment.end_time is not None:
        ran = span(experiment.end_time - experiment.start_time)
        waited = span(experiment.start_time - experiment.create_time)
        place = f" on {where(members, indexes)}" if members else ""
        lines.append(f"It waited {waited} and ran {ran}{place}.")
        lines += why_there(records, clock)
    elif experiment.end_time is not None:
        waited = span(experiment.end_time - experiment.create_time)
        lines.append(f"It never ran; it had waited {waited}.")
    lines += history(records, clock)
    return Explanation(
        experiment.id,
        experiment.state,
        sentence(summary),
        tuple(lines),
        members=tuple(members),
        cycle_number=records[-1].cycle_number if records else 0,
        cycle_time=records[-1].time if records else None,
    )


def explain_foreign(
    experiment: Experiment, members: Sequence[MemberPlacement], indexes: GpuIndexes
) -> Explanation:
    """Somebody else's: that it exists and what it holds, and no more."""
    state = experiment.state.value
    held = f" and holds {where(members, indexes)}" if members else ""
    only = f"What else there is to know, {experiment.user_name} and admins are told."
    return Explanation(
        experiment.id,
        experiment.state,
        f"{experiment.id} is {state}{held}.",
        (only,),
        members=tuple(members),
    )


def explain_turn(experiment: Experiment, active: Sequence[str], before: int) -> Explanation:
    """A child of a set that waits for its turn. `active` are those that run or wait for a place."""
    limit = experiment.spec.concurrency
    summary = (
        f"{experiment.id} waits for its turn: at most {counted(limit, 'child', 'children')} of "
        f"{experiment.set_id} may run at once"
    )
    lines = []
    if active:
        those = "That is" if len(active) == 1 else "Those are"
        lines.append(f"{those} {listed(active)} now.")
    lines.append(
        f"{counted(before, 'child', 'children')} {'comes' if before == 1 else 'come'} before it."
        if before
        else "It is the next."
    )
    lines.append("A larger `concurrency` in riseml.yml lets more of them run at once.")
    return Explanation(experiment.id, experiment.state, sentence(summary), tuple(lines))
