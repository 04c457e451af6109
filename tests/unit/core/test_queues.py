"""Queues: made, changed and removed; what is refused; what is said of them."""

from __future__ import annotations

import pytest

from controlplane.core.queues import QueueUse, queue_uses
from controlplane.domain.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
)
from controlplane.domain.events import QueueCreated, QueueDeleted, QueueUpdated, UserCreated
from controlplane.domain.model import ApiKey, PlacementStyle, Queue, QueueSettings
from riseml.spec.model import GIB, ParameterValues, Resources
from tests.unit.core.world import World, gang, gpu, spec

ONE_GPU = Resources(cpu_milli=1000, memory_bytes=GIB, gpu_milli=1000)


def make(world: World, name: str, **settings: object) -> Queue:
    reply = world.send(QueueCreated(name, QueueSettings(**settings), f"make-{name}"))  # type: ignore[arg-type]
    assert isinstance(reply, Queue)
    return reply


def change(world: World, name: str, **settings: object) -> Queue:
    reply = world.send(QueueUpdated(name, QueueSettings(**settings)))  # type: ignore[arg-type]
    assert isinstance(reply, Queue)
    return reply


def use_of(world: World, name: str) -> QueueUse:
    return queue_uses(world.cluster, [name], world.now, with_users=True)[0]


def with_gpus(count: int = 4) -> World:
    world = World()
    world.connect(gpus=tuple(gpu(f"g{index}", index) for index in range(count)))
    world.send(UserCreated("bob", "", False, ApiKey("key2", "bob", "11" * 32, "", 0.0)))
    return world


# --- made, changed, removed


def test_default_is_there_before_anybody_makes_a_queue() -> None:
    world = World()
    assert world.cluster.queue("default") == Queue("default")
    assert world.cluster.queue_names() == ["default"]
    assert [view.queue.name for view in world.cluster.snapshot().queues] == ["default"]


def test_a_new_queue_has_defaults_for_what_is_not_said() -> None:
    world = World()
    queue = make(world, "research", weight=3, limit_gpu_milli=4000)
    assert (queue.weight, queue.limit_gpu_milli) == (3, 4000)
    assert (queue.guaranteed_gpu_milli, queue.placement) == (0, PlacementStyle.PACK)
    assert (queue.preempts_lower_priority, queue.create_time) == (True, world.now)
    assert [v.queue.name for v in world.cluster.snapshot().queues] == ["default", "research"]


def test_the_same_request_id_gives_the_first_queue() -> None:
    world = World()
    first = make(world, "research")
    world.pass_time(60)
    assert make(world, "research") is first
    with pytest.raises(AlreadyExists, match="choose another name"):
        world.send(QueueCreated("research", QueueSettings(), "another"))
    with pytest.raises(AlreadyExists):
        world.send(QueueCreated("default", QueueSettings(), ""))


def test_an_update_changes_what_it_names_and_wakes_the_scheduler() -> None:
    world = World()
    make(world, "research", weight=3, limit_gpu_milli=4000, default_max_duration_seconds=60)
    before = world.cluster.snapshot()
    queue = change(world, "research", guaranteed_gpu_milli=2000, placement=PlacementStyle.SPREAD)
    assert world.woke
    assert (queue.weight, queue.limit_gpu_milli) == (3, 4000)
    assert (queue.guaranteed_gpu_milli, queue.placement) == (2000, PlacementStyle.SPREAD)
    after = world.cluster.snapshot()
    assert after.version > before.version
    assert after.queues[1].queue == queue


def test_an_update_that_changes_nothing_does_nothing() -> None:
    world = World()
    make(world, "research", weight=3)
    change(world, "research", weight=3)
    assert not world.woke


def test_limits_are_lifted_by_their_special_values() -> None:
    world = World()
    make(world, "research", limit_gpu_milli=4000, default_max_duration_seconds=60)
    queue = change(world, "research", limit_gpu_milli=-1, default_max_duration_seconds=0)
    assert queue.limit_gpu_milli is None
    assert queue.default_max_duration_seconds is None


def test_a_limit_of_zero_closes_a_queue() -> None:
    assert make(World(), "closed", limit_gpu_milli=0).limit_gpu_milli == 0


def test_default_may_be_changed_and_stays_so_after_a_restart() -> None:
    world = World()
    for weight in (5, 7):
        change(world, "default", weight=weight)
    assert world.cluster.queue("default") == Queue("default", weight=7)
    assert world.reload().queue("default") == Queue("default", weight=7)


