"""Pictures of who runs: in order, the same where nothing changed, and cheap to compare."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.running import BLOCK, Running
from controlplane.domain.running import RunningGangs
from controlplane.domain.snapshot import RunningGang
from controlplane.scheduler.ends import changes


def gang(number: int) -> RunningGang:
    return RunningGang(f"ana.{number}", "ana", "default", 50, 0.0, None, ())


@given(st.lists(st.tuples(st.sampled_from(["put", "drop", "look"]), st.integers(0, 600))))
def test_it_shows_who_runs_in_the_order_of_their_beginnings(steps: list[tuple[str, int]]) -> None:
    running, known = Running(), dict[str, RunningGang]()
    # Several blocks, some of which become empty.
    for number in range(2 * BLOCK):
        running.put(gang(number))
        known[f"ana.{number}"] = gang(number)
    for number in range(BLOCK - 2):
        running.drop(f"ana.{number}")
        del known[f"ana.{number}"]
    before = running.all()
    for what, number in steps:
        if what == "put":
            one = replace(gang(number), priority=number)
            running.put(one)
            known[one.experiment_id] = one
        elif what == "drop":
            running.drop(f"ana.{number}")
            known.pop(f"ana.{number}", None)
        else:
            before = running.all()
        if what == "look":
            assert before == tuple(known.values())
    shown = running.all()
    assert shown == tuple(known.values()) and len(shown) == len(known)
    assert running.all() is shown
    gone, come = changes(before, shown)
    left = [one for one in before if one not in gone]
    assert sorted(map(repr, [*left, *come])) == sorted(map(repr, shown))


def test_pictures_share_the_blocks_in_which_nothing_changed() -> None:
    running = Running()
    for number in range(4 * BLOCK):
        running.put(gang(number))
    before = running.all()
    running.drop(f"ana.{BLOCK}")
    running.put(gang(9999))
    after = running.all()
    assert len(after.apart_from(before)) == BLOCK - 1 + 1
    assert changes(before, after) == ([gang(BLOCK)], [gang(9999)])


def test_it_is_a_sequence_like_any_other() -> None:
    gangs = tuple(gang(number) for number in range(3))
    shown = RunningGangs((gangs[:1], gangs[1:]))
    assert shown == gangs and gangs == shown and list(shown) == list(gangs)
    assert (shown[1], shown[-1], shown[1:]) == (gangs[1], gangs[2], gangs[1:])
    assert shown != gangs[:2] and shown != (*gangs[:2], gang(7)) and hash(shown) == hash(gangs)
    assert not RunningGangs() and repr(shown) == repr(gangs) and shown != 3
