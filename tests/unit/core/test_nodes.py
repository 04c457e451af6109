"""Nodes come, go, are lost, start anew; nothing runs twice and nothing is forgotten."""

from __future__ import annotations

import pytest

from controlplane.core.settings import Settings
from controlplane.domain.effects import EndSession, StopAttempt
from controlplane.domain.errors import FailedPrecondition, NotFound
from controlplane.domain.events import (
    ControlPlaneStarted,
    NodeCordoned,
    NodeDisconnected,
    NodeDrained,
    NodeForgotten,
    NodeInventoryChanged,
    NodeLeaseExpired,
    NodeTelemetryLate,
    TimePassed,
)
from controlplane.domain.snapshot import GangRequest
from controlplane.domain.states import AttemptState
from riseml.spec.model import RetryPolicy
from tests.unit.core.world import World, gang, gpu, inventory, report, spec

E, JOB, A = "ana.1", "ana.1.train.1", "ana.1.train.1-1"


def first_waiting(world: World) -> GangRequest:
    return next(iter(world.cluster.snapshot().pending))


def placed(**fields: object) -> World:
    world = World(Settings(contact_timeout_seconds=7, lost_margin_seconds=5))
    world.connect()
    world.submit(spec(**fields))
    world.plan()
    return world


def running(**fields: object) -> World:
    world = placed(**fields)
    world.run(A)
    return world


def lost(**fields: object) -> World:
    world = running(**fields)
    world.send(NodeLeaseExpired("n1"))
    return world


def test_a_new_node_is_ready_and_wakes_the_scheduler() -> None:
    world = World()
    opened = world.connect()
    node = world.cluster.nodes["n1"]
    assert (node.state, node.epoch, node.connect_time) == ("READY", 1, world.now)
    assert (opened.desired, opened.stopping, opened.forget) == ((), (), ())
    assert world.woke


def test_an_older_daemon_is_refused_and_changes_nothing() -> None:
    world = World()
    world.connect(epoch=5)
    with pytest.raises(FailedPrecondition) as refused:
        world.connect(epoch=4)
    assert refused.value.reason == "STALE_EPOCH"
    assert world.cluster.nodes["n1"].epoch == 5


def test_a_newer_daemon_ends_the_session_of_the_older() -> None:
    world = World()
    world.connect(epoch=5)
    world.connect(epoch=6)
    assert EndSession("n1", 5) in world.effects
    world.connect(epoch=6)
    assert not any(isinstance(e, EndSession) for e in world.effects)


def test_what_a_node_reports_is_taken_over() -> None:
    world = placed()
    opened = world.connect(attempts=[report(A, "RUNNING", start_time=1000.0)])
    assert world.state(E) == "RUNNING"
    assert [order.attempt_id for order in opened.desired] == [A]
    assert opened.stopping == ()


def test_what_was_ordered_while_the_node_was_away_is_desired() -> None:
    world = placed()
    opened = world.connect()
    assert [order.attempt_id for order in opened.desired] == [A]
    assert world.state(E) == "STARTING"


def test_desired_orders_are_the_same_as_those_sent_at_first() -> None:
    world = World()
    world.connect()
    world.submit(spec(roles=gang(("worker", 2)), framework="jax", install=("pip install x",)))
    world.plan()
    sent = tuple(e.order for e in world.effects if hasattr(e, "order"))
    assert world.connect().desired == sent


def test_what_ended_while_the_node_was_away_is_recorded_and_forgotten() -> None:
    world = running()
    opened = world.connect(attempts=[report(A, "EXITED", exit_code=0)])
    assert world.state(E) == "FINISHED"
    assert (opened.desired, opened.forget) == ((), (A,))


def test_what_a_node_does_not_know_of_any_more_is_lost_and_starts_again() -> None:
    world = running()
    opened = world.connect(epoch=2)
    assert world.attempt(A).state is AttemptState.LOST
    waits = world.experiment(E)
    assert (waits.state.value, waits.reason, waits.retries_used) == ("PENDING", "LOST", 0)
    assert opened.desired == ()


def test_a_reboot_ends_even_what_was_only_ordered() -> None:
    world = placed()
    world.connect(boot_id="boot2", epoch=2)
    assert world.attempt(A).state is AttemptState.LOST
    assert world.state(E) == "PENDING"


def test_a_reboot_does_not_hide_an_end_that_was_written_down() -> None:
    world = running()
    world.connect(boot_id="boot2", epoch=2, attempts=[report(A, "EXITED", exit_code=0)])
    assert world.state(E) == "FINISHED"


