"""What would become of experiments that are not created: the scheduler's plan, in words."""

from __future__ import annotations

from dataclasses import replace

from controlplane.domain.snapshot import GangRequest, Snapshot
from controlplane.domain.states import State
from controlplane.explain.explanation import Explanation, StartEstimate
from controlplane.explain.planned import (
    explain_plan,
    explain_set_plan,
    placed_child,
    waiting_child,
)
from controlplane.explain.trial import with_gangs
from controlplane.explain.waiting import Seen
from controlplane.scheduler.cycle import schedule, trace
from tests.unit.explain.traces import CLOCK, NOON, running
from tests.unit.scheduler.pictures import gang, node, resources, snapshot

FULL = replace(
    snapshot([node("n1", [0] * 4), node("n2", [1000, 0])], []),
    running=(
        running("bo.1", ("n1", (0, 1, 2, 3)), hours=3, priority=10, grace_period_seconds=60.0),
        running("bo.2", ("n2", (1,)), hours=9, priority=90),
    ),
)
ESTIMATE = StartEstimate(NOON, NOON + 60, "by what is known")


def planned(picture: Snapshot, wanted: GangRequest) -> Explanation:
    with_it = with_gangs(picture, [wanted])
    plan = schedule(with_it, NOON)
    seen = trace(with_it, NOON, wanted.experiment_id)
    assert seen is not None
    members = next(
        (one.members for one in plan.placements if one.experiment_id == wanted.experiment_id), ()
    )
    return explain_plan(Seen(with_it, NOON, seen, plan.reservations), members, CLOCK, ESTIMATE)


def test_what_fits_is_told_where_and_why_there() -> None:
    found = planned(FULL, gang(7, resources(1000), submit_time=NOON))
    assert found.summary == "It would start now on n2 (GPU 0)."
    assert found.lines[0].startswith("Why there: ")
    assert found.state is State.STARTING and found.estimate is None


def test_who_would_make_room_is_told_with_the_loss() -> None:
    found = planned(FULL, gang(7, resources(4000), submit_time=NOON, priority=50))
    assert found.summary == "It would start as soon as 1 running experiment made room for it."
    assert (
        found.lines[0] == "bo.1 would make room for it and be gone by 12:01 (lost: 4.0 GPU-hours)."
    )
    (eviction,) = found.evictions
    assert (eviction.experiment_id, eviction.for_experiment_id) == ("bo.1", "ana.7")
    assert eviction.lost_gpu_seconds == 4 * 3600
    assert found.estimate == ESTIMATE


def test_nobody_makes_room_for_the_same_priority() -> None:
    found = planned(FULL, gang(7, resources(4000), submit_time=NOON, priority=10))
    assert found.summary.startswith("It would wait for 4 GPUs, 1 CPU and 1Gi on one node: ")
    assert not found.evictions and found.estimate == ESTIMATE
    assert (
        "Room would be kept for it on n1 from about 14:01 on; until then others use it only if "
        "they end before." in found.lines
    )


def test_what_can_never_run_has_no_estimate() -> None:
    found = planned(FULL, gang(7, resources(5000), submit_time=NOON))
    assert found.impossible and found.estimate is None
    assert "no node of this cluster could ever hold it" in found.summary


def children(count: int) -> list[GangRequest]:
    return [
        gang(0, resources(1000), experiment_id=f"ana.7.{number}", submit_time=NOON, priority=10)
        for number in range(1, count + 1)
    ]


def test_children_of_a_set_are_told_one_by_one_and_the_first_that_waits_in_full() -> None:
    gangs = children(3)
    picture = with_gangs(FULL, gangs)
    plan = schedule(picture, NOON)
    placements = {one.experiment_id: one.members for one in plan.placements}
    assert len(placements) == 1
    first, second, third = gangs
    seen = trace(picture, NOON, second.experiment_id)
    assert seen is not None
    told = explain_plan(Seen(picture, NOON, seen, plan.reservations), (), CLOCK, ESTIMATE)
    found = explain_set_plan(
        "ana.7",
        5,
        [
            placed_child(first, placements[first.experiment_id]),
            told,
            waiting_child(third, plan),
        ],
        Seen(picture, NOON, seen),
        CLOCK,
    )
    assert found.summary == "1 of the first 3 children would start now."
    assert found.lines[:3] == (
        "ana.7.1 on n2 (GPU 0).",
        "2 children more would wait for their turn, by its `concurrency`.",
        f"ana.7.2: {told.summary[:1].lower()}{told.summary[1:]}",
    )
    assert all(line.startswith("  ") for line in found.lines[3:])
    assert found.estimate == ESTIMATE and found.reasons == told.reasons
