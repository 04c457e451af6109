"""What holds of plans for clusters in which others run, wait, borrow and have to leave."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import isinf
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.plan import (
    DecisionKind,
    GangPlacement,
    PendingCode,
    Plan,
    Reservation,
)
from controlplane.domain.snapshot import (
    Backlog,
    GangRequest,
    MemberRequest,
    RunningGang,
    Snapshot,
)
from controlplane.scheduler.cycle import Scheduler, schedule
from controlplane.scheduler.policy import POLICIES
from riseml.spec.model import GPU, Resources
from tests.unit.scheduler.clusters import (
    applied,
    occupants,
    scenes,
    snapshot_of,
    without,
)
from tests.unit.scheduler.scenes import NOW

NAMES = st.sampled_from(sorted(POLICIES))


def over_capacity(picture: Snapshot, plan: Plan, time: float) -> list[str]:
    """What is given twice at a time, if all that is known to end by then has."""
    gpus, cpus, memory = Counter[str](), Counter[str](), Counter[str]()
    for start, end, gang in occupants(picture, plan):
        if start <= time < end:
            for member in gang.members:
                cpus[member.node_name] += member.cpu_milli
                memory[member.node_name] += member.memory_bytes
                for share in member.gpus:
                    gpus[share.uuid] += share.milli
    faults = [uuid for uuid, milli in gpus.items() if milli > GPU]
    for node in picture.nodes:
        faults += [f"{node.name} CPU"] * (cpus[node.name] > node.cpu_milli)
        faults += [f"{node.name} memory"] * (memory[node.name] > node.memory_bytes)
    return faults


@given(scenes(), NAMES)
def test_nothing_is_given_twice_now_or_when_a_reservation_begins(
    lines: list[str], name: str
) -> None:
    """So no placement delays a reservation, and no reservation another."""
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW, POLICIES[name])
    known = [kept.start_time for kept in plan.reservations if not isinf(kept.start_time)]
    for time in [NOW, *known]:
        assert over_capacity(picture, plan, time) == []


@given(scenes(), NAMES)
def test_nodes_get_and_are_kept_for_only_what_they_can_run(lines: list[str], name: str) -> None:
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW, POLICIES[name])
    views = {view.name: view for view in picture.nodes}
    requests = {request.experiment_id: request for request in picture.pending}
    found: tuple[GangPlacement | Reservation, ...] = (*plan.placements, *plan.reservations)
    for one in found:
        for member in one.members:
            view = views[member.node_name]
            assert view.runs_images or not requests[one.experiment_id].needs_image
            assert not view.whole_gpus or all(share.milli == GPU for share in member.gpus)


@given(scenes())
def test_a_job_that_has_a_place_and_that_nothing_is_kept_from_starts(lines: list[str]) -> None:
    """Whatever was found before it to have no place."""
    plan = schedule(snapshot_of(lines), NOW)
    for one in plan.waiting:
        if len(one.shape.resources) == 1 and not plan.reservations:
            assert PendingCode.GANG_INCOMPLETE not in [reason.code for reason in one.reasons]


@given(scenes(overdue=False))
def test_whoever_passes_a_reservation_does_not_move_it(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW)
    kinds = [(one.kind, one.experiment_id) for one in plan.decisions]
    for kept in plan.reservations:
        if isinf(kept.start_time):
            continue
        place = kinds.index((DecisionKind.RESERVED, kept.experiment_id))
        passed = [name for kind, name in kinds[place:] if kind is DecisionKind.PLACED]
        alone = schedule(without(picture, pending=passed), NOW)
        (same,) = [r for r in alone.reservations if r.experiment_id == kept.experiment_id]
        assert same.start_time == kept.start_time


@given(scenes(), NAMES)
def test_each_gang_is_placed_whole_or_waits_with_reasons(lines: list[str], name: str) -> None:
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW, POLICIES[name])
    requests = {request.experiment_id: request for request in picture.pending}
    found: tuple[GangPlacement | Reservation, ...] = (*plan.placements, *plan.reservations)
    for one in found:
        jobs = [member.job_id for member in requests[one.experiment_id].members]
        assert [member.job_id for member in one.members] == jobs
        for member, asked in zip(one.members, requests[one.experiment_id].members, strict=True):
            assert sum(share.milli for share in member.gpus) == asked.resources.gpu_milli
    started = {placement.experiment_id for placement in plan.placements}
    assert not started & {kept.experiment_id for kept in plan.reservations}
    waiting = {one.shape for one in plan.waiting if one.reasons}
    for request in picture.pending:
        assert (request.experiment_id in started) or request.shape in waiting


@given(scenes())
def test_no_queue_comes_to_hold_more_than_its_limit(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    after = applied(picture, schedule(picture, NOW).placements, NOW)
    for before, view in zip(picture.queues, after.queues, strict=True):
        limit = view.queue.limit_gpu_milli
        if limit is not None and view.held != before.held:
            assert view.held.gpu_milli <= max(limit, before.held.gpu_milli)


@given(scenes(), NAMES, st.randoms(use_true_random=False))
def test_equal_input_gives_an_equal_plan_in_whatever_order(
    lines: list[str], name: str, random: Random
) -> None:
    picture = snapshot_of(lines)
    parts = {
        part: random.sample(list(getattr(picture, part)), len(getattr(picture, part)))
        for part in ("nodes", "running", "queues", "users", "pending")
    }
    changed: dict[str, Any] = {part: tuple(found) for part, found in parts.items()}
    shuffled = replace(picture, **{**changed, "pending": Backlog.of(parts["pending"])})
    policy = POLICIES[name]
    assert schedule(shuffled, NOW, policy) == schedule(picture, NOW, policy)


@given(st.lists(st.tuples(scenes(), st.integers(0, 100)), max_size=4), NAMES)
@settings(max_examples=50)
def test_a_scheduler_that_has_seen_others_plans_as_one_that_has_not(
    seen: list[tuple[list[str], int]], name: str
) -> None:
    scheduler = Scheduler(POLICIES[name])
    for lines, passed in seen:
        picture, now = snapshot_of(lines), NOW + passed
        plan = scheduler.schedule(picture, now)
        assert plan == schedule(picture, now, POLICIES[name])
        after = applied(picture, plan.placements, now)
        assert scheduler.schedule(after, now) == schedule(after, now, POLICIES[name])


def after_evictions(picture: Snapshot, plan: Plan) -> tuple[Snapshot, float]:
    """With what was placed, when all who make room are gone, and all else that ends by then."""
    preemptors = {eviction.for_experiment_id for eviction in plan.evictions}
    time = max(k.start_time for k in plan.reservations if k.experiment_id in preemptors)
    gone = [gang.experiment_id for _, end, gang in occupants(picture, plan) if end <= time]
    started = applied(picture, plan.placements, NOW)
    left = without(started, running=gone)
    return replace(left, preemptors=tuple(sorted(preemptors))), time


@given(scenes())
def test_whom_others_make_room_for_starts_then(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW)
    if plan.evictions:
        after, time = after_evictions(picture, plan)
        started = {p.experiment_id for p in schedule(after, time).placements}
        assert started >= {eviction.for_experiment_id for eviction in plan.evictions}


@given(scenes())
def test_nobody_is_stopped_without_ground(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW)
    queues = {view.queue.name: view for view in picture.queues}
    requests = {request.experiment_id: request for request in picture.pending}
    running = {gang.experiment_id: gang for gang in picture.running}
    assert len({eviction.experiment_id for eviction in plan.evictions}) == len(plan.evictions)
    for eviction in plan.evictions:
        victim, gang = running[eviction.experiment_id], requests[eviction.for_experiment_id]
        theirs, its = queues[victim.queue], queues[gang.queue]
        assert victim.stopping_until is None
        by_priority = victim.queue == gang.queue and victim.priority < gang.priority
        borrowed = theirs.held.gpu_milli > theirs.queue.guaranteed_gpu_milli
        wanted = sum(member.resources.gpu_milli for member in gang.members)
        takes_back = its.held.gpu_milli + wanted <= its.queue.guaranteed_gpu_milli
        assert (by_priority and its.queue.preempts_lower_priority) or (
            victim.queue != gang.queue and borrowed and takes_back
        )
        assert eviction.reason.startswith(f"made room for {eviction.for_experiment_id}: ")
        (kept,) = [one for one in plan.reservations if one.experiment_id == gang.experiment_id]
        assert kept.reason is not None and kept.reason.code is PendingCode.PREEMPTING


def waits_again(gang: RunningGang) -> GangRequest:
    return GangRequest(
        gang.experiment_id,
        gang.user_name,
        gang.queue,
        gang.priority,
        NOW - 80 * 3600,
        tuple(
            MemberRequest(
                member.job_id,
                Resources(
                    member.cpu_milli,
                    member.memory_bytes,
                    sum(share.milli for share in member.gpus),
                ),
            )
            for member in gang.members
        ),
        max_duration_seconds=gang.max_duration_seconds,
    )


@given(scenes())
def test_who_makes_room_does_not_stop_whom_it_made_room_for(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW)
    if not plan.evictions:
        return
    after, time = after_evictions(picture, plan)
    after = applied(after, schedule(after, time).placements, time)
    victims = {eviction.experiment_id: eviction for eviction in plan.evictions}
    back = [waits_again(gang) for gang in picture.running if gang.experiment_id in victims]
    again = schedule(
        replace(
            after,
            pending=Backlog.of([*after.pending, *back]),
            preemptors=(),
            made_room=tuple((name, one.for_experiment_id) for name, one in victims.items()),
        ),
        time,
    )
    for eviction in again.evictions:
        first = victims.get(eviction.for_experiment_id)
        assert first is None or first.for_experiment_id != eviction.experiment_id


@given(scenes())
def test_reasons_read_as_sentences(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW)
    for one in plan.waiting:
        for reason in one.reasons:
            assert reason.message[0].isupper() or reason.message[0].isdigit()
            assert not reason.message.endswith(".")


def test_no_more_than_sixteen_preempt_at_one_time() -> None:
    """Whoever has others stopped comes first in all cycles to come: that may not be everybody."""
    lines = ["node n1 gpus=32"]
    lines += [f"run bo.{n} n1:{n} priority=40 grace=30s" for n in range(32)]
    lines += [f"wait ana.{n} gpus=1 priority=60 for=1h" for n in range(32)]
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW)
    preemptors = {eviction.for_experiment_id for eviction in plan.evictions}
    assert len(plan.evictions) == len(preemptors) == 16
    waiting = replace(picture, preemptors=tuple(sorted(preemptors)))
    assert not schedule(waiting, NOW).evictions
