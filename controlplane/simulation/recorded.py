"""A recorded cycle once more: what the scheduler that is installed answers to the same picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controlplane.domain.plan import Plan
from controlplane.domain.recording import Recording
from controlplane.scheduler.cycle import schedule
from controlplane.scheduler.policy import Policy


@dataclass(frozen=True, slots=True)
class Again:
    """The recorded plan and today's."""

    recording: Recording
    plan: Plan

    @property
    def differences(self) -> tuple[str, ...]:
        """In words, one for each experiment that fares differently; () if nobody asked before."""
        before = self.recording.plan
        if before is None:
            return ()
        return tuple(_differences(before, self.plan))


def again(recording: Recording, policy: Policy) -> Again:
    """Plans what was recorded."""
    return Again(recording, schedule(recording.snapshot, recording.now, policy))


def values(found: Again) -> dict[str, Any]:
    """For JSON."""
    recording, plan = found.recording, found.plan
    return {
        "number": recording.number,
        "now": recording.now,
        "nodes": len(recording.snapshot.nodes),
        "waiting": len(recording.snapshot.pending),
        "running": len(recording.snapshot.running),
        "placements": {
            one.experiment_id: [member.node_name for member in one.members]
            for one in plan.placements
        },
        "evictions": {one.experiment_id: one.reason for one in plan.evictions},
        "reservations": {one.experiment_id: one.start_time for one in plan.reservations},
        "compared": recording.plan is not None,
        "differences": list(found.differences),
    }


def text(shown: dict[str, Any]) -> str:
    """Of what `values` made."""
    lines = [
        f"cycle {shown['number']}: {shown['nodes']} nodes, {shown['running']} running, "
        f"{shown['waiting']} waiting"
    ]
    for name, nodes in shown["placements"].items():
        lines.append(f"{name} starts on {', '.join(dict.fromkeys(nodes))}")
    for name, reason in shown["evictions"].items():
        lines.append(f"{name} makes room: {reason}")
    for name, start in shown["reservations"].items():
        when = "" if start == float("inf") else f" in {max(0.0, start - shown['now']):.0f} s"
        lines.append(f"room is kept for {name}{when}")
    if not shown["compared"]:
        lines.append("the recording has no plan to compare with")
    elif shown["differences"]:
        lines += ["this is not the recorded plan:", *shown["differences"]]
    else:
        lines.append("the same plan as recorded")
    return "\n".join(lines)


def _differences(before: Plan, now: Plan) -> list[str]:
    old = {one.experiment_id: one.members for one in before.placements}
    new = {one.experiment_id: one.members for one in now.placements}
    words = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            words.append(f"{name} was placed and is not placed now")
        elif name not in old:
            words.append(f"{name} was not placed and is placed now")
        elif old[name] != new[name]:
            words.append(f"{name} is placed elsewhere")
    gone = {one.experiment_id for one in before.evictions}
    goes = {one.experiment_id for one in now.evictions}
    words += [f"{name} was to make room and is not now" for name in sorted(gone - goes)]
    words += [f"{name} was not to make room and is now" for name in sorted(goes - gone)]
    return words
