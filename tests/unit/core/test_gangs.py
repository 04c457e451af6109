"""Several jobs that start, fail and end together."""

from __future__ import annotations

import pytest

from controlplane.domain.effects import StartAttempt
from controlplane.domain.events import CheckpointWritten, NodeDrained
from controlplane.domain.states import AttemptState
from riseml.spec.model import RetryPolicy
from tests.unit.core.world import World, gang, spec

E = "ana.1"


def placed(*roles: tuple[str, int], **fields: object) -> World:
    world = World()
    world.connect()
    world.connect("n2")
    world.submit(spec(roles=gang(*roles), **fields))
    world.plan()
    return world


def workers(count: int = 2, **fields: object) -> World:
    return placed(("worker", count), framework="jax", **fields)


W1, W2 = "ana.1.worker.1-1", "ana.1.worker.2-1"


def test_members_know_each_other_by_address_and_free_port() -> None:
    world = workers()
    first, second = (e.order for e in world.effects if isinstance(e, StartAttempt))
    assert first.peers == second.peers
    assert [(p.job_number, p.rank, p.host, p.port) for p in first.peers] == [
        (1, 0, "n1.example", 20000),
        (2, 1, "n1.example", 20001),
    ]
    assert (first.rank, second.rank) == (0, 1)


def test_daemons_that_share_a_host_share_its_ports() -> None:
    world = World()
    for name in ("n1", "n2"):
        world.connect(name, address="host.example", cpu_milli=2000)
    for _ in range(2):
        world.submit(spec(roles=gang(("worker", 2)), framework="jax"))
        world.plan()
    attempts = [world.attempt(f"ana.{e}.worker.{n}-1") for e in (1, 2) for n in (1, 2)]
    assert {a.node_name for a in attempts} == {"n1", "n2"}
    assert sorted(a.port for a in attempts) == [20000, 20001, 20002, 20003]


def test_ports_are_free_again_for_the_next_gang() -> None:
    world = workers()
    for attempt_id in (W1, W2):
        world.exit(attempt_id, 0)
    world.submit(spec(roles=gang(("worker", 2)), framework="jax"))
    world.plan()
    assert {world.attempt(f"ana.2.worker.{n}-1").port for n in (1, 2)} == {20000, 20001}


def test_a_gang_partly_up_is_starting() -> None:
    world = workers()
    world.run(W1)
    assert world.state(E) == "STARTING"
    assert world.experiment(E).start_time is None
    world.pass_time(5)
    world.run(W2)
    assert world.state(E) == "RUNNING"
    assert world.experiment(E).start_time == 1005.0


def test_a_gang_finishes_when_all_have_succeeded() -> None:
    world = workers()
    world.run(W1, W2)
    world.exit(W1, 0)
    assert (world.state(E), world.state("ana.1.worker.1")) == ("RUNNING", "RUNNING")
    assert world.cluster.jobs["ana.1.worker.1"].reason == "WAITS_FOR_GANG"
    world.exit(W2, 0)
    assert world.state(E) == "FINISHED"
    assert [job.state.value for job in world.cluster.jobs_of(E)] == ["FINISHED", "FINISHED"]


def test_the_first_failure_stops_the_rest_and_names_itself() -> None:
    world = workers(3)
    w3 = "ana.1.worker.3-1"
    world.run(W1, W2, w3)
    world.exit(W2, 3)
    assert world.stopped == {W1: "gang_member_failed", w3: "gang_member_failed"}
    assert world.state("ana.1.worker.2") == "FAILED"
    assert world.state(E) == "RUNNING"
    world.exit(W1, 1)
    world.exit(w3, None, exit_signal=15)
    ended = world.experiment(E)
    assert (ended.state.value, ended.reason) == ("FAILED", "EXIT_CODE")
    assert ended.message == "worker.2 ended with exit code 3"
    assert world.state("ana.1.worker.1") == "KILLED"
    assert world.cluster.jobs["ana.1.worker.1"].reason == "GANG_MEMBER_FAILED"


def test_a_member_that_was_done_before_another_failed_has_finished() -> None:
    world = workers()
    world.run(W1, W2)
    world.exit(W1, 0)
    world.exit(W2, 1)
    assert [job.state.value for job in world.cluster.jobs_of(E)] == ["FINISHED", "FAILED"]
    assert world.state(E) == "FAILED"


def tensorflow() -> tuple[World, dict[str, str]]:
    world = placed(("master", 1), ("worker", 1), ("ps", 1), framework="tensorflow")
    ids = {name: f"ana.1.{name}.1-1" for name in ("master", "worker", "ps")}
    world.run(*ids.values())
    return world, ids


def test_parameter_servers_are_stopped_when_the_workers_have_finished() -> None:
    world, ids = tensorflow()
    world.exit(ids["worker"], 0)
    assert not world.stopped
    world.exit(ids["master"], 0)
    assert world.stopped == {ids["ps"]: "workers_finished"}
    assert world.state(E) == "RUNNING"
    world.exit(ids["ps"], None, exit_signal=15)
    assert world.state(E) == "FINISHED"
    assert {job.state.value for job in world.cluster.jobs_of(E)} == {"FINISHED"}


def test_a_failing_master_ends_the_rest() -> None:
    world, ids = tensorflow()
    world.exit(ids["master"], 2)
    assert set(world.stopped) == {ids["worker"], ids["ps"]}
    world.exit(ids["worker"], None, exit_signal=15)
    world.exit(ids["ps"], None, exit_signal=15)
    assert (world.state(E), world.experiment(E).message) == (
        "FAILED",
        "master.1 ended with exit code 2",
    )


