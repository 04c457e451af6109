from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noded.reconcile import (
    NOT_DESIRED,
    Action,
    Desired,
    Forget,
    Observed,
    ReportNeverStarted,
    Start,
    Stop,
    StopOrder,
    reconcile,
)

KILL = StopOrder("a", "killed", 0)


@pytest.mark.parametrize(
    ("case", "desired", "stopping", "forget", "observed", "actions"),
    [
        ("nothing anywhere", [], [], [], [], ()),
        ("what is missing is started", [Desired("a")], [], [], [], (Start("a"),)),
        ("what runs is left alone", [Desired("a")], [], [], [Observed("a")], ()),
        (
            "what is not desired is stopped",
            [],
            [],
            [],
            [Observed("a")],
            (Stop(StopOrder("a", NOT_DESIRED)),),
        ),
        ("what stops already is not told again", [], [], [], [Observed("a", stopping=True)], ()),
        ("a stop is taken up", [Desired("a")], [KILL], [], [Observed("a")], (Stop(KILL),)),
        (
            "what was to stop and never came is reported, not started",
            [Desired("a")],
            [KILL],
            [],
            [],
            (ReportNeverStarted(KILL),),
        ),
        (
            "a recorded end is forgotten",
            [],
            [],
            ["a"],
            [Observed("a", ended=True)],
            (Forget("a"),),
        ),
        ("an end that nobody recorded stays", [], [], [], [Observed("a", ended=True)], ()),
        ("forgetting what is unknown is nothing", [], [], ["a"], [], ()),
        (
            "what runs though its end is recorded is stopped",
            [],
            [],
            ["a"],
            [Observed("a")],
            (Stop(StopOrder("a", NOT_DESIRED)),),
        ),
        (
            "the build of a desired attempt goes on",
            [Desired("a", "b")],
            [],
            [],
            [Observed("a"), Observed("b")],
            (),
        ),
        (
            "a build that nobody wants is stopped",
            [Desired("a")],
            [],
            [],
            [Observed("a"), Observed("b")],
            (Stop(StopOrder("b", NOT_DESIRED)),),
        ),
        (
            "what ended is not started again",
            [Desired("a")],
            [],
            [],
            [Observed("a", ended=True)],
            (),
        ),
    ],
)
def test_the_difference_is_acted_on(
    case: str,
    desired: list[Desired],
    stopping: list[StopOrder],
    forget: list[str],
    observed: list[Observed],
    actions: tuple[Action, ...],
) -> None:
    assert reconcile(desired, stopping, forget, {o.attempt_id: o for o in observed}) == actions, (
        case
    )


ids = st.sampled_from("abcdef")


@given(
    st.lists(ids, unique=True),
    st.lists(ids, unique=True),
    st.lists(ids, unique=True),
    st.dictionaries(ids, st.tuples(st.booleans(), st.booleans())),
)
def test_nothing_known_is_started_and_nothing_desired_is_stopped_unasked(
    desired: list[str], stopping: list[str], forget: list[str], seen: dict[str, tuple[bool, bool]]
) -> None:
    observed = {i: Observed(i, ended, stops) for i, (ended, stops) in seen.items()}
    actions = reconcile(
        [Desired(i) for i in desired], [StopOrder(i, "killed") for i in stopping], forget, observed
    )
    for action in actions:
        match action:
            case Start(attempt_id):
                assert attempt_id in desired and attempt_id not in observed
                assert attempt_id not in stopping and attempt_id not in forget
            case Stop(order):
                assert not observed[order.attempt_id].ended
                asked = order.attempt_id in stopping or order.attempt_id in forget
                assert asked or order.attempt_id not in desired
            case Forget(attempt_id):
                assert observed[attempt_id].ended and attempt_id in forget
            case ReportNeverStarted(order):
                assert order.attempt_id not in observed
    assert len({repr(a) for a in actions}) == len(actions)
