"""What is told of busy clusters is true: against the snapshot, the plan, and a second cycle."""

from __future__ import annotations

import re

from hypothesis import given, settings

from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import Snapshot
from controlplane.explain.explanation import GpuCode
from controlplane.explain.holdings import Holdings
from controlplane.explain.nodes import hardest, judge_nodes
from controlplane.explain.suggest import suggest
from controlplane.explain.trial import with_gangs, without_gang
from controlplane.explain.waiting import Seen, explain_waiting
from controlplane.explain.words import Clock
from controlplane.scheduler.cycle import schedule, trace
from controlplane.scheduler.feasibility import gpu_matches
from riseml.spec.model import GPU
from tests.unit.scheduler.clusters import scenes, snapshot_of
from tests.unit.scheduler.scenes import NOW

CLOCK = Clock(NOW)


def waiting(picture: Snapshot, plan: Plan) -> list[Seen]:
    """What the cycle saw of each that it left waiting."""
    placed = {one.experiment_id for one in plan.placements}
    found = []
    for gang in picture.pending:
        if gang.experiment_id not in placed:
            seen = trace(picture, NOW, gang.experiment_id)
            if seen is not None:
                found.append(Seen(picture, NOW, seen, plan.reservations, 1))
    return found


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_what_is_said_of_gpus_is_so(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW)
    views = {view.name: view for view in picture.nodes}
    holders = {
        (share.uuid, gang.experiment_id)
        for gang in picture.running
        for member in gang.members
        for share in member.gpus
    }
    given_to = {
        (share.uuid, placement.experiment_id)
        for placement in plan.placements
        for member in placement.members
        for share in member.gpus
    }
    kept_for = {one.experiment_id for one in plan.reservations}
    for seen in waiting(picture, plan):
        wanted = hardest(seen.trace.gang)
        judged = judge_nodes(seen.trace, seen.views, Holdings(picture), CLOCK)
        assert sorted(one.name for one in judged) == sorted(views)
        for one in judged:
            view = views[one.name]
            assert one.verdict().message.startswith(f"{view.name} ")
            if not one.gpus():
                continue
            for verdict, gpu in zip(one.gpus(), view.gpus, strict=True):
                assert verdict.uuid == gpu.gpu.uuid
                assert verdict.free_milli <= gpu.free_milli
                if verdict.code is GpuCode.FREE:
                    assert gpu.usable and gpu_matches(gpu.gpu, wanted)
                    assert verdict.free_milli >= min(GPU, wanted.gpu_milli)
                for name in verdict.experiment_ids:
                    at_all = (verdict.uuid, name) in holders | given_to
                    assert at_all or name in kept_for


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_explanations_name_nobody_that_is_not_there(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW)
    known = {gang.experiment_id for gang in (*picture.running, *picture.pending)}
    for seen in waiting(picture, plan):
        found = explain_waiting(seen, CLOCK)
        text = "\n".join([found.summary, *found.lines])
        named = set(re.findall(r"\b(?:ana|bo|cy)\.\d+\b", text))
        assert named <= known
        assert found.summary.endswith(".") and found.summary.count("..") == 0
        assert found.impossible is seen.trace.impossible


@settings(max_examples=30, deadline=None)
@given(scenes(most_waiting=5))
def test_suggestions_are_of_something_else_than_was_asked_for_and_start_at_once(
    lines: list[str],
) -> None:
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW)
    for seen in waiting(picture, plan):
        name = seen.trace.gang.experiment_id
        tried: list[tuple[Snapshot, Plan]] = []

        def recorded(
            other: Snapshot, now: float, tried: list[tuple[Snapshot, Plan]] = tried
        ) -> Plan:
            answer = schedule(other, now)
            tried.append((other, answer))
            return answer

        told = suggest(picture, NOW, seen.trace, plan.reservations, recorded)
        worked = [
            other
            for other, answer in tried
            if any(one.experiment_id == name for one in answer.placements)
        ]
        assert len(told) == len(worked)
        for other in worked:
            (changed,) = [one for one in other.pending if one.experiment_id == name]
            assert changed != seen.trace.gang
            rest = without_gang(other, name)
            assert list(rest.pending) == list(without_gang(picture, name).pending)
            same = with_gangs(rest, [seen.trace.gang])
            assert schedule(same, NOW).placements == plan.placements