def test_a_failing_parameter_server_fails_the_experiment() -> None:
    world, ids = tensorflow()
    world.exit(ids["ps"], 1)
    world.exit(ids["master"], 0)
    world.exit(ids["worker"], 0)
    assert (world.state(E), world.experiment(E).message) == (
        "FAILED",
        "ps.1 ended with exit code 1",
    )


def test_killing_a_gang_stops_every_member() -> None:
    world = workers()
    world.run(W1)
    world.kill(E)
    assert world.stopped == {W1: "killed", W2: "killed"}
    world.exit(W1, None, exit_signal=15)
    assert world.state(E) == "STARTING"
    world.exit(W2, None)
    assert world.state(E) == "KILLED"


def test_a_retryable_failure_starts_the_whole_gang_again_once_all_have_ended() -> None:
    world = workers(retry=RetryPolicy(("error",), 1))
    world.run(W1, W2)
    world.exit(W1, 0)
    world.exit(W2, 1)
    assert world.state(E) == "PENDING"
    assert {job.state.value for job in world.cluster.jobs_of(E)} == {"PENDING"}
    assert world.experiment(E).retries_used == 1
    assert world.experiment(E).message == "worker.2 ended with exit code 1; retry 1 of 1"
    world.plan()
    assert world.started == ["ana.1.worker.1-2", "ana.1.worker.2-2"]
    assert world.experiment(E).generation == 2
    world.exit("ana.1.worker.2-2", 1)
    world.exit("ana.1.worker.1-2", None, exit_signal=15)
    assert world.state(E) == "FAILED"


def test_a_gang_that_restarts_waits_for_its_slowest_member() -> None:
    world = workers(retry=RetryPolicy(("error",), 1))
    world.run(W1, W2)
    world.exit(W2, 1)
    assert world.stopped == {W1: "gang_restart"}
    assert world.state(E) == "RUNNING"
    assert world.plan().started == ()
    world.exit(W1, 0)
    assert world.attempt(W1).state is AttemptState.PREEMPTED
    assert world.state(E) == "PENDING"


def test_a_kill_while_a_gang_restarts_ends_it() -> None:
    world = workers(retry=RetryPolicy(("error",), 1))
    world.run(W1, W2)
    world.exit(W2, 1)
    world.kill(E)
    world.exit(W1, 0)
    assert world.state(E) == "KILLED"


def test_draining_one_node_takes_the_whole_gang_elsewhere() -> None:
    world = World()
    world.connect(cpu_milli=1000)
    world.connect("n2", cpu_milli=1000)
    world.connect("n3", cpu_milli=1000)
    world.submit(spec(roles=gang(("worker", 2)), framework="jax"))
    world.plan()
    world.run(W1, W2)
    assert [world.attempt(a).node_name for a in (W1, W2)] == ["n1", "n2"]
    world.send(NodeDrained("n1"))
    assert world.stopped == {W1: "drained", W2: "gang_restart"}
    world.exit(W1, 0)
    world.exit(W2, 0)
    restarted = world.experiment(E)
    assert (restarted.state.value, restarted.reason) == ("PENDING", "DRAINED")
    assert restarted.retries_used == 0
    world.plan()
    assert {world.attempt(f"ana.1.worker.{n}-2").node_name for n in (1, 2)} == {"n2", "n3"}


@pytest.mark.parametrize("count", [1, 3])
def test_an_order_lists_peers_only_for_gangs(count: int) -> None:
    world = workers(count)
    (order, *_) = (e.order for e in world.effects if isinstance(e, StartAttempt))
    assert len(order.peers) == (0 if count == 1 else count)


def test_a_gang_waits_rather_than_half_starts() -> None:
    world = World()
    world.connect(cpu_milli=1000)
    world.submit(spec(roles=gang(("worker", 2)), framework="jax"))
    assert world.plan().started == ()
    assert world.state(E) == "PENDING"
    assert not world.cluster.attempts


def test_a_gang_last_wrote_what_its_newest_member_wrote() -> None:
    world = workers()
    world.run(W1, W2)
    node = world.attempt(W1).node_name

    def seen() -> float | None:
        (running,) = world.cluster.snapshot().running
        return running.checkpoint_time

    assert seen() is None
    world.pass_time(100)
    world.send(CheckpointWritten(node, W1, world.now - 50))
    assert seen() == world.now - 50
    version = world.cluster.snapshot().version
    world.send(CheckpointWritten(node, W1, world.now - 60))
    assert world.cluster.snapshot().version == version, "it knew of a newer one"
    world.send(CheckpointWritten(world.attempt(W2).node_name, W2, world.now + 7))
    assert seen() == world.now, "a node's clock may be wrong"


def test_checkpoints_of_attempts_that_do_not_run_there_mean_nothing() -> None:
    world = World()
    world.connect("n1")
    world.submit(spec())
    world.plan()
    attempt = "ana.1.train.1-1"
    world.send(CheckpointWritten("n2", attempt, world.now))
    world.send(CheckpointWritten("n1", "ana.9.train.1-1", world.now))
    assert not world.cluster.checkpoints
    world.run(attempt)
    world.send(CheckpointWritten("n1", attempt, world.now))
    world.exit(attempt)
    assert not world.cluster.checkpoints, "what ended is forgotten"
