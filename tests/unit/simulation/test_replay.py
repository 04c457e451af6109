"""Replays in time: who starts when, by which policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import pytest

from controlplane.scheduler.policy import POLICIES
from controlplane.simulation.replay import Result, replay, replay_arrivals
from controlplane.simulation.traces import TraceTask, uniform_nodes
from controlplane.simulation.workload import Arrival, Load
from riseml.spec.model import DEFAULT_PRIORITY, GPU, Resources

# Everything counts, from the first second on.
ALL = Load(warm_up_seconds=0.0, measured_seconds=1e6)
GRACE = 30.0


@dataclass(frozen=True)
class Job:
    """Who comes `at` a second, with so many GPUs, for so long."""

    at: float
    gpus: int
    seconds: float
    priority: int = DEFAULT_PRIORITY
    members: int = 1
    # What its user says, in seconds; None: the truth.
    estimate: float | None = None


class Given:
    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = iter(jobs)

    def next(self) -> Arrival | None:
        job = next(self._jobs, None)
        if job is None:
            return None
        task = TraceTask(Resources(0, 0, job.gpus * GPU), job.members)
        estimate = job.seconds if job.estimate is None else job.estimate
        return Arrival(job.at, task, job.seconds, estimate, "user-001", job.priority)


def played(policy: str, jobs: Sequence[Job], cluster: str, load: Load = ALL) -> Result:
    return replay_arrivals(uniform_nodes(cluster), Given(jobs), POLICIES[policy], load)


def waits(policy: str, jobs: Sequence[Job], cluster: str = "1x2") -> list[float]:
    return [round(one.wait_seconds) for one in played(policy, jobs, cluster).outcomes]


# The second waits for both GPUs; the third ends before the first does, the fourth does not.
PASSING = [Job(0, 1, 1000), Job(1, 2, 500), Job(2, 1, 400), Job(3, 1, 800)]


def test_strictly_in_order_nobody_passes() -> None:
    assert waits("fifo", PASSING) == [0, 999, 1498, 1497]


def test_easy_lets_those_pass_who_delay_nobody() -> None:
    assert waits("easy", PASSING) == [0, 999, 0, 1497]


def test_the_cluster_s_own_rule_lets_them_pass_too() -> None:
    assert waits("riseml-no-preemption", PASSING)[:3] == [0, 999, 0]


def test_the_shortest_of_those_that_wait_goes_first() -> None:
    jobs = [Job(0, 2, 1000), Job(1, 2, 5000), Job(2, 2, 3000), Job(3, 2, 100)]
    assert waits("easy", jobs) == [0, 999, 5998, 8997]
    assert waits("riseml", jobs) == [0, 4099, 1098, 997]


def test_a_higher_priority_goes_first() -> None:
    jobs = [Job(0, 2, 1000), Job(1, 2, 500, priority=30), Job(2, 2, 500, priority=80)]
    assert waits("priority", jobs) == [0, 1499, 998]


def test_who_is_stopped_for_another_waits_until_the_last_start() -> None:
    jobs = [Job(0, 2, 1000, priority=30), Job(500, 2, 100, priority=80)]
    result = played("riseml", jobs, "1x2", replace(ALL, priorities=True))
    first, second = (one.wait_seconds for one in result.outcomes)
    assert result.preemptions == 1
    # What it had done in 500 seconds, and while it was being stopped, on two GPUs.
    assert 1000 <= result.lost_gpu_seconds <= 1000 + 2 * GRACE
    assert second <= GRACE
    assert first == pytest.approx(500 + second + 100, abs=1.0)


def test_who_is_stopped_goes_on_from_its_last_checkpoint() -> None:
    jobs = [Job(0, 2, 1000, priority=30), Job(500, 2, 100, priority=80)]
    load = replace(ALL, priorities=True, checkpoint_seconds=200.0)
    result = played("riseml", jobs, "1x2", load)
    first, second = (one.wait_seconds for one in result.outcomes)
    # Written after 400 seconds: the rest is lost, on two GPUs.
    assert 200 <= result.lost_gpu_seconds <= 200 + 2 * GRACE
    assert first == pytest.approx(100 + second + 100, abs=1.0)


def test_those_are_stopped_who_wrote_a_checkpoint_last() -> None:
    jobs = [Job(0, 1, 1000, 30), Job(300, 1, 1000, 30), Job(500, 1, 100, 80)]
    priorities = replace(ALL, priorities=True)
    # The younger has done less, unless the older has written down most of what it did.
    waited = [one.wait_seconds > 0 for one in played("riseml", jobs, "1x2", priorities).outcomes]
    assert waited[:2] == [False, True]
    load = replace(priorities, checkpoint_seconds=400.0)
    waited = [one.wait_seconds > 0 for one in played("riseml", jobs, "1x2", load).outcomes]
    assert waited[:2] == [True, False]


def test_who_comes_to_its_end_while_it_is_stopped_starts_anew() -> None:
    """It may have ended because it was asked to: nobody can tell, so nothing counts as done."""
    jobs = [Job(0, 2, 505, priority=30, estimate=5000), Job(500, 2, 100, priority=80)]
    result = played("riseml", jobs, "1x2", replace(ALL, priorities=True))
    first, second = (one.wait_seconds for one in result.outcomes)
    assert (result.preemptions, result.unfinished) == (1, 0)
    assert second == pytest.approx(5)
    assert first == pytest.approx(605)


def test_gangs_start_whole() -> None:
    jobs = [Job(0, 1, 100), Job(1, 2, 50, members=2)]
    assert waits("easy", jobs, "2x2") == [0, 99]


def test_gpus_that_are_held_are_counted_while_it_is_measured() -> None:
    load = Load(warm_up_seconds=100.0, measured_seconds=200.0)
    jobs = [Job(0, 1, 200), Job(150, 1, 1000), Job(400, 1, 1)]
    result = played("easy", jobs, "1x2", load)
    # From 100 to 300: one GPU for 100 s, the other for 150 s, of 2 for 200 s.
    assert result.utilization == pytest.approx(250 / 400)
    assert [one.duration_seconds for one in result.outcomes] == [1000]


def test_who_never_starts_is_counted_with_the_time_it_waited() -> None:
    jobs = [Job(0, 1, 10), Job(1, 3, 10), Job(2, 1, 10)]
    result = played("riseml", jobs, "1x2", replace(ALL, measured_seconds=100.0))
    assert result.unfinished == 1
    assert result.outcomes[1].wait_seconds > 86_400.0


@pytest.mark.parametrize("policy", ["fifo", "priority", "easy", "riseml"])
def test_equal_seeds_give_equal_results(policy: str) -> None:
    random = Random(5)
    tasks = [
        TraceTask(
            Resources(0, 0, random.choice((500, GPU, 2 * GPU, 4 * GPU))),
            duration_seconds=random.expovariate(1 / 600.0),
        )
        for _ in range(60)
    ]
    load = Load(offered=1.0, warm_up_seconds=600.0, measured_seconds=6000.0)
    first, second = (
        replay(uniform_nodes("8x4"), tasks, POLICIES[policy], load, 3, node_count=4)
        for _ in range(2)
    )
    assert first.outcomes == second.outcomes
    assert (first.unfinished, first.node_count, first.gpu_count) == (0, 4, 16)
    assert 0.3 < first.utilization <= 1.0
