"""Which ends make a job start again, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.events import NodeDrained, PlanMade
from controlplane.domain.plan import Eviction, GangPlacement, Plan
from controlplane.domain.snapshot import MemberPlacement
from controlplane.domain.states import AttemptState
from riseml.spec.model import RetryPolicy
from tests.unit.core.world import World, inventory, spec

E, A = "ana.1", "ana.1.train.1-1"


def running(*events: str, retries: int = 1) -> World:
    world = World()
    world.connect()
    world.submit(spec(retry=RetryPolicy(events, retries)))
    world.plan()
    world.run(A)
    return world


@pytest.mark.parametrize(
    ("events", "end", "state", "used"),
    [
        ((), {"exit_code": 1}, "FAILED", 0),
        (("error",), {"exit_code": 1}, "PENDING", 1),
        (("error",), {"exit_signal": 11}, "PENDING", 1),
        (("error",), {"exit_signal": 9}, "PENDING", 1),
        (("error",), {"reason": "BUILD_FAILED"}, "PENDING", 1),
        (("interruption",), {"exit_code": 1}, "FAILED", 0),
        (("interruption",), {"exit_signal": 11}, "FAILED", 0),
        (("interruption",), {"exit_signal": 9}, "PENDING", 1),
        (("interruption",), {"exit_signal": 15}, "PENDING", 1),
        (("interruption",), {"exit_signal": 9, "reason": "OOM_KILLED"}, "FAILED", 0),
        (("error",), {"exit_signal": 9, "reason": "OOM_KILLED"}, "PENDING", 1),
        ((), {"reason": "NO_CONTACT"}, "PENDING", 0),
        (("error",), {"exit_code": 0}, "FINISHED", 0),
    ],
)
def test_an_end_is_retried_if_the_policy_names_it(
    events: tuple[str, ...], end: dict[str, Any], state: str, used: int
) -> None:
    world = running(*events)
    world.report(A, "EXITED", **end)
    assert (world.state(E), world.experiment(E).retries_used) == (state, used)
    if state == "PENDING":
        assert world.woke


def test_a_retry_is_a_new_attempt_of_the_next_generation() -> None:
    world = running("error")
    world.exit(A, 1)
    world.plan()
    assert world.started == ["ana.1.train.1-2"]
    assert world.experiment(E).generation == 2
    assert world.experiment(E).reason == ""


def test_the_last_retry_is_the_last() -> None:
    world = running("error", retries=2)
    for generation in (1, 2):
        world.exit(f"ana.1.train.1-{generation}", 1)
        world.plan()
    world.exit("ana.1.train.1-3", 1)
    assert (world.state(E), world.experiment(E).retries_used) == ("FAILED", 2)


def test_attempts_before_the_newest_leave_memory_and_late_words_of_them_are_harmless() -> None:
    world = running("error")
    world.exit(A, 1)
    world.plan()
    assert A not in world.cluster.attempts
    world.report(A, "EXITED", exit_code=0, node="n1")
    assert world.state(E) == "STARTING"


WHY = "ana.2 has the higher priority 90; 1 GPU-hour since the last checkpoint is lost"
MAKES_ROOM = Plan(0, evictions=(Eviction(E, "ana.2", WHY),))


def evicted() -> World:
    world = running()
    world.submit(spec())
    applied = world.send(PlanMade(MAKES_ROOM))
    assert applied.evicted == (E,)
    return world


def test_who_makes_room_is_stopped_and_waits_again_uncounted() -> None:
    world = evicted()
    assert world.stopped == {A: "preempted"}
    stopping = world.experiment(E)
    assert (stopping.state.value, stopping.reason, stopping.message) == (
        "RUNNING",
        "PREEMPTED",
        WHY,
    )
    world.exit(A, 0)
    assert world.attempt(A).state is AttemptState.PREEMPTED
    waits = world.experiment(E)
    assert (waits.state.value, waits.reason, waits.retries_used) == ("PENDING", "PREEMPTED", 0)
    assert waits.message == WHY


def test_who_makes_room_is_shown_to_the_scheduler_with_the_time_by_which_it_is_gone() -> None:
    world = running()
    world.submit(spec())
    world.pass_time(100)
    assert world.cluster.snapshot().running[0].stopping_until is None
    world.send(PlanMade(MAKES_ROOM))
    world.pass_time(1)
    (leaving,) = world.cluster.snapshot().running
    grace = world.experiment(E).spec.grace_period_seconds
    assert leaving.end_time == leaving.stopping_until == world.now - 1 + grace
    assert leaving.stopping_for == "ana.2"


def test_nobody_makes_room_for_an_experiment_that_does_not_wait_any_more() -> None:
    world = running()
    world.submit(spec())
    world.kill("ana.2")
    assert world.send(PlanMade(MAKES_ROOM)).evicted == ()
    assert not world.stopped


def test_evicting_twice_stops_once() -> None:
    world = evicted()
    applied = world.send(PlanMade(MAKES_ROOM))
    assert applied.evicted == ()
    assert not world.stopped


def test_who_is_killed_while_making_room_is_killed() -> None:
    world = evicted()
    world.kill(E)
    world.exit(A, 0)
    assert world.state(E) == "KILLED"


def test_a_drained_job_is_not_charged() -> None:
    world = running()
    world.send(NodeDrained("n1"))
    assert world.stopped == {A: "drained"}
    world.exit(A, 1)
    assert (world.state(E), world.experiment(E).retries_used) == ("PENDING", 0)
    assert world.plan().started == ()


def test_a_restart_stays_where_its_outputs_lie() -> None:
    world = World()
    local = inventory().capabilities.__class__(output_root="local")
    world.connect(capabilities=local)
    world.connect("n2", capabilities=local)
    world.submit(spec(retry=RetryPolicy(("error",), 1)))
    world.plan()
    world.run(A)
    world.exit(A, 1)
    (request,) = world.cluster.snapshot().pending
    assert request.only_nodes == ("n1",)


def test_a_restart_that_never_ran_may_go_anywhere() -> None:
    world = World()
    local = inventory().capabilities.__class__(output_root="local")
    world.connect(capabilities=local)
    world.submit(spec(retry=RetryPolicy(("error",), 1)))
    world.plan()
    world.report(A, "EXITED", reason="CODE_FETCH_FAILED")
    (request,) = world.cluster.snapshot().pending
    assert request.only_nodes == ()


def test_who_others_were_stopped_for_is_known_until_it_starts() -> None:
    world = running()
    world.submit(spec())
    world.send(PlanMade(MAKES_ROOM))
    assert world.cluster.snapshot().preemptors == ("ana.2",)
    world.exit(A, 0)
    assert world.cluster.snapshot().preemptors == ("ana.2",)
    assert world.reload().snapshot().preemptors == ("ana.2",)
    there = MemberPlacement("ana.2.train.1", "n1")
    world.send(PlanMade(Plan(0, (GangPlacement("ana.2", (there,)),))))
    assert world.cluster.snapshot().preemptors == ()
    assert world.cluster.snapshot().made_room == (("ana.1", "ana.2"),)
