"""Which attempts should run: what effects, pods and sessions make of it."""

from __future__ import annotations

from controlplane.domain.effects import SessionOpened, StopAttempt
from controlplane.domain.reasons import STOP_UNKNOWN
from controlplane.launch.kubernetes.gangs import complete_gangs
from controlplane.launch.kubernetes.wanted import WantedAttempts
from tests.unit.kubernetes.launching import NODE, gang, order

ATTEMPT = "ana.17.train.1-1"


def test_a_session_says_what_should_run() -> None:
    wanted = WantedAttempts()
    wanted.found("ana.18.train.1-1", "ana.18", NODE)
    wanted.doubt(NODE)
    reply = SessionOpened((order(),), (StopAttempt(NODE, ATTEMPT, "killed"),), ())
    touched = {one.attempt_id for one in wanted.opened(NODE, reply)}
    assert touched == {ATTEMPT, "ana.18.train.1-1"}
    asked, unknown = wanted.get(ATTEMPT), wanted.get("ana.18.train.1-1")
    assert asked is not None and asked.stop is not None and asked.stop.reason == "killed"
    assert unknown is not None and unknown.stop is not None
    assert unknown.stop.reason == STOP_UNKNOWN


def test_what_starts_while_a_session_opens_is_not_doubted() -> None:
    wanted = WantedAttempts()
    wanted.doubt(NODE)
    wanted.start(NODE, order())
    wanted.opened(NODE, SessionOpened((), (), ()))
    found = wanted.get(ATTEMPT)
    assert found is not None and found.order is not None and found.stop is None


def test_an_end_that_is_recorded_is_no_reason_to_stop() -> None:
    wanted = WantedAttempts()
    wanted.found(ATTEMPT, "ana.17", NODE)
    wanted.doubt(NODE)
    (found,) = wanted.opened(NODE, SessionOpened((), (), (ATTEMPT,)))
    assert found.forgotten and found.stop is None


def test_the_shortest_grace_period_counts() -> None:
    wanted = WantedAttempts()
    assert wanted.stop(StopAttempt(NODE, ATTEMPT, "killed")) is None, "nothing is known of it"
    found = wanted.start(NODE, order())
    for grace in (None, 20.0, 0.0, 5.0, None):
        wanted.stop(StopAttempt(NODE, ATTEMPT, "killed", grace))
    assert found.stop is not None and found.stop.grace_seconds == 0.0


def test_what_is_dropped_is_forgotten_everywhere() -> None:
    wanted = WantedAttempts()
    for member in gang(2):
        wanted.start(NODE, member)
    wanted.drop("ana.17.worker.1-1")
    assert [one.attempt_id for one in wanted.of_experiment("ana.17")] == ["ana.17.worker.2-1"]
    wanted.drop("ana.17.worker.2-1")
    wanted.drop("ana.17.worker.2-1")
    assert not wanted.of_experiment("ana.17") and not list(wanted.on_node(NODE))


def test_gangs_are_complete_or_none() -> None:
    wanted = WantedAttempts()
    first, second, third = gang(3)
    for member in (first, third):
        wanted.start(NODE, member)
    assert complete_gangs(wanted.of_experiment("ana.17")) == []
    wanted.start(NODE, second)
    (found,) = complete_gangs(wanted.of_experiment("ana.17"))
    assert [one.attempt_id[-10:] for one in found] == ["worker.1-1", "worker.2-1", "worker.3-1"]
