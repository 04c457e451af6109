"""What queues and users hold and used: counted as it happens, equal to a count from scratch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.invariants import InvariantViolated
from controlplane.core.settings import Settings
from controlplane.core.usage import SAVE_SECONDS, UseLedger
from controlplane.domain.events import (
    ControlPlaneStarted,
    NodeForgotten,
    NodeInventoryChanged,
    NodeLeaseExpired,
    QueueCreated,
    TimePassed,
)
from controlplane.domain.model import Attempt, Experiment, GpuShare, QueueSettings, UseRecord
from controlplane.domain.snapshot import Held, UserView
from controlplane.domain.states import AttemptState, State
from riseml.spec.model import GIB, Resources
from tests.unit.core.world import World, gang, gpu, inventory, spec

HALF_LIFE = 1000.0
# Of a node of 8 CPUs, 16 GiB and two GPUs: an eighth, a quarter, a half.
CPU_JOB = Resources(cpu_milli=1000, memory_bytes=GIB)
MEMORY_JOB = Resources(cpu_milli=1000, memory_bytes=4 * GIB)
GPU_JOB = Resources(cpu_milli=1000, memory_bytes=GIB, gpu_milli=1000)


def world_with_gpus() -> World:
    world = World(Settings(use_half_life_seconds=HALF_LIFE))
    world.connect(gpus=(gpu("g0"), gpu("g1", 1)))
    return world


def start(world: World, resources: Resources, queue: str = "default") -> str:
    """One running job; returns the id of its attempt."""
    experiment_id = world.submit(spec(queue=queue, roles=gang(("train", 1), resources=resources)))
    world.plan()
    attempt_id = f"{experiment_id}.train.1-1"
    world.run(attempt_id)
    return attempt_id


def user_view(world: World, queue: str = "default") -> UserView:
    (view,) = (view for view in world.cluster.snapshot().users if view.queue == queue)
    return view


# --- held


def test_what_is_held_is_shown_for_the_queue_and_the_user() -> None:
    world = world_with_gpus()
    start(world, GPU_JOB)
    start(world, CPU_JOB)
    held = Held(1000, 2000, 2 * GIB)
    (queue,) = world.cluster.snapshot().queues
    assert (queue.held, user_view(world).held) == (held, held)


def test_nothing_is_held_after_the_end() -> None:
    world = world_with_gpus()
    attempt_id = start(world, GPU_JOB)
    world.exit(attempt_id)
    assert user_view(world).held == Held()
    assert user_view(world).use.rate == 0.0


def test_queues_are_counted_apart() -> None:
    world = world_with_gpus()
    world.send(QueueCreated("research", QueueSettings(weight=2)))
    start(world, GPU_JOB)
    start(world, CPU_JOB, "research")
    held = {view.queue.name: view.held.gpu_milli for view in world.cluster.snapshot().queues}
    assert held == {"default": 1000, "research": 0}
    assert [view.queue for view in world.cluster.snapshot().users] == ["default", "research"]


@pytest.mark.parametrize(
    ("resources", "part"), [(CPU_JOB, 1 / 8), (MEMORY_JOB, 1 / 4), (GPU_JOB, 1 / 2)]
)
def test_the_resource_of_which_most_is_held_counts(resources: Resources, part: float) -> None:
    world = world_with_gpus()
    start(world, resources)
    assert user_view(world).use.rate == part


def test_a_view_is_the_same_object_as_long_as_nothing_of_it_changed() -> None:
    world = world_with_gpus()
    world.send(QueueCreated("research", QueueSettings(weight=2)))
    start(world, GPU_JOB)
    before = world.cluster.snapshot()
    start(world, CPU_JOB, "research")
    after = world.cluster.snapshot()
    assert after is not before
    assert after.queues[0] is before.queues[0]
    assert after.users[0] is before.users[0]
    assert after.queues[1] is not before.queues[1]


# --- recent use


def test_use_halves_with_every_half_life() -> None:
    world = world_with_gpus()
    attempt_id = start(world, GPU_JOB)
    world.pass_time(10)
    world.exit(attempt_id)
    used = user_view(world).use.at(world.now)
    assert used == pytest.approx(5.0, rel=0.01)
    assert user_view(world).use.at(world.now + 2 * HALF_LIFE) == pytest.approx(used / 4)


def test_use_of_what_runs_for_ever_comes_to_an_equilibrium() -> None:
    world = world_with_gpus()
    start(world, GPU_JOB)
    assert user_view(world).use.at(world.now + 50 * HALF_LIFE) == pytest.approx(
        0.5 * HALF_LIFE / math.log(2)
    )


def test_a_node_that_joins_makes_what_is_held_a_smaller_part() -> None:
    world = world_with_gpus()
    start(world, GPU_JOB)
    world.pass_time(10)
    world.connect("n2", gpus=(gpu("g2"), gpu("g3", 1)))
    assert user_view(world).use.rate == 0.25
    world.pass_time(10)
    assert user_view(world).use.at(world.now) == pytest.approx(7.5, rel=0.02)


def test_a_node_that_is_lost_still_counts_until_it_is_forgotten() -> None:
    world = world_with_gpus()
    world.connect("n2", gpus=(gpu("g2"), gpu("g3", 1)))
    start(world, GPU_JOB)
    world.send(NodeLeaseExpired("n2"))
    assert user_view(world).use.rate == 0.25
    world.send(NodeForgotten("n2"))
    assert user_view(world).use.rate == 0.5


def test_what_is_held_beyond_the_capacity_is_all_of_it() -> None:
    world = world_with_gpus()
    start(world, GPU_JOB)
    start(world, GPU_JOB)
    world.send(NodeInventoryChanged(inventory(gpus=(gpu("g0"),)), 1))
    assert user_view(world).use.rate == 1.0


# --- remembered


def test_nothing_is_written_while_the_use_is_fresh() -> None:
    world = world_with_gpus()
    start(world, GPU_JOB)
    world.pass_time(SAVE_SECONDS - 1)
    world.send(TimePassed())
    assert world.store.all(UseRecord) == ()


def test_use_is_written_when_it_is_five_minutes_old() -> None:
    world = world_with_gpus()
    start(world, GPU_JOB)
    world.pass_time(SAVE_SECONDS)
    world.send(TimePassed())
    saved = {(r.queue, r.user_name): r for r in world.store.all(UseRecord)}
    assert saved.keys() == {("default", ""), ("default", "ana")}
    record = saved["default", "ana"]
    assert record.time == world.now
    assert record.seconds == pytest.approx(user_view(world).use.at(world.now))
    world.pass_time(SAVE_SECONDS - 1)
    world.send(TimePassed())
    assert set(world.store.all(UseRecord)) == set(saved.values())


def test_what_does_not_change_any_more_is_written_once() -> None:
    world = world_with_gpus()
    world.exit(start(world, GPU_JOB))
    for _ in range(5):
        world.pass_time(SAVE_SECONDS)
        world.send(TimePassed())
    assert {record.time for record in world.store.all(UseRecord)} == {1000.0 + SAVE_SECONDS}


def test_a_restart_forgets_at_most_what_was_not_written() -> None:
    world = world_with_gpus()
    start(world, GPU_JOB)
    for _ in range(4):
        world.pass_time(SAVE_SECONDS)
        world.send(TimePassed())
    ended = start(world, CPU_JOB)
    world.pass_time(100)
    world.exit(ended)
    expected = user_view(world).use.at(world.now)
    world.cluster = world.reload()
    world.send(ControlPlaneStarted())
    restored = user_view(world)
    assert restored.held == Held(1000, 1000, GIB)
    # The part of the job that ended since is gone; the GPU job went on.
    assert restored.use.at(world.now) == pytest.approx(expected, abs=100 / 8)


def test_what_runs_when_nothing_was_written_counts_from_its_beginning() -> None:
    world = world_with_gpus()
    start(world, GPU_JOB)
    world.pass_time(100)
    before = user_view(world).use.at(world.now)
    world.cluster = world.reload()
    assert user_view(world).use.at(world.now) == pytest.approx(before)


def saved(world: World) -> list[UseRecord]:
    """What is stored of users' use after a moment."""
    world.send(TimePassed())
    return [record for record in world.store.all(UseRecord) if record.user_name]


