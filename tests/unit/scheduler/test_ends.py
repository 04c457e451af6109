"""What is kept of running gangs is what the newest snapshot says."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.snapshot import MemberPlacement, RunningGang
from controlplane.scheduler.ends import End, KnownEnds, changes, end_of, nodes_of
from tests.unit.scheduler.pictures import NOW

# Short ones end before long ones.
GANGS = st.builds(
    lambda number, nodes, queue, priority, seconds: RunningGang(
        f"ana.{number}",
        "ana",
        queue,
        priority,
        NOW,
        seconds,
        tuple(MemberPlacement(f"ana.{number}.{i}", name) for i, name in enumerate(nodes)),
    ),
    st.integers(1, 600),
    st.lists(st.sampled_from(["n1", "n2"]), max_size=3),
    st.sampled_from(["default", "vision"]),
    st.integers(0, 3),
    st.sampled_from([None, 10, 20]),
)
RUNNING = st.lists(GANGS, unique_by=lambda gang: gang.experiment_id, max_size=12)
STEP = st.tuples(st.sampled_from(["drop", "change", "add", "copy"]), st.integers(0, 600))


def stepped(running: list[RunningGang], what: str, number: int) -> list[RunningGang]:
    """As snapshots change: in place, or at the end."""
    if what == "add" or not running:
        new = RunningGang(f"bo.{number}", "bo", "default", number % 4, NOW, number % 3 or None, ())
        return [*[one for one in running if one.experiment_id != new.experiment_id], new]
    at = number % len(running)
    if what == "drop":
        return running[:at] + running[at + 1 :]
    changed = replace(running[at], stopping_until=NOW + 1 if what == "change" else None)
    return [*running[:at], changed, *running[at + 1 :]]


@given(RUNNING, st.lists(STEP, max_size=12))
def test_what_is_kept_is_what_a_new_one_would_find(
    running: list[RunningGang], steps: list[tuple[str, int]]
) -> None:
    known = KnownEnds()
    for step in [None, *steps]:
        if step is not None:
            running = stepped(running, *step)
        picture = tuple(running)
        assert known.of(picture) == sorted(e for e in map(end_of, picture) if e is not None)
        on_nodes: dict[str, list[End]] = {}
        for end in known.of(picture):
            for name in nodes_of(end[2]):
                on_nodes.setdefault(name, []).append(end)
        assert known.on_nodes(picture) == on_nodes
        queues = {gang.queue for gang in picture}
        assert known.lowest(picture) == {
            queue: min(gang.priority for gang in picture if gang.queue == queue) for queue in queues
        }


@given(RUNNING, RUNNING)
def test_of_any_two_snapshots_the_changes_lead_from_one_to_the_other(
    old: list[RunningGang], new: list[RunningGang]
) -> None:
    gone, come = changes(tuple(old), tuple(new))
    left = [gang for gang in old if gang not in gone]
    assert sorted(map(repr, [*left, *come])) == sorted(map(repr, new))


def test_whom_nothing_changed_is_not_named_among_thousands() -> None:
    old = tuple(RunningGang(f"ana.{n}", "ana", "default", 50, NOW, None, ()) for n in range(3000))
    late = RunningGang("bo.1", "bo", "default", 50, NOW, None, ())
    changed = replace(old[1500], stopping_until=NOW)
    new = (*old[:700], *old[701:1500], changed, *old[1501:], late)
    assert changes(old, new) == ([old[700], old[1500]], [changed, late])
