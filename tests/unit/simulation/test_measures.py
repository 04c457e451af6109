"""Numbers about those who waited."""

from __future__ import annotations

import pytest

from controlplane.simulation.measures import (
    Outcome,
    by_size,
    mean_and_deviation,
    quantile,
    size_class,
    slowdown,
    summary,
)
from riseml.spec.model import GPU


@pytest.mark.parametrize(
    ("gpu_milli", "name"),
    [
        (0, "none"),
        (1, "share"),
        (999, "share"),
        (1 * GPU, "1"),
        (2 * GPU, "2"),
        (3 * GPU, "3-4"),
        (4 * GPU, "3-4"),
        (8 * GPU, "5-8"),
        (9 * GPU, "9-16"),
        (32 * GPU, "17-32"),
    ],
)
def test_tasks_are_told_apart_by_their_gpus(gpu_milli: int, name: str) -> None:
    assert size_class(gpu_milli) == name


def test_quantiles_lie_between_the_nearest_values() -> None:
    values = [0.0, 10.0, 20.0, 30.0]
    assert [quantile(values, part) for part in (0.0, 0.5, 0.95, 1.0)] == pytest.approx(
        [0.0, 15.0, 28.5, 30.0]
    )
    assert quantile([7.0], 0.95) == 7.0


def test_short_tasks_are_not_slowed_down_a_thousand_times() -> None:
    assert slowdown(Outcome(GPU, 1.0, 0.0)) == 1.0
    assert slowdown(Outcome(GPU, 1.0, 599.0)) == 1.0
    assert slowdown(Outcome(GPU, 1200.0, 1200.0)) == 2.0


def test_a_summary_has_the_waits_of_all() -> None:
    found = summary([Outcome(GPU, 600.0, wait) for wait in (0.0, 0.0, 600.0, 1800.0)])
    assert (found.count, found.mean, found.p50, found.longest) == (4, 600.0, 300.0, 1800.0)
    assert found.slowdown == 2.0


def test_sizes_stand_from_small_to_large() -> None:
    outcomes = [Outcome(milli, 1.0, 0.0) for milli in (8 * GPU, 0, GPU, 500, 16 * GPU)]
    assert list(by_size(outcomes)) == ["none", "share", "1", "5-8", "9-16"]


def test_a_single_seed_deviates_from_nothing() -> None:
    assert mean_and_deviation([3.0]) == (3.0, 0.0)
    assert mean_and_deviation([1.0, 5.0, 6.0, 8.0]) == pytest.approx((5.0, (26 / 3) ** 0.5))
