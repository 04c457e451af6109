"""Allocation: tasks come one by one and stay."""

from __future__ import annotations

import pytest

from controlplane.scheduler.policy import POLICIES
from controlplane.simulation.allocation import allocate
from controlplane.simulation.traces import TraceTask, uniform_nodes
from riseml.spec.model import GPU, Resources

NODES = uniform_nodes("4x4")
WHOLE = TraceTask(Resources(1000, 1 << 30, GPU))
SHARE = TraceTask(Resources(1000, 1 << 30, 400))
ALONE = TraceTask(Resources(0, 0, 4 * GPU))


def test_whole_gpus_fill_the_cluster_and_what_comes_then_is_dropped() -> None:
    result = allocate(NODES, [WHOLE] * 10, POLICIES["riseml"], 1)
    assert (result.at_100, result.at_130) == (100.0, 100.0)
    assert result.placed == 16 and result.arrived > 20


def test_the_curve_rises_with_what_is_asked_for() -> None:
    result = allocate(NODES, [WHOLE] * 10, POLICIES["riseml"], 1)
    assert len(result.curve) == 131
    assert result.curve[0] == 0.0 and result.curve[50] == 50.0
    assert list(result.curve) == sorted(result.curve)


def test_what_is_left_of_a_gpu_is_not_allocated() -> None:
    result = allocate(NODES, [SHARE], POLICIES["riseml"], 1)
    assert result.at_130 == pytest.approx(80.0)


def test_small_tasks_that_are_spread_leave_no_node_for_large_ones() -> None:
    tasks = [SHARE] * 5 + [ALONE]
    packed, spread = (
        sum(
            allocate(uniform_nodes("16x4"), tasks, POLICIES[name], seed).at_130 for seed in range(3)
        )
        for name in ("best-fit", "random")
    )
    assert packed > spread


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("policy", ["riseml", "best-fit", "fgd", "random"])
def test_equal_seeds_give_equal_curves(policy: str, shuffle: bool) -> None:
    tasks = [WHOLE, SHARE, SHARE, ALONE]
    first, second = (
        allocate(NODES, tasks, POLICIES[policy], 4, shuffle_nodes=shuffle) for _ in range(2)
    )
    assert first.curve == second.curve
    assert first.decisions_per_second > 0
