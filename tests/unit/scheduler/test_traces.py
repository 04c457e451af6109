"""What is noted of one gang when its turn comes, and that noting it changes nothing."""

from __future__ import annotations

from hypothesis import given

from controlplane.domain.plan import DecisionKind, PendingCode
from controlplane.domain.trace import DecisionTrace, GpuTrace
from controlplane.scheduler.cycle import schedule, trace
from tests.unit.scheduler.clusters import scenes, snapshot_of
from tests.unit.scheduler.scenes import NOW

BUSY = """
node n1 gpus=4
node n2 gpus=2 closed=cordoned
queue lab weight=3
run bo.1 n1:0 for=1h queue=lab
wait ana.1 gpus=1 for=1h
wait ana.2 gpus=4 for=2h
wait ana.3 gpus=1 for=3h
wait ana.4 gpus=1 for=3h
"""


def of(experiment_id: str, scene: str = BUSY) -> DecisionTrace:
    found = trace(snapshot_of(filter(None, scene.splitlines())), NOW, experiment_id)
    assert found is not None
    return found


def test_who_does_not_wait_has_no_trace() -> None:
    assert trace(snapshot_of(["run bo.1"]), NOW, "bo.1") is None
    assert trace(snapshot_of([]), NOW, "ana.1") is None


def test_a_gang_sees_what_those_before_it_were_given_and_what_is_kept() -> None:
    found = of("ana.3")
    (n1, n2) = found.nodes
    assert n1.gpus == (
        GpuTrace("n1:0", 0, 0),
        GpuTrace("n1:1", 1, 0, given_to=("ana.1",)),
        GpuTrace("n1:2", 2, 1000, 1000, ("ana.2",)),
        GpuTrace("n1:3", 3, 1000, 1000, ("ana.2",)),
    )
    assert n1.free_cpu_milli == 62_000
    assert not n1.fits
    assert n1.obstacle is not None and n1.obstacle.code is PendingCode.RESERVED
    assert n1.obstacle.message == "Room on n1 is kept for ana.2"
    assert n2.obstacle is not None and n2.obstacle.code is PendingCode.NODES_CLOSED
    assert n2.obstacle.message == "n2 is closed (n2 cordoned)"


def test_the_order_shows_who_came_before_and_by_what() -> None:
    order = of("ana.3").order
    assert (order.before, order.before_in_queue) == (2, 2)
    assert (order.queue_weight, order.queue_fair_share) == (1, 0.25)
    assert order.queue_held.gpu_milli == 1000, "what was placed before it counts"
    assert order.queue_share == 1 / 6
    assert order.urgency == 3 * 3600
    assert order.waited_seconds > 0


def test_who_stands_behind_another_in_a_line_is_seen_when_the_line_is_left() -> None:
    found = of(
        "ana.4",
        """
node n1 gpus=1
run bo.1 n1:0
wait ana.3 gpus=1 for=3h
wait ana.4 gpus=1 for=3h
""",
    )
    assert found.order.before == 1
    assert [reason.code for reason in found.reasons] == [PendingCode.GPUS_BUSY]


def test_what_became_of_it_is_told_with_it() -> None:
    started = of("ana.1")
    assert started.decision is not None and started.decision.kind is DecisionKind.PLACED
    assert started.nodes[0].fits and not started.reasons
    kept = of("ana.2")
    assert kept.reservation is not None and kept.reservation.start_time == NOW + 3600
    assert kept.decision is not None and kept.decision.kind is DecisionKind.RESERVED


def test_those_who_make_room_are_told_with_it() -> None:
    found = of(
        "ana.1",
        """
node n1 gpus=1
run bo.1 n1:0 priority=40
wait ana.1 gpus=1 for=3h
""",
    )
    assert [eviction.experiment_id for eviction in found.evictions] == ["bo.1"]
    assert [reason.code for reason in found.reasons] == [
        PendingCode.PREEMPTING,
        PendingCode.GPUS_BUSY,
    ]


@given(scenes(most_waiting=4))
def test_a_trace_tells_what_the_plan_tells(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW)
    placed = {one.experiment_id: one for one in plan.placements}
    kept = {one.experiment_id: one for one in plan.reservations}
    waiting = {one.shape: one for one in plan.waiting}
    for gang in picture.pending:
        found = trace(picture, NOW, gang.experiment_id)
        assert found is not None and found.gang == gang
        assert found.reservation == kept.get(gang.experiment_id)
        nodes = {node.node_name: node for node in found.nodes}
        assert nodes.keys() == {view.name for view in picture.nodes}
        if gang.experiment_id in placed:
            assert not found.reasons
            hardest = max(
                placed[gang.experiment_id].members,
                key=lambda member: sum(share.milli for share in member.gpus),
            )
            assert nodes[hardest.node_name].fits
        else:
            assert found.reasons[-len(waiting[gang.shape].reasons) :] == (
                waiting[gang.shape].reasons
            )
            at_limit = any(r.code is PendingCode.QUEUE_LIMIT for r in found.reasons)
            if len(gang.members) == 1 and not at_limit:
                assert not any(node.fits for node in found.nodes)
