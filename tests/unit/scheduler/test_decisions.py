"""Every plan says all that it decides, for the record."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given

from controlplane.domain.plan import DecisionKind
from controlplane.scheduler.cycle import schedule
from controlplane.scheduler.policy import DEFAULT
from tests.unit.scheduler.clusters import scenes, snapshot_of
from tests.unit.scheduler.scenes import NOW


@given(scenes())
def test_whatever_a_plan_does_is_among_its_decisions(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    plan = schedule(picture, NOW)
    done = [(DecisionKind.PLACED, one.experiment_id) for one in plan.placements]
    done += [(DecisionKind.RESERVED, one.experiment_id) for one in plan.reservations]
    done += [(DecisionKind.PREEMPTED, one.experiment_id) for one in plan.evictions]
    assert Counter((one.kind, one.experiment_id) for one in plan.decisions) == Counter(done)
    held = {gang.experiment_id: gang.members for gang in picture.running}
    for one in plan.decisions:
        if one.kind is DecisionKind.PREEMPTED:
            assert one.members == held[one.experiment_id] and one.message


@given(scenes())
def test_without_words_the_plan_is_the_same(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    silent = schedule(picture, NOW, replace(DEFAULT, explain=False))
    told = schedule(picture, NOW)
    assert not silent.decisions and not silent.waiting
    assert replace(told, decisions=(), waiting=()) == silent
