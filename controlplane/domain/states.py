"""The life cycle of experiments, jobs and attempts: every legal change stands in the tables below.

A job is CREATED when its experiment is accepted, waits as PENDING until the scheduler placed the
whole gang, is STARTING while the node prepares it (its experiment is BUILDING while an environment
is being made), RUNNING while its process runs, and ends as FINISHED, FAILED or KILLED. Preemption,
node loss and retryable failures send it back to PENDING; the ended states are final.

An attempt is one try of one job on one node. It never goes back: a new try is a new attempt.

An illegal change raises IllegalTransition and changes nothing; the diagrams in docs/architecture.md
are made from these tables.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from controlplane.domain.errors import IllegalTransition


class State(enum.Enum):
    """State of an experiment or a job; the values are what the store keeps."""

    CREATED = "CREATED"
    BUILDING = "BUILDING"
    PENDING = "PENDING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"

    @property
    def ended(self) -> bool:
        """Whether nothing can follow."""
        return self._name_ in _ENDED_NAMES


class AttemptState(enum.Enum):
    """State of one try of one job on one node."""

    ASSIGNED = "ASSIGNED"
    PREPARING = "PREPARING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    PREEMPTED = "PREEMPTED"
    LOST = "LOST"

    @property
    def ended(self) -> bool:
        """Whether it holds its allocation no more."""
        return self._name_ in _ATTEMPT_ENDED_NAMES


_ENDED = frozenset({State.FINISHED, State.FAILED, State.KILLED})

TRANSITIONS: Mapping[State, frozenset[State]] = {
    # A child of a set that waits for its turn, or a build job that has not begun.
    State.CREATED: frozenset({State.PENDING, State.BUILDING, State.STARTING, State.RUNNING})
    | _ENDED,
    State.PENDING: frozenset({State.BUILDING, State.STARTING, State.RUNNING}) | _ENDED,
    State.BUILDING: frozenset({State.PENDING, State.STARTING, State.RUNNING}) | _ENDED,
    State.STARTING: frozenset({State.PENDING, State.BUILDING, State.RUNNING}) | _ENDED,
    State.RUNNING: frozenset({State.PENDING, State.STARTING}) | _ENDED,
    State.FINISHED: frozenset(),
    State.FAILED: frozenset(),
    State.KILLED: frozenset(),
}

_ATTEMPT_ENDED = frozenset({AttemptState.EXITED, AttemptState.PREEMPTED, AttemptState.LOST})

ATTEMPT_TRANSITIONS: Mapping[AttemptState, frozenset[AttemptState]] = {
    AttemptState.ASSIGNED: frozenset(
        {AttemptState.PREPARING, AttemptState.RUNNING, AttemptState.STOPPING}
    )
    | _ATTEMPT_ENDED,
    AttemptState.PREPARING: frozenset({AttemptState.RUNNING, AttemptState.STOPPING})
    | _ATTEMPT_ENDED,
    AttemptState.RUNNING: frozenset({AttemptState.STOPPING}) | _ATTEMPT_ENDED,
    AttemptState.STOPPING: _ATTEMPT_ENDED,
    AttemptState.EXITED: frozenset(),
    AttemptState.PREEMPTED: frozenset(),
    AttemptState.LOST: frozenset(),
}


# Asked for all the time: text hashes once, while members of an enum hash anew with each look-up.
_ENDED_NAMES = frozenset(state.name for state, after in TRANSITIONS.items() if not after)
_ATTEMPT_ENDED_NAMES = frozenset(
    state.name for state, after in ATTEMPT_TRANSITIONS.items() if not after
)


def check_transition(subject: str, old: State, new: State) -> None:
    """Raises IllegalTransition unless `subject` may go from `old` to `new`; staying is legal."""
    if new is not old and new not in TRANSITIONS[old]:
        raise IllegalTransition(subject, old.value, new.value)


def check_attempt_transition(subject: str, old: AttemptState, new: AttemptState) -> None:
    """The same for attempts."""
    if new is not old and new not in ATTEMPT_TRANSITIONS[old]:
        raise IllegalTransition(subject, old.value, new.value)