def test_what_nobody_wants_is_not_desired_and_what_ended_may_be_forgotten() -> None:
    world = World()
    opened = world.connect(
        attempts=[report("ana.7.train.1-1", "RUNNING"), report("ana.8.train.1-1", "EXITED")]
    )
    assert opened.desired == ()
    assert opened.forget == ("ana.8.train.1-1",)


def test_a_stop_that_was_missed_is_said_again() -> None:
    world = running()
    world.send(NodeDisconnected("n1", 1))
    world.kill(E)
    opened = world.connect(attempts=[report(A, "RUNNING")])
    assert [order.attempt_id for order in opened.desired] == [A]
    assert opened.stopping == (StopAttempt("n1", A, "killed"),)


def test_the_end_of_an_older_session_means_nothing() -> None:
    world = World()
    world.connect(epoch=2)
    world.send(NodeDisconnected("n1", 1))
    assert world.cluster.nodes["n1"].state == "READY"


def test_a_disconnected_node_keeps_what_it_runs_and_gets_nothing_new() -> None:
    world = running()
    world.send(NodeDisconnected("n1", 1))
    world.submit(spec())
    assert (world.cluster.nodes["n1"].state, world.state(E)) == ("DISCONNECTED", "RUNNING")
    assert world.plan().started == ()


def test_a_lost_node_marks_what_runs_there_and_keeps_its_place() -> None:
    world = lost()
    assert world.cluster.nodes["n1"].state == "LOST"
    assert world.attempt(A).node_lost
    assert (world.state(E), world.reason(E)) == ("RUNNING", "NODE_LOST")
    assert world.cluster.jobs[JOB].reason == "NODE_LOST"
    assert world.cluster.usage_of("n1").cpu_milli == 1000
    assert EndSession("n1", 1) in world.effects
    assert not world.stopped


def test_nothing_of_a_lost_node_starts_again_by_waiting() -> None:
    world = lost()
    world.connect("n2")
    world.pass_time(1e6)
    world.send(TimePassed())
    assert world.plan().started == ()
    assert world.attempt(A).state is AttemptState.RUNNING


def test_a_lost_node_that_comes_back_goes_on() -> None:
    world = lost()
    opened = world.connect(attempts=[report(A, "RUNNING")])
    assert not world.attempt(A).node_lost
    assert (world.state(E), world.reason(E)) == ("RUNNING", "")
    assert [order.attempt_id for order in opened.desired] == [A]


def test_a_lost_node_that_comes_back_tells_how_it_ended() -> None:
    world = lost()
    world.connect(attempts=[report(A, "EXITED", exit_code=4)])
    assert (world.state(E), world.reason(E)) == ("FAILED", "EXIT_CODE")


def test_killing_what_is_on_a_lost_node_waits_for_the_node() -> None:
    world = lost()
    assert world.kill(E).state.value == "RUNNING"
    opened = world.connect(attempts=[report(A, "RUNNING")])
    assert [stop.attempt_id for stop in opened.stopping] == [A]
    world.exit(A, None, exit_signal=15)
    assert world.state(E) == "KILLED"


def test_forgetting_a_lost_node_lets_its_jobs_start_elsewhere() -> None:
    world = lost()
    world.send(NodeForgotten("n1"))
    assert "n1" not in world.cluster.nodes
    assert (world.state(E), world.reason(E)) == ("PENDING", "NODE_LOST")
    world.connect("n2")
    assert world.plan().started == (E,)


def test_a_forgotten_node_that_comes_back_is_told_to_stop_what_it_still_runs() -> None:
    world = lost()
    world.send(NodeForgotten("n1"))
    world.connect("n2")
    world.plan()
    opened = world.connect(attempts=[report(A, "RUNNING")])
    assert opened.desired == ()
    world.run("ana.1.train.1-2")
    assert world.attempt("ana.1.train.1-2").node_name == "n2"


def test_outputs_on_a_forgotten_node_pin_nothing_any_more() -> None:
    world = World()
    local = inventory().capabilities.__class__(output_root="local")
    world.connect(capabilities=local)
    world.submit(spec())
    world.plan()
    world.run(A)
    world.send(NodeDrained("n1"))
    world.exit(A, 0)
    assert first_waiting(world).only_nodes == ("n1",)
    world.send(NodeDisconnected("n1", 1))
    world.send(NodeForgotten("n1"))
    assert first_waiting(world).only_nodes == ()
    world.connect(capabilities=local)
    assert first_waiting(world).only_nodes == ("n1",)


