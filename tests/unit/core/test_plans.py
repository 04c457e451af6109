"""Plans are checked against the present: what no longer fits is rejected and harms nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.core.settings import DEFAULTS, Settings
from controlplane.domain.events import (
    NodeCordoned,
    NodeDisconnected,
    NodeInventoryChanged,
    NodeTainted,
    NodeTelemetryLate,
    PlanMade,
    QueueUpdated,
)
from controlplane.domain.model import GpuShare, NodeCapabilities, QueueSettings
from controlplane.domain.plan import (
    GangPlacement,
    PendingCode,
    PendingReason,
    Plan,
    Reservation,
    Waiting,
    WaitingShape,
)
from controlplane.domain.snapshot import MemberPlacement
from controlplane.scheduler.cycle import schedule
from riseml.spec.model import GIB, Resources
from tests.unit.core.world import SMALL, World, gang, gpu, inventory, naive_plan, spec

E = "ana.1"
ONE_GPU = Resources(cpu_milli=1000, memory_bytes=GIB, gpu_milli=1000, gpu_model="H100")
HALF_GPU = Resources(cpu_milli=1000, memory_bytes=GIB, gpu_milli=500)
GPUS = (gpu("g0"), gpu("g1", 1))


def placement(
    *members: tuple[str, str, tuple[GpuShare, ...]], experiment: str = E
) -> GangPlacement:
    return GangPlacement(
        experiment, tuple(MemberPlacement(f"{experiment}.{j}", n, g) for j, n, g in members)
    )


def place(world: World, *placements: GangPlacement, version: int = 0) -> Any:
    return world.send(PlanMade(Plan(version, placements)))


def waiting(
    resources: Resources | None = None, settings: Settings = DEFAULTS, **fields: Any
) -> World:
    world = World(settings)
    world.connect(gpus=GPUS)
    if resources is not None:
        fields["roles"] = gang(("train", 1), resources=resources)
    world.submit(spec(**fields))
    return world


def share(uuid: str, milli: int = 1000) -> tuple[GpuShare, ...]:
    return (GpuShare(uuid, milli),)


def test_a_placement_that_fits_is_applied() -> None:
    world = waiting(ONE_GPU)
    applied = place(world, placement(("train.1", "n1", share("g1"))))
    assert (applied.started, applied.rejected) == ((E,), ())
    attempt = world.attempt("ana.1.train.1-1")
    assert (attempt.gpus, attempt.cpu_milli, attempt.memory_bytes) == (share("g1"), 1000, GIB)
    view = world.cluster.snapshot().nodes[0]
    assert [g.free_milli for g in view.gpus] == [1000, 0]


def test_shares_of_one_gpu_add_up() -> None:
    world = waiting(HALF_GPU)
    for _ in range(2):
        world.submit(spec(roles=gang(("train", 1), resources=HALF_GPU)))
    half = share("g0", 500)
    applied = place(
        world,
        *(placement(("train.1", "n1", half), experiment=f"ana.{n}") for n in (1, 2, 3)),
    )
    assert applied.started == ("ana.1", "ana.2")
    assert [r.experiment_id for r in applied.rejected] == ["ana.3"]
    assert world.cluster.usage_of("n1").gpu_milli == {"g0": 1000}


@pytest.mark.parametrize(
    ("resources", "shares", "why"),
    [
        (ONE_GPU, (), "does not give 1000 thousandths"),
        (ONE_GPU, share("g9"), "has no GPU g9"),
        (ONE_GPU, share("g0", 500), "does not give 1000 thousandths"),
        (ONE_GPU, (GpuShare("g0", 500), GpuShare("g1", 500)), "1 different GPUs"),
        (Resources(gpu_milli=2000), (GpuShare("g0", 1000),) * 2, "2 different GPUs"),
        (Resources(gpu_milli=1000, gpu_model="A100"), share("g0"), "is no A100"),
        (Resources(gpu_milli=1000, gpu_model="A100|L4"), share("g0"), "is no A100 or L4"),
        (Resources(gpu_milli=1000, gpu_min_memory_bytes=90 * GIB), share("g0"), "little memory"),
        (Resources(cpu_milli=9000), (), "too few free CPUs"),
        (Resources(memory_bytes=17 * GIB), (), "too little free memory"),
        (Resources(), share("g0"), "does not give 0 thousandths"),
    ],
)
def test_resources_are_checked_again(
    resources: Resources, shares: tuple[GpuShare, ...], why: str
) -> None:
    world = waiting(resources)
    applied = place(world, placement(("train.1", "n1", shares)))
    (rejected,) = applied.rejected
    assert why in rejected.reason
    assert world.state(E) == "PENDING"
    assert not world.cluster.attempts


def test_any_of_several_models_will_do() -> None:
    world = waiting(Resources(gpu_milli=1000, gpu_model="A100|H100"))
    assert place(world, placement(("train.1", "n1", share("g0")))).started == (E,)


def test_shared_memory_is_given_once() -> None:
    world = World()
    world.connect(shm_bytes=4 * GIB)
    wanted = Resources(cpu_milli=1000, memory_bytes=3 * GIB, shm_bytes=3 * GIB)
    for _ in range(2):
        world.submit(spec(roles=gang(("train", 1), resources=wanted)))
    first, second = (placement(("train.1", "n1", ()), experiment=f"ana.{n}") for n in (1, 2))
    applied = place(world, first, second)
    assert applied.started == ("ana.1",)
    assert "too little free shared memory" in applied.rejected[0].reason
    snapshot = world.cluster.snapshot()
    assert (snapshot.nodes[0].shm_bytes, snapshot.nodes[0].free_shm_bytes) == (4 * GIB, GIB)
    assert snapshot.running[0].members[0].shm_bytes == 3 * GIB
    world.exit("ana.1.train.1-1")
    assert world.cluster.snapshot().nodes[0].free_shm_bytes == 4 * GIB
    assert place(world, second).started == ("ana.2",)


def test_shared_memory_of_unknown_size_is_not_counted() -> None:
    world = waiting(Resources(cpu_milli=1000, memory_bytes=3 * GIB, shm_bytes=3 * GIB))
    assert place(world, placement(("train.1", "n1", ()))).started == (E,)
    view = world.cluster.snapshot().nodes[0]
    assert (view.shm_bytes, view.free_shm_bytes) == (0, 0)


def test_a_node_may_say_that_it_has_less_shared_memory_than_jobs_hold() -> None:
    world = waiting(Resources(cpu_milli=1000, memory_bytes=3 * GIB, shm_bytes=3 * GIB))
    place(world, placement(("train.1", "n1", ())))
    world.send(NodeInventoryChanged(inventory(shm_bytes=2 * GIB), 1))
    assert world.cluster.snapshot().nodes[0].free_shm_bytes == -GIB
    world.exit("ana.1.train.1-1")
    world.send(NodeInventoryChanged(inventory(shm_bytes=GIB), 1))


def test_a_sick_or_foreign_gpu_is_not_given_out() -> None:
    world = waiting(ONE_GPU)
    for changed, why in (
        (gpu("g0", foreign_memory_bytes=GIB), "did not start"),
        (gpu("g0", health="QUARANTINED", health_message="XID 79"), "XID 79"),
    ):
        world.send(NodeInventoryChanged(inventory(gpus=(changed,)), 1))
        (rejected,) = place(world, placement(("train.1", "n1", share("g0")))).rejected
        assert why in rejected.reason


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (NodeCordoned("n1", True), "cordoned"),
        (NodeDisconnected("n1", 1), "disconnected"),
        (NodeTelemetryLate("n1", True), "late with its telemetry"),
        (
            NodeInventoryChanged(inventory(capabilities=NodeCapabilities(only_user="bob")), 1),
            "only runs jobs of bob",
        ),
        (
            NodeInventoryChanged(inventory(unschedulable="cordoned in Kubernetes"), 1),
            "is cordoned in Kubernetes",
        ),
        (NodeInventoryChanged(inventory(taints=(("old", ""),)), 1), "the taint old of node n1"),
    ],
)
def test_a_node_that_closed_meanwhile_gets_nothing(event: Any, why: str) -> None:
    world = waiting()
    world.send(event)
    (rejected,) = place(world, placement(("train.1", "n1", ()))).rejected
    assert why in rejected.reason


def test_labels_are_checked_again() -> None:
    world = waiting(node_selector=(("zone", "a"),))
    (rejected,) = place(world, placement(("train.1", "n1", ()))).rejected
    assert "zone=a" in rejected.reason
    world.send(NodeInventoryChanged(inventory(labels=(("zone", "a"),)), 1))
    assert place(world, placement(("train.1", "n1", ()))).started == (E,)


def test_the_limit_of_a_queue_is_checked_again_over_the_whole_plan() -> None:
    world = waiting(HALF_GPU)
    for resources in (HALF_GPU, HALF_GPU, SMALL):
        world.submit(spec(roles=gang(("train", 1), resources=resources)))
    halves = [placement(("train.1", "n1", share("g0", 500)))]
    halves += [
        placement(("train.1", "n1", share(g, 500)), experiment=e)
        for e, g in (("ana.2", "g0"), ("ana.3", "g1"))
    ]
    place(world, halves[0])
    # The plan is from before an admin set the limit.
    world.send(QueueUpdated("default", QueueSettings(limit_gpu_milli=1000)))
    without_gpu = placement(("train.1", "n1", ()), experiment="ana.4")
    applied = place(world, *halves[1:], without_gpu)
    assert applied.started == ("ana.2", "ana.4")
    (rejected,) = applied.rejected
    assert rejected.reason == "queue default may hold 1 GPUs at most"
    world.exit("ana.1.train.1-1")
    assert place(world, halves[2]).started == ("ana.3",)


def test_taints_are_checked_again() -> None:
    world = waiting(tolerations=(("spot", ""),))
    world.send(NodeTainted("n1", (("dedicated", "vision"), ("spot", "yes"))))
    assert world.cluster.snapshot().nodes[0].taints == (("dedicated", "vision"), ("spot", "yes"))
    (rejected,) = place(world, placement(("train.1", "n1", ()))).rejected
    assert "does not tolerate the taint dedicated=vision of node n1" in rejected.reason
    world.send(NodeTainted("n1", (("spot", "yes"),)))
    assert world.woke
    assert place(world, placement(("train.1", "n1", ()))).started == (E,)


def test_a_taint_leaves_alone_what_runs_and_stays_when_the_node_comes_back() -> None:
    world = waiting()
    world.plan()
    world.send(NodeTainted("n1", (("spot", ""),)))
    assert not world.stopped
    world.connect(epoch=2)
    assert world.cluster.nodes["n1"].taints == (("spot", ""),)


def test_taints_from_elsewhere_count_beside_those_of_admins() -> None:
    world = waiting(tolerations=(("spot", ""),))
    world.send(NodeTainted("n1", (("spot", "yes"),)))
    world.send(NodeInventoryChanged(inventory(taints=(("old", ""), ("spot", "yes"))), 1))
    assert world.woke
    assert world.cluster.snapshot().nodes[0].taints == (("old", ""), ("spot", "yes"))
    assert world.cluster.nodes["n1"].taints == (("spot", "yes"),)
    (rejected,) = place(world, placement(("train.1", "n1", ()))).rejected
    assert "does not tolerate the taint old of node n1" in rejected.reason
    world.send(NodeInventoryChanged(inventory(), 1))
    assert place(world, placement(("train.1", "n1", ()))).started == (E,)


def test_a_node_that_is_cordoned_elsewhere_opens_when_it_is_open_there() -> None:
    world = waiting()
    world.send(NodeInventoryChanged(inventory(unschedulable="cordoned in Kubernetes"), 1))
    world.send(NodeCordoned("n1", False))
    (view,) = world.cluster.snapshot().nodes
    assert (view.open, view.closed_reason) == (False, "cordoned in Kubernetes")
    world.send(NodeInventoryChanged(inventory(), 1))
    assert world.woke and world.cluster.snapshot().nodes[0].open


def test_a_node_can_be_selected_by_its_name() -> None:
    world = waiting(node_selector=(("riseml.com/node", "n1"),))
    assert place(world, placement(("train.1", "n1", ()))).started == (E,)


def test_an_image_only_goes_where_images_run() -> None:
    world = waiting(settings=Settings(launcher="kubernetes"), image="pytorch/pytorch:2.9.0")
    (rejected,) = place(world, placement(("train.1", "n1", ()))).rejected
    assert "images" in rejected.reason
    able = NodeCapabilities(runs_images=True)
    world.send(NodeInventoryChanged(inventory(capabilities=able), 1))
    assert place(world, placement(("train.1", "n1", ()))).started == (E,)


def test_whole_gpus_are_not_shared_whatever_a_plan_says() -> None:
    world = waiting(HALF_GPU)
    whole = NodeCapabilities(whole_gpus=True)
    world.send(NodeInventoryChanged(inventory(gpus=GPUS, capabilities=whole), 1))
    (rejected,) = place(world, placement(("train.1", "n1", share("g0", 500)))).rejected
    assert rejected.reason == "node n1 gives whole GPUs only"


@pytest.mark.parametrize(
    "members",
    [
        [("worker.1", "n1", ())],
        [("worker.1", "n1", ()), ("worker.1", "n1", ())],
        [("worker.1", "n1", ()), ("worker.3", "n1", ())],
        [("worker.1", "n1", ()), ("worker.2", "n9", ())],
        [("worker.1", "n1", ()), ("worker.2", "n1", share("g0"))],
    ],
)
def test_a_gang_is_placed_whole_or_not_at_all(members: Any) -> None:
    world = waiting(roles=gang(("worker", 2)), framework="jax")
    applied = place(world, placement(*members))
    assert applied.started == ()
    assert len(applied.rejected) == 1
    assert not world.cluster.attempts


def test_a_rejected_gang_leaves_its_room_to_the_next_placement() -> None:
    world = World()
    world.connect(cpu_milli=1000)
    world.submit(spec(roles=gang(("worker", 2)), framework="jax"))
    world.submit(spec())
    applied = place(
        world,
        placement(("worker.1", "n1", ()), ("worker.2", "n1", ())),
        placement(("train.1", "n1", ()), experiment="ana.2"),
    )
    assert applied.started == ("ana.2",)


def test_a_gang_needs_a_free_port_for_each_member() -> None:
    world = World()
    world.connect(first_port=20000, last_port=20000)
    world.submit(spec(roles=gang(("worker", 2)), framework="jax"))
    applied = place(world, placement(("worker.1", "n1", ()), ("worker.2", "n1", ())))
    assert "port" in applied.rejected[0].reason
    assert world.cluster.snapshot().nodes[0].free_ports == 1


def test_what_does_not_wait_any_more_is_not_started() -> None:
    world = waiting()
    plan = naive_plan(world.cluster.snapshot())
    world.kill(E)
    applied = world.send(PlanMade(plan))
    assert "does not wait" in applied.rejected[0].reason


def test_a_plan_applied_twice_starts_once() -> None:
    world = waiting()
    plan = naive_plan(world.cluster.snapshot())
    assert world.send(PlanMade(plan)).started == (E,)
    assert world.send(PlanMade(plan)).started == ()
    assert not world.started


def test_a_plan_from_an_old_picture_asks_for_a_new_one() -> None:
    world = waiting()
    plan = naive_plan(world.cluster.snapshot())
    world.send(NodeCordoned("n1", True))
    world.send(PlanMade(plan))
    assert world.woke


def test_a_plan_rejected_on_its_own_picture_does_not_ask_again_for_ever() -> None:
    world = waiting()
    version = world.cluster.snapshot().version
    place(world, placement(("train.1", "n9", ())), version=version)
    assert not world.woke


def test_reasons_to_wait_are_kept_until_it_does_not_wait() -> None:
    world = waiting()
    reason = PendingReason(PendingCode.CPU_BUSY, "no CPU is free")
    (request,) = world.cluster.snapshot().pending
    world.send(PlanMade(Plan(0, waiting=(WaitingShape(request.shape, (reason,)),))))
    assert world.cluster.waiting.get(E) == Waiting(E, (reason,))
    assert world.cluster.waiting.get("ana.9") is None
    world.plan()
    assert world.cluster.waiting.get(E) is None


def test_more_of_what_is_known_to_wait_does_not_wake_the_scheduler_until_room_grows() -> None:
    world = World()
    world.connect(cpu_milli=1000)
    world.submit(spec())
    world.submit(spec())
    world.send(PlanMade(schedule(world.cluster.snapshot(), world.now)))
    late = world.submit(spec())
    woken = world.woke
    assert not woken
    assert world.cluster.waiting.get(late) is not None
    world.submit(spec(roles=gang(("train", 1), resources=ONE_GPU)))
    assert world.woke, "of other shapes nothing is known"
    world.exit(f"{E}.train.1-1")
    world.submit(spec())
    assert world.woke


def test_a_plan_from_before_room_grew_silences_nobody() -> None:
    world = World()
    world.connect(cpu_milli=1000)
    world.submit(spec())
    world.plan()
    world.submit(spec())
    plan = schedule(world.cluster.snapshot(), world.now)
    world.exit(f"{E}.train.1-1")
    world.send(PlanMade(plan))
    world.submit(spec())
    assert world.woke


def test_a_snapshot_is_the_same_object_until_something_changes() -> None:
    world = waiting()
    first = world.cluster.snapshot()
    assert world.cluster.snapshot() is first
    world.connect("n2")
    second = world.cluster.snapshot()
    assert second.version > first.version
    assert second.nodes[0] is first.nodes[0]
    assert next(iter(second.pending)) is next(iter(first.pending))


def test_a_snapshot_shows_what_runs_and_since_when() -> None:
    world = waiting(ONE_GPU)
    place(world, placement(("train.1", "n1", share("g0"))))
    snapshot = world.cluster.snapshot()
    assert not snapshot.pending
    (running,) = snapshot.running
    assert (running.experiment_id, running.start_time) == (E, world.now)
    assert running.members == (MemberPlacement(f"{E}.train.1", "n1", share("g0"), 1000, GIB),)


def test_a_reservation_says_first_why_its_experiment_waits() -> None:
    world = waiting()
    busy = PendingReason(PendingCode.CPU_BUSY, "no CPU is free")
    others = PendingReason(PendingCode.PREEMPTING, "ana.7 makes room for it")
    (request,) = world.cluster.snapshot().pending
    world.send(
        PlanMade(
            Plan(
                0,
                waiting=(WaitingShape(request.shape, (busy,)),),
                reservations=(Reservation(E, world.now + 30, ("n1",), reason=others),),
            )
        )
    )
    assert world.cluster.waiting.get(E) == Waiting(E, (others, busy))


def test_one_of_higher_priority_than_those_that_wait_wakes_the_scheduler() -> None:
    world = World()
    world.connect(cpu_milli=1000)
    world.submit(spec())
    world.submit(spec(priority=60))
    world.send(PlanMade(schedule(world.cluster.snapshot(), world.now)))
    world.submit(spec(priority=50))
    assert not world.woke
    world.submit(spec(priority=60))
    assert world.woke


def test_the_scheduler_is_shown_for_whom_room_was_kept_as_long_as_they_wait() -> None:
    world = waiting()
    world.submit(spec())
    kept = [Reservation(name, world.now, ("n1",)) for name in ("ana.2", E, "ana.9")]
    world.send(PlanMade(Plan(0, reservations=tuple(kept))))
    world.submit(spec())
    assert world.cluster.snapshot().reserved == ("ana.2", E)
    world.kill(E)
    assert world.cluster.snapshot().reserved == ("ana.2",)


def test_the_scheduler_sees_at_once_that_a_job_of_a_gang_began() -> None:
    world = World()
    world.connect()
    world.submit(spec(roles=gang(("worker", 2)), max_duration_seconds=100))
    world.plan()
    assert world.cluster.snapshot().running[0].start_time == world.now
    world.pass_time(5)
    world.run("ana.1.worker.1-1")
    world.pass_time(5)
    world.run("ana.1.worker.2-1")
    (running,) = world.cluster.snapshot().running
    assert running.start_time == world.now - 5
