"""Nodes whose jobs are pods: their names, their builds, and what a reboot or a silence means."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.core.settings import Settings
from controlplane.domain.effects import ForgetAttempt, StartAttempt
from controlplane.domain.events import NodeLeaseExpired, TimePassed
from controlplane.domain.model import AttemptOrder, NodeCapabilities
from controlplane.domain.states import AttemptState
from riseml.spec.model import RetryPolicy
from riseml.spec.pod_names import RENDEZVOUS_PORT
from tests.unit.core.world import World, gang, report, spec

E, TRAIN = "ana.1", "ana.1.train.1-1"
W1, W2 = "ana.1.worker.1-1", "ana.1.worker.2-1"
B1, B2 = "ana.1.build.1-1", "ana.1.build.2-1"
PODS = NodeCapabilities(output_root="shared", runs_images=True, whole_gpus=True, pod_network=True)
SETTINGS = Settings(launcher="kubernetes", contact_timeout_seconds=5, lost_margin_seconds=5)


def connect(world: World, name: str = "n1", **fields: Any) -> Any:
    given: dict[str, Any] = {
        "capabilities": PODS,
        "first_port": 0,
        "last_port": 0,
        "address": "10.0.0.1",
    }
    return world.connect(name, **{**given, **fields})


def placed(**fields: object) -> World:
    world = World(SETTINGS)
    connect(world)
    world.submit(spec(**fields))
    assert world.plan().started == (E,)
    return world


def workers(count: int = 2, **fields: object) -> World:
    return placed(roles=gang(("worker", count)), framework="jax", **fields)


def orders(world: World) -> list[AttemptOrder]:
    return [effect.order for effect in world.effects if isinstance(effect, StartAttempt)]


# --- gangs


def test_pods_of_a_gang_are_reached_by_their_names_and_need_no_port_of_the_node() -> None:
    world = workers()
    first, second = orders(world)
    assert first.peers == second.peers
    assert [(peer.host, peer.port) for peer in first.peers] == [
        ("worker-1.ana-1", RENDEZVOUS_PORT),
        ("worker-2.ana-1", RENDEZVOUS_PORT),
    ]
    assert not world.cluster.usage_of("n1").ports
    assert connect(world, attempts=()).desired == (first, second)


def test_as_many_gangs_as_there_is_room_for_stand_on_one_node() -> None:
    world = World(SETTINGS)
    connect(world)
    for _ in range(4):
        world.submit(spec(roles=gang(("worker", 2)), framework="jax"))
    assert len(world.plan().started) == 4


def test_an_order_names_the_image_or_the_version_of_the_framework() -> None:
    (order,) = orders(placed(image="x:1"))
    assert (order.image, order.framework, order.framework_version) == ("x:1", "", "")
    (order,) = orders(placed(framework="pytorch", framework_version="2.9.0"))
    assert (order.image, order.framework, order.framework_version) == ("", "pytorch", "2.9.0")


# --- builds


def test_each_pod_of_a_gang_builds_for_itself() -> None:
    world = workers(install=("make",))
    assert [job.id for job in world.cluster.jobs_of(E)][2:] == ["ana.1.build.1", "ana.1.build.2"]
    assert [order.build_attempt_id for order in orders(world)] == [B1, B2]
    assert {world.attempt(build).node_name for build in (B1, B2)} == {"n1"}


def test_a_gang_is_building_until_the_first_of_its_pods_has_built() -> None:
    world = workers(install=("make",))
    for worker, build in ((W1, B1), (W2, B2)):
        world.report(worker, "PREPARING")
        world.report(build, "RUNNING", start_time=world.now)
    assert world.state(E) == "BUILDING"
    world.exit(B1, 0, final_log_offset=7)
    assert ForgetAttempt("n1", B1) in world.effects
    world.run(W1)
    assert [world.state(f"ana.1.{job}") for job in ("build.1", "build.2")] == [
        "FINISHED",
        "RUNNING",
    ]
    assert world.state(E) == "STARTING"
    world.exit(B2, 0)
    world.run(W2)
    assert world.state(E) == "RUNNING"
    world.exit(W1, 0)
    world.exit(W2, 0)
    assert world.state(E) == "FINISHED"


def test_a_build_that_fails_in_one_pod_fails_the_gang_and_ends_the_other_builds() -> None:
    world = workers(install=("make",))
    for worker, build in ((W1, B1), (W2, B2)):
        world.report(worker, "PREPARING")
        world.report(build, "RUNNING", start_time=world.now)
    said = "the build of the environment failed with exit code 2"
    world.exit(B1, 2, reason="BUILD_FAILED", message=said)
    assert world.state("ana.1.build.1") == "FAILED"
    world.exit(W1, None, reason="BUILD_FAILED", message=said)
    assert world.stopped == {W2: "gang_member_failed"}
    world.exit(W2, None)
    ended = world.experiment(E)
    assert (ended.state.value, ended.reason, ended.message) == ("FAILED", "BUILD_FAILED", said)
    assert ended.start_time is None
    assert world.state("ana.1.build.2") == "KILLED"
    world.exit(B2, None, exit_signal=15, final_log_offset=3)
    assert world.attempt(B2).final_log_offset == 3
    assert ForgetAttempt("n1", B2) in world.effects


# --- what happens to the node


def test_a_reboot_alone_loses_no_pod_that_is_still_there() -> None:
    world = placed()
    world.run(TRAIN)
    connect(world, boot_id="boot2", epoch=2, attempts=[report(TRAIN, "RUNNING")])
    assert world.state(E) == "RUNNING"


def test_a_pod_that_was_only_ordered_is_still_wanted_after_a_reboot() -> None:
    world = placed()
    opened = connect(world, boot_id="boot2", epoch=2)
    assert [order.attempt_id for order in opened.desired] == [TRAIN]
    assert world.state(E) == "STARTING"


def test_a_pod_that_is_gone_is_lost_and_its_job_starts_again() -> None:
    world = placed()
    world.run(TRAIN)
    connect(world, epoch=2)
    assert world.attempt(TRAIN).state is AttemptState.LOST
    waits = world.experiment(E)
    assert (waits.state.value, waits.message) == ("PENDING", "its pod on node n1 is gone")


@pytest.mark.parametrize("capabilities", [PODS, NodeCapabilities(output_root="shared")])
def test_silence_proves_of_no_pod_that_it_is_gone(capabilities: NodeCapabilities) -> None:
    """A shim stops its job for want of contact; a pod goes on."""
    world = World(SETTINGS)
    connect(world, capabilities=capabilities)
    world.submit(spec(retry=RetryPolicy(("node_lost",), 1)))
    world.plan()
    world.run(TRAIN)
    world.send(NodeLeaseExpired("n1"))
    world.pass_time(1e6)
    world.send(TimePassed())
    assert world.state(E) == ("RUNNING" if capabilities.pod_network else "PENDING")