def test_a_restart_writes_what_is_old() -> None:
    """Else restarts in a row would forget more and more."""
    world = world_with_gpus()
    start(world, GPU_JOB)
    world.pass_time(SAVE_SECONDS - 1)
    world.cluster = world.reload()
    world.pass_time(1)
    (record,) = saved(world)
    assert record.seconds == pytest.approx(user_view(world).use.at(world.now))


def test_a_cluster_that_is_restored_because_the_store_failed_does_not_write_at_once() -> None:
    world = world_with_gpus()
    start(world, GPU_JOB)
    world.pass_time(10 * SAVE_SECONDS)
    world.cluster = world.reload(use_is_fresh_at=world.now)
    assert saved(world) == []
    world.pass_time(SAVE_SECONDS)
    (record,) = saved(world)
    assert record.seconds == pytest.approx(user_view(world).use.at(world.now))


def test_use_that_nobody_would_miss_is_forgotten() -> None:
    world = world_with_gpus()
    world.send(QueueCreated("research", QueueSettings(weight=2)))
    world.exit(start(world, GPU_JOB, "research"))
    world.pass_time(SAVE_SECONDS)
    world.send(TimePassed())
    assert len(world.store.all(UseRecord)) == 2
    world.pass_time(60 * HALF_LIFE)
    start(world, CPU_JOB)
    world.pass_time(SAVE_SECONDS)
    world.send(TimePassed())
    assert {record.queue for record in world.store.all(UseRecord)} == {"default"}
    assert [view.queue for view in world.cluster.snapshot().users] == ["default"]


