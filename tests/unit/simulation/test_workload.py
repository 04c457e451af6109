"""Workloads: who asks for what, drawn by a seed."""

from __future__ import annotations

from random import Random

import pytest

from controlplane.simulation.traces import TraceTask, uniform_nodes
from controlplane.simulation.workload import (
    DAY,
    Load,
    NothingFits,
    arrivals_in_time,
    arrivals_up_to,
    could_hold,
    sample,
    usable,
)
from riseml.spec.model import GPU, Resources

NODES = uniform_nodes("16x8:V100")
HOUR = 3600.0


def task(gpu_milli: int, seconds: float | None = HOUR, members: int = 1) -> TraceTask:
    return TraceTask(Resources(1000, 1 << 30, gpu_milli), members, seconds)


TASKS = [task(500), task(GPU), task(4 * GPU, 5 * HOUR), task(8 * GPU, 3 * DAY)]


def test_equal_seeds_draw_equal_arrivals() -> None:
    streams = [arrivals_in_time(TASKS, NODES, Load(), Random(7)) for _ in range(2)]
    first, second = ([stream.next() for _ in range(50)] for stream in streams)
    assert first == second


@pytest.mark.parametrize("offered", [0.5, 1.1])
def test_arrivals_ask_for_the_load_that_was_wanted(offered: float) -> None:
    load = Load(offered=offered)
    stream = arrivals_in_time(TASKS, NODES, load, Random(1))
    arrivals = [stream.next() for _ in range(40_000)]
    asked = sum(one.duration_seconds * one.task.gpu_milli for one in arrivals)
    there = arrivals[-1].time * 128 * GPU
    assert asked / there == pytest.approx(offered, rel=0.05)


def test_durations_are_cut_and_estimates_are_never_too_short() -> None:
    load = Load(longest_seconds=DAY, overestimate=3.0)
    stream = arrivals_in_time(TASKS, NODES, load, Random(1))
    arrivals = [stream.next() for _ in range(2000)]
    assert max(one.duration_seconds for one in arrivals) == DAY
    factors = [one.estimate_seconds / one.duration_seconds for one in arrivals]
    assert min(factors) >= 1.0 and 2.9 < max(factors) <= 3.0


def test_users_and_priorities_leave_the_arrivals_as_they_are() -> None:
    plain = arrivals_in_time(TASKS, NODES, Load(), Random(3))
    social = arrivals_in_time(TASKS, NODES, Load(users=5, priorities=True), Random(3))
    pairs = [(plain.next(), social.next()) for _ in range(500)]
    assert all(a.time == b.time and a.task is b.task for a, b in pairs)
    assert len({b.user_name for _, b in pairs}) == 5
    assert len({b.priority for _, b in pairs}) == 3
    names = [b.user_name for _, b in pairs]
    assert names.count("user-001") > 2 * names.count("user-005")


def test_the_allocation_experiment_draws_each_task_once_and_then_some_again() -> None:
    drawn = arrivals_up_to(TASKS, 40 * GPU, Random(2))
    assert sorted(map(TASKS.index, drawn[:4])) == [0, 1, 2, 3]
    asked = sum(one.gpu_milli for one in drawn)
    assert asked >= 40 * GPU > asked - drawn[-1].gpu_milli


def test_no_more_is_drawn_than_was_wanted() -> None:
    drawn = arrivals_up_to([task(GPU)] * 10, 3 * GPU, Random(2))
    assert len(drawn) == 3


def test_tasks_without_gpus_alone_are_refused() -> None:
    with pytest.raises(NothingFits):
        arrivals_up_to([task(0)], GPU, Random(1))


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (task(8 * GPU), True),
        (task(16 * GPU), False),
        (task(8 * GPU, members=16), True),
        (task(8 * GPU, members=17), False),
        (task(600, members=128), True),
        (task(600, members=129), False),
        (TraceTask(Resources(gpu_milli=GPU, gpu_model="V100|A100")), True),
        (TraceTask(Resources(gpu_milli=GPU, gpu_model="A100")), False),
        (TraceTask(Resources(cpu_milli=10**9)), False),
    ],
)
def test_tasks_that_the_nodes_could_never_hold_are_known(wanted: TraceTask, fits: bool) -> None:
    assert could_hold(NODES, wanted) is fits


def test_tasks_that_do_not_fit_or_never_ended_are_left_out() -> None:
    tasks = [task(GPU), task(GPU, None), task(16 * GPU)]
    assert usable(tasks, NODES) == [tasks[0]]
    with pytest.raises(NothingFits):
        usable(tasks[1:], NODES)


def test_a_sample_of_nodes_keeps_their_order() -> None:
    chosen = sample(NODES, 5, Random(1))
    assert len(chosen) == 5 and chosen == sorted(chosen, key=NODES.index)
    assert sample(NODES, 99, Random(1)) == NODES
