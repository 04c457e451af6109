"""The tables of states, read as what they promise."""

from __future__ import annotations

import itertools

import pytest

from controlplane.domain.errors import DomainError, FailedPrecondition, IllegalTransition
from controlplane.domain.states import (
    ATTEMPT_TRANSITIONS,
    TRANSITIONS,
    AttemptState,
    State,
    check_attempt_transition,
    check_transition,
)


def test_every_state_has_a_row() -> None:
    assert set(TRANSITIONS) == set(State)
    assert set(ATTEMPT_TRANSITIONS) == set(AttemptState)


def test_ended_states_are_final() -> None:
    assert {s for s in State if s.ended} == {State.FINISHED, State.FAILED, State.KILLED}
    assert {s for s in AttemptState if s.ended} == {
        AttemptState.EXITED,
        AttemptState.PREEMPTED,
        AttemptState.LOST,
    }


@pytest.mark.parametrize("state", [s for s in State if not s.ended])
def test_whatever_lives_can_end_in_every_way(state: State) -> None:
    for end in (State.FINISHED, State.FAILED, State.KILLED):
        check_transition("ana.1", state, end)


@pytest.mark.parametrize("state", [s for s in AttemptState if not s.ended])
def test_whatever_attempt_lives_can_end_in_every_way(state: AttemptState) -> None:
    for end in (AttemptState.EXITED, AttemptState.PREEMPTED, AttemptState.LOST):
        check_attempt_transition("ana.1.train.1-1", state, end)


@pytest.mark.parametrize(("old", "new"), list(itertools.product(State, State)))
def test_only_what_the_table_has_is_legal(old: State, new: State) -> None:
    if new is old or new in TRANSITIONS[old]:
        check_transition("ana.1", old, new)
    else:
        with pytest.raises(IllegalTransition) as refused:
            check_transition("ana.1", old, new)
        assert refused.value.metadata == {"subject": "ana.1", "from": old.value, "to": new.value}


def test_attempts_never_go_back() -> None:
    order = list(AttemptState)
    for old, news in ATTEMPT_TRANSITIONS.items():
        assert all(order.index(new) > order.index(old) for new in news)


def test_nothing_becomes_created_again() -> None:
    assert not any(State.CREATED in news for news in TRANSITIONS.values())


def test_errors_carry_a_reason_and_what_they_speak_of() -> None:
    error = FailedPrecondition("not now", reason="BUSY", metadata={"node": "n1"})
    assert isinstance(error, DomainError)
    assert (error.reason, error.metadata, error.message) == ("BUSY", {"node": "n1"}, "not now")
    assert FailedPrecondition("not now").reason == "FAILED_PRECONDITION"