# --- equal to a count from scratch


@dataclass(frozen=True)
class Step:
    """After `gap` seconds: a job of these resources begins, or the one at a place ends."""

    gap: float
    resources: Resources
    ends: int | None


steps = st.lists(
    st.builds(
        Step,
        gap=st.floats(0, 3 * HALF_LIFE),
        resources=st.sampled_from((CPU_JOB, MEMORY_JOB, GPU_JOB)),
        ends=st.none() | st.integers(0, 5),
    ),
    max_size=12,
)


def decayed(holds: list[tuple[float, float, float]], now: float) -> float:
    """Of stretches (begin, end, part of the cluster), by the definition of a half-life."""
    constant = HALF_LIFE / math.log(2)
    return sum(
        part * constant * (2 ** ((end - now) / HALF_LIFE) - 2 ** ((begin - now) / HALF_LIFE))
        for begin, end, part in holds
    )


@given(steps)
def test_the_running_count_equals_one_from_scratch(history: list[Step]) -> None:
    ledger = UseLedger(HALF_LIFE)
    ledger.node_changed(None, inventory(gpus=(gpu("g0"), gpu("g1", 1))), None)
    now, running = 1000.0, list[tuple[Experiment, Attempt]]()
    holds: list[tuple[float, float, float]] = []
    for number, step in enumerate(history):
        parts = (
            sum(len(a.gpus) for _, a in running) / 2,
            sum(a.cpu_milli for _, a in running) / 8000,
            sum(a.memory_bytes for _, a in running) / (16 * GIB),
        )
        holds.append((now, now + step.gap, min(1.0, max(parts))))
        now += step.gap
        if step.ends is None or not running:
            running.append(job(number, step.resources))
            ledger.take(*running[-1], now)
        else:
            ledger.give_back(*running.pop(step.ends % len(running)), now)
    account = ledger.users.get("default", {}).get("ana")
    used = 0.0 if account is None else ledger.use_of(account).at(now)
    assert used == pytest.approx(decayed(holds, now), rel=1e-9, abs=1e-6)


def job(number: int, resources: Resources) -> tuple[Experiment, Attempt]:
    shares = (GpuShare("g0", 1000),) if resources.gpu_milli else ()
    owner = Experiment(
        f"ana.{number}", "ana", number, 0, None, "digits", "", spec(), (), State.RUNNING, 0.0
    )
    held = Attempt(
        f"ana.{number}.train.1-1",
        f"ana.{number}.train.1",
        owner.id,
        1,
        "n1",
        AttemptState.RUNNING,
        0.0,
        shares,
        resources.cpu_milli,
        resources.memory_bytes,
    )
    return owner, held


@pytest.mark.parametrize("field", ["gpu_milli", "cpu_milli", "memory_bytes", "rate"])
def test_an_account_that_is_wrong_is_found(field: str) -> None:
    world = world_with_gpus()
    start(world, GPU_JOB)
    account = world.cluster.use.users["default"]["ana"]
    setattr(account, field, getattr(account, field) + 1)
    with pytest.raises(InvariantViolated, match="account of \\('default', 'ana'\\)"):
        world.cluster.check_invariants()


def test_a_wrong_capacity_is_found() -> None:
    world = world_with_gpus()
    world.cluster.use.capacity = replace(world.cluster.use.capacity, cpu_milli=1)
    with pytest.raises(InvariantViolated, match="capacity"):
        world.cluster.check_invariants()
