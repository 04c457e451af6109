"""How the children of a set stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlplane.domain.model import Experiment
from controlplane.domain.states import State
from controlplane.explain.explanation import Explanation
from controlplane.explain.words import counted, sentence

CHILDREN_TOLD = 12


def explain_set(
    experiment: Experiment,
    counts: Mapping[State, int],
    children: Sequence[Explanation],
) -> Explanation:
    """A set. `children` are explanations of those that wait for a place or run, by number."""
    parts = [
        f"{counts[state]} {words}"
        for state, words in (
            (State.FINISHED, "finished"),
            (State.FAILED, "failed"),
            (State.KILLED, "killed"),
            (State.RUNNING, "running"),
            (State.STARTING, "starting"),
            (State.BUILDING, "building"),
            (State.PENDING, "waiting for a place"),
            (State.CREATED, "waiting for their turn"),
        )
        if counts.get(state)
    ]
    total = counted(experiment.child_count, "child", "children")
    summary = f"{experiment.id} is a set of {total}: {', '.join(parts)}"
    lines = []
    if counts.get(State.CREATED):
        limit = experiment.spec.concurrency
        at_once = f"At most {counted(limit, 'child runs', 'children run')} at once"
        lines.append(f"{at_once}, by its `concurrency`.")
    lines += _told(children)
    first = next((child for child in children if child.state is State.PENDING), None)
    return Explanation(
        experiment.id,
        experiment.state,
        sentence(summary),
        tuple(lines),
        reasons=() if first is None else first.reasons,
        members=tuple([member for child in children for member in child.members]),
        nodes=() if first is None else first.nodes,
        estimate=None if first is None else first.estimate,
        suggestions=() if first is None else first.suggestions,
        evictions=tuple([one for child in children for one in child.evictions]),
        impossible=first is not None and first.impossible,
        cycle_number=0 if first is None else first.cycle_number,
        cycle_time=None if first is None else first.cycle_time,
    )


def _told(children: Sequence[Explanation]) -> list[str]:
    """A line for each; those that wait for the same reason in one, with what stands in the way."""
    lines: list[str] = []
    alike: dict[tuple[str, ...], list[Explanation]] = {}
    shown = 0
    for child in children:
        if child.state is State.PENDING:
            alike.setdefault(tuple([r.message for r in child.reasons]), []).append(child)
        elif shown < CHILDREN_TOLD:
            lines.append(child.summary)
            shown += 1
    running = sum(child.state is not State.PENDING for child in children)
    if running > shown:
        lines.append(f"{running - shown} more of its children run.")
    for same in alike.values():
        first = same[0]
        lines.append(first.summary)
        lines += [line if line.startswith("  ") else f"  {line}" for line in first.lines]
        if len(same) > 1:
            others = len(same) - 1
            lines.append(
                f"{counted(others, 'more child', 'more children')} "
                f"{'waits' if others == 1 else 'wait'} for the same reasons."
            )
    return lines