@pytest.mark.parametrize(
    ("name", "settings", "path", "words"),
    [
        ("no spaces", {}, "name", "no queue's name"),
        ("x" * 64, {}, "name", "no queue's name"),
        ("q", {"weight": 0}, "weight", "0 is not 1"),
        ("q", {"guaranteed_gpu_milli": -1}, "guaranteed_gpu_milli", "is not 0"),
        ("q", {"limit_gpu_milli": 10**12}, "limit_gpu_milli", "is not 0"),
        (
            "q",
            {"limit_gpu_milli": 1000, "guaranteed_gpu_milli": 2500},
            "limit_gpu_milli",
            "1 GPU is below the guarantee, which is 2.5 GPUs",
        ),
        ("q", {"default_max_duration_seconds": -5}, "default_max_duration_seconds", "1s to 3650d"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_field(
    name: str, settings: dict[str, object], path: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as refused:
        make(World(), name, **settings)
    assert [violation.path for violation in refused.value.violations] == [path]


def test_a_change_is_checked_together_with_what_stays() -> None:
    world = World()
    make(world, "research", guaranteed_gpu_milli=2000)
    with pytest.raises(InvalidRequest, match="below the guarantee"):
        change(world, "research", limit_gpu_milli=1000)


def test_default_is_never_deleted() -> None:
    world = World()
    with pytest.raises(FailedPrecondition, match="always there"):
        world.send(QueueDeleted("default"))


def test_a_queue_is_deleted_once_nothing_waits_or_runs_in_it() -> None:
    world = World()
    make(world, "research")
    world.connect()
    waiting = world.submit(spec(queue="research"))
    with pytest.raises(FailedPrecondition, match="1 experiment waits or runs in it") as refused:
        world.send(QueueDeleted("research"))
    assert refused.value.reason == "QUEUE_IN_USE"
    world.plan()
    world.run("ana.1.train.1-1")
    with pytest.raises(FailedPrecondition):
        world.send(QueueDeleted("research"))
    world.exit("ana.1.train.1-1")
    assert world.state(waiting) == "FINISHED"
    world.send(QueueDeleted("research"))
    assert world.cluster.queue_names() == ["default"]
    assert world.reload().queue_names() == ["default"]


def test_what_a_deleted_queue_used_is_forgotten() -> None:
    world = World()
    make(world, "research")
    world.connect()
    world.submit(spec(queue="research"))
    world.plan()
    world.pass_time(1000)
    world.exit("ana.1.train.1-1")
    assert [(u.queue, u.user_name) for u in world.cluster.snapshot().users] == [("research", "ana")]
    world.send(QueueDeleted("research"))
    make(world, "research")
    assert use_of(world, "research").use.recent_share == 0.0
    assert world.cluster.snapshot().users == ()


def test_an_unknown_queue_is_named_with_those_that_there_are() -> None:
    world = World()
    make(world, "research")
    for event in (QueueDeleted("reserch"), QueueUpdated("reserch", QueueSettings())):
        with pytest.raises(NotFound, match="did you mean research") as refused:
            world.send(event)
        assert "(there are default, research)" in refused.value.message


# --- what they have


def test_a_queue_shows_what_it_holds_borrows_and_wants() -> None:
    world = with_gpus(4)
    make(world, "research", guaranteed_gpu_milli=1000)
    for _ in range(5):
        world.submit(spec(queue="research", roles=gang(("train", 1), resources=ONE_GPU)))
    world.plan()
    found = use_of(world, "research")
    assert found.use.held.gpu_milli == 4000
    assert (found.use.running_count, found.use.waiting_count) == (4, 1)
    assert found.use.waiting_gpu_milli == 1000
    assert found.borrowed_gpu_milli == 3000
    assert found.use.share == 1.0


def test_children_that_wait_for_their_turn_want_no_place() -> None:
    world = with_gpus(1)
    letters = ParameterValues("letter", ("a", "b", "c"))
    world.submit(
        spec(parameters=(letters,), run=("echo {{letter}}",), concurrency=2),
        *[(("letter", value),) for value in "abc"],
    )
    assert use_of(world, "default").use.waiting_count == 2
    assert world.cluster.use.account("default").live_count == 3


def test_the_fair_share_is_by_weight_among_queues_that_run_or_wait() -> None:
    world = with_gpus()
    make(world, "research", weight=3)
    make(world, "idle", weight=6)
    world.submit(spec())
    world.submit(spec(queue="research"))
    uses = queue_uses(world.cluster, world.cluster.queue_names(), world.now)
    assert {use.queue.name: use.fair_share for use in uses} == {
        "default": 0.25,
        "research": 0.75,
        # As though it wanted something, too.
        "idle": 0.6,
    }


def test_users_of_a_queue_are_shown_with_their_part_of_its_use() -> None:
    world = with_gpus(4)
    one_gpu = spec(roles=gang(("train", 1), resources=ONE_GPU))
    world.submit(one_gpu)
    world.plan()
    world.pass_time(300)
    world.submit(one_gpu, user="bob")
    world.plan()
    world.pass_time(100)
    (ana, bob) = use_of(world, "default").users
    assert (ana[0], bob[0]) == ("ana", "bob")
    assert ana[1].recent_share == pytest.approx(0.8, abs=0.001)
    assert bob[1].recent_share == pytest.approx(0.2, abs=0.001)
    assert bob[1].held.gpu_milli == 1000