def test_a_connected_node_cannot_be_forgotten() -> None:
    world = running()
    with pytest.raises(FailedPrecondition) as refused:
        world.send(NodeForgotten("n1"))
    assert refused.value.reason == "NODE_CONNECTED"


OPTED_IN = RetryPolicy(("node_lost",), 0)


def test_who_opted_into_node_lost_starts_again_after_its_shim_has_stopped_it() -> None:
    world = placed(retry=OPTED_IN, grace_period_seconds=30)
    (start,) = (e for e in world.effects if hasattr(e, "order"))
    assert start.order.contact_timeout_seconds == 7
    world.run(A)
    world.send(NodeLeaseExpired("n1"))
    world.pass_time(34)
    world.send(TimePassed())
    assert world.state(E) == "RUNNING"
    world.pass_time(1)
    world.send(TimePassed())
    assert world.attempt(A).state is AttemptState.LOST
    assert (world.state(E), world.reason(E)) == ("PENDING", "NODE_LOST")
    world.connect("n2")
    assert world.plan().started == (E,)


def test_after_a_restart_of_the_control_plane_every_lease_starts_anew() -> None:
    world = lost(retry=OPTED_IN, grace_period_seconds=0)
    world.connect("n2")
    world.pass_time(4)
    world.send(ControlPlaneStarted())
    assert world.cluster.nodes["n2"].state == "DISCONNECTED"
    world.pass_time(4)
    world.send(TimePassed())
    assert world.attempt(A).state is AttemptState.RUNNING
    world.pass_time(1)
    world.send(TimePassed())
    assert world.attempt(A).state is AttemptState.LOST


def test_a_cordoned_node_gets_nothing_new_and_keeps_what_it_has() -> None:
    world = running()
    node = world.send(NodeCordoned("n1", True))
    assert node.cordoned
    world.submit(spec())
    assert world.plan().started == ()
    assert world.state(E) == "RUNNING"
    world.send(NodeCordoned("n1", False))
    assert world.woke
    assert world.plan().started == ("ana.2",)


def test_a_drain_ends_when_the_node_is_opened_again() -> None:
    world = World()
    world.connect()
    assert world.send(NodeDrained("n1")).draining
    world.connect(epoch=2)
    assert world.cluster.nodes["n1"].draining
    opened = world.send(NodeCordoned("n1", False))
    assert (opened.cordoned, opened.draining) == (False, False)


def test_a_node_whose_telemetry_is_late_starts_nothing_until_samples_come_again() -> None:
    world = running()
    world.send(NodeTelemetryLate("n1", True))
    assert world.effects == ()
    (late,) = world.cluster.snapshot().nodes
    assert not late.open
    assert late.closed_reason == "late with its telemetry"
    assert world.state(E) == "RUNNING", "what runs there goes on"
    world.connect(epoch=2, attempts=[report(A, "RUNNING")])
    (late,) = world.cluster.snapshot().nodes
    assert not late.open, "a new session is no sample"
    world.send(NodeTelemetryLate("n1", False))
    assert world.woke
    (back,) = world.cluster.snapshot().nodes
    assert back.open


def test_that_an_unknown_node_is_late_means_nothing() -> None:
    world = World()
    world.send(NodeTelemetryLate("n9", True))
    assert not world.cluster.nodes


@pytest.mark.parametrize(
    "event", [NodeCordoned("n9", True), NodeDrained("n9"), NodeForgotten("n9")]
)
def test_an_unknown_node_is_not_found(event: NodeCordoned | NodeDrained | NodeForgotten) -> None:
    with pytest.raises(NotFound):
        World().send(event)


def test_a_new_inventory_replaces_the_old_unless_it_is_of_an_older_session() -> None:
    world = World()
    world.connect(epoch=2)
    sick = inventory(gpus=(gpu("g0", health="LOST", health_time=world.now),))
    world.send(NodeInventoryChanged(sick, 1))
    assert world.cluster.nodes["n1"].inventory.gpus == ()
    world.send(NodeInventoryChanged(sick, 2))
    (view,) = world.cluster.snapshot().nodes[0].gpus
    assert (view.usable, view.unusable_reason) == (False, "lost (since 1 Jan 00:16 UTC)")


def test_a_node_that_shrank_below_what_runs_there_is_no_fault_of_ours() -> None:
    world = running()
    world.send(NodeInventoryChanged(inventory(cpu_milli=500), 1))
    assert world.cluster.snapshot().nodes[0].free_cpu_milli == -500
    world.exit(A, 0)
    assert not world.cluster.overfull
