"""Who makes room, from the plan to the start of whom it was made for; the scheduler is the real
one.
"""

from __future__ import annotations

from typing import Any

from controlplane.domain.events import PlanMade, QueueCreated
from controlplane.domain.model import QueueSettings
from controlplane.domain.plan import PendingCode
from controlplane.scheduler.cycle import schedule
from riseml.spec.model import GIB, Resources
from tests.unit.core.world import World, gang, gpu, spec

ONE_GPU = gang(("train", 1), resources=Resources(cpu_milli=1000, memory_bytes=GIB, gpu_milli=1000))
LOW, HIGH = "ana.1", "ana.2"


def plan(world: World) -> Any:
    return world.send(PlanMade(schedule(world.cluster.snapshot(), world.now)))


def occupied(**fields: Any) -> World:
    """One GPU, and a job of priority 40 that has run on it for a minute."""
    world = World()
    world.connect(gpus=(gpu("g0"),))
    world.submit(spec(roles=ONE_GPU, priority=40, **fields))
    plan(world)
    world.run(f"{LOW}.train.1-1")
    world.pass_time(60)
    return world


def codes(world: World, experiment_id: str) -> list[PendingCode]:
    waiting = world.cluster.waiting.get(experiment_id)
    return [] if waiting is None else [reason.code for reason in waiting.reasons]


def test_a_job_of_higher_priority_gets_the_room_and_the_other_waits_again_uncounted() -> None:
    world = occupied()
    world.submit(spec(roles=ONE_GPU, priority=60))
    assert world.woke
    assert plan(world).evicted == (LOW,)
    assert world.stopped == {f"{LOW}.train.1-1": "preempted"}
    words = (
        "made room for ana.2: its priority is 60, this one's 40; 1 GPU-minute of work since it "
        "started is lost"
    )
    assert world.experiment(LOW).message == words
    assert codes(world, HIGH) == [PendingCode.PREEMPTING, PendingCode.GPUS_BUSY]
    world.pass_time(5)
    assert plan(world).evicted == (), "once is enough"
    world.exit(f"{LOW}.train.1-1", 0)
    assert world.state(LOW) == "PENDING"
    assert world.experiment(LOW).message == words
    assert world.experiment(LOW).retries_used == 0
    assert plan(world).started == (HIGH,)
    assert codes(world, LOW) == [PendingCode.GPUS_BUSY]


def test_the_room_is_for_whom_it_was_made_and_not_for_who_comes_meanwhile() -> None:
    world = occupied()
    world.submit(spec(roles=ONE_GPU, priority=60))
    plan(world)
    short = world.submit(spec(roles=ONE_GPU, priority=60, max_duration_seconds=10))
    plan(world)
    world.exit(f"{LOW}.train.1-1", 0)
    assert plan(world).started == (HIGH,)
    assert world.state(short) == "PENDING"


def test_where_one_preempts_the_next_may_as_well() -> None:
    world = World()
    world.connect(gpus=(gpu("g0"), gpu("g1", 1)))
    for _ in range(2):
        world.submit(spec(roles=ONE_GPU, priority=40))
    plan(world)
    for _ in range(2):
        world.submit(spec(roles=ONE_GPU, priority=60))
        assert world.woke
        assert len(plan(world).evicted) == 1
    world.submit(spec(roles=ONE_GPU, priority=60))
    assert plan(world).evicted == ()


def test_a_kill_of_whom_it_was_made_for_leaves_the_room_to_the_others() -> None:
    world = occupied()
    world.submit(spec(roles=ONE_GPU, priority=60))
    plan(world)
    world.kill(HIGH)
    world.exit(f"{LOW}.train.1-1", 0)
    assert plan(world).started == (LOW,)


def test_a_queue_takes_back_its_guarantee_from_another_and_no_more() -> None:
    world = World()
    world.connect(gpus=(gpu("g0"), gpu("g1", 1)))
    for _ in range(2):
        world.submit(spec(roles=ONE_GPU, priority=90))
    plan(world)
    world.run("ana.1.train.1-1", "ana.2.train.1-1")
    world.send(QueueCreated("lab", QueueSettings(guaranteed_gpu_milli=1000)))
    for _ in range(2):
        world.submit(spec(roles=ONE_GPU, queue="lab", priority=10))
    applied = plan(world)
    assert len(applied.evicted) == 1
    (victim,) = applied.evicted
    assert "queue lab takes back" in world.experiment(victim).message
    world.exit(f"{victim}.train.1-1", 0)
    assert plan(world).started == ("ana.3",)
    world.pass_time(3600)
    assert plan(world).evicted == ()
    assert codes(world, "ana.4") == [PendingCode.GPUS_BUSY]
