"""The ring of the last cycles."""

from __future__ import annotations

import pytest

from controlplane.cycles import Cycle, Cycles, PlannedCycle
from controlplane.domain.effects import PlanApplied, RejectedPlacement
from controlplane.domain.plan import Plan, Reservation
from tests.unit.scheduler.pictures import NOW, gang, node, resources, snapshot


def planned(nodes: int = 1, waiting: int = 1) -> PlannedCycle:
    picture = snapshot(
        [node(f"n{i}") for i in range(nodes)], [gang(i, resources()) for i in range(waiting)]
    )
    return PlannedCycle(picture, NOW, 0.002, Plan(7, reservations=(Reservation("a.1", 1.0, ()),)))


NOTHING = PlanApplied((), (), ())


def test_a_cycle_is_kept_with_its_numbers() -> None:
    cycles = Cycles()
    applied = PlanApplied(("ana.0",), (RejectedPlacement("ana.1", "gone"),), ("bo.1",))
    made = planned(nodes=3, waiting=2)
    cycle = cycles.record(made, applied)
    assert cycles.newest() is cycle is cycles.get(1)
    assert (cycle.considered_count, cycle.node_count, cycle.reserved_count) == (2, 3, 1)
    assert (cycle.snapshot, cycle.plan, cycle.applied) == (made.snapshot, made.plan, applied)
    assert (cycle.start_time, cycle.duration_seconds, cycle.snapshot_version) == (NOW, 0.002, 7)


def test_the_oldest_goes_and_numbers_go_on() -> None:
    cycles = Cycles(kept=3)
    for _ in range(5):
        cycles.record(planned(), NOTHING)
    assert [cycle.number for cycle in cycles.newest_first()] == [5, 4, 3]
    assert cycles.get(2) is None


def test_numbers_go_on_where_an_earlier_process_stopped() -> None:
    cycles = Cycles()
    cycles.last_number = 41
    assert cycles.record(planned(), NOTHING).number == 42


def test_large_cycles_keep_their_numbers_only() -> None:
    cycles = Cycles(kept=4, references=250)
    for _ in range(4):
        cycles.record(planned(nodes=100), NOTHING)
    assert [cycle.snapshot is not None for cycle in cycles.newest_first()] == [
        True,
        True,
        False,
        False,
    ]
    assert all(cycle.node_count == 100 for cycle in cycles.newest_first())


def test_the_newest_is_kept_whatever_its_size() -> None:
    cycles = Cycles(kept=4, references=250)
    for size in (1, 1000, 1):
        cycles.record(planned(nodes=size), NOTHING)
        newest = cycles.newest()
        assert newest is not None and newest.snapshot is not None


def test_an_observer_that_fails_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Cycle] = []

    def fail(cycle: Cycle) -> None:
        raise ZeroDivisionError

    cycles = Cycles()
    cycles.observers += [fail, seen.append]
    cycles.record(planned(), NOTHING)
    assert [cycle.number for cycle in seen] == [1]
    assert "cycle 1 cannot be noted" in caplog.text
