"""How long experiments really run, as it is shown to the scheduler."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.durations import FEWEST, REMEMBERED, LearnedDurations
from controlplane.domain.model import Attempt
from controlplane.domain.snapshot import Durations
from controlplane.domain.states import AttemptState
from tests.unit.core.world import World, spec


def attempt(seconds: float | None, start: float | None = 100.0) -> Attempt:
    end = None if seconds is None or start is None else start + seconds
    return Attempt(
        "e.1-1", "e.1", "e", 1, "n1", AttemptState.EXITED, 0.0, start_time=start, end_time=end
    )


def test_a_few_say_nothing() -> None:
    learned = LearnedDurations()
    for _ in range(FEWEST - 1):
        learned.ended([attempt(30)], 60)
    assert learned.shown() == Durations()
    learned.ended([attempt(30)], 60)
    assert set(learned.shown().parts) == {0.5}
    assert learned.shown().seconds == ()


def test_those_without_a_max_duration_are_counted_in_seconds() -> None:
    learned = LearnedDurations()
    for seconds in range(32):
        learned.ended([attempt(float(seconds))], None)
    assert learned.shown().seconds == tuple(float(second) for second in range(0, 32, 2))


def test_a_gang_runs_from_its_first_start_to_its_last_end() -> None:
    learned = LearnedDurations()
    for _ in range(FEWEST):
        learned.ended([attempt(20, 100.0), attempt(20, 130.0)], 100)
    assert set(learned.shown().parts) == {0.5}


def test_what_never_ran_or_ran_too_long_is_no_news() -> None:
    learned = LearnedDurations()
    before = learned.shown()
    learned.ended([attempt(None)], 60)
    learned.ended([attempt(5, None)], 60)
    assert learned.shown() is before
    for _ in range(FEWEST):
        learned.ended([attempt(90)], 60)
    assert set(learned.shown().parts) == {1.0}


@given(st.lists(st.floats(0, 100), min_size=FEWEST, max_size=REMEMBERED * 2))
def test_quantiles_are_of_the_newest_and_ascend(seconds: list[float]) -> None:
    learned = LearnedDurations()
    for one in seconds:
        learned.ended([attempt(one, 0.0)], None)
    shown = learned.shown().seconds
    assert list(shown) == sorted(shown)
    newest = seconds[-REMEMBERED:]
    assert shown[0] == min(newest) and set(shown) <= set(newest)
    assert learned.shown() is learned.shown()


@pytest.mark.parametrize("kill", [False, True])
def test_the_scheduler_is_shown_what_ended_experiments_needed(kill: bool) -> None:
    world = World()
    world.connect()
    for number in range(1, FEWEST + 1):
        world.submit(spec(max_duration_seconds=100))
        world.plan()
        world.run(f"ana.{number}.train.1-1")
        world.pass_time(25)
        if kill:
            world.kill(f"ana.{number}")
        world.exit(f"ana.{number}.train.1-1")
        world.cluster.evict(f"ana.{number}")
    assert set(world.cluster.snapshot().durations.parts) == {0.25}
