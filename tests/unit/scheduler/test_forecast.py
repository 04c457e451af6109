"""When what waits should start: a range, by the same cycles in virtual time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from controlplane.domain.snapshot import Durations
from controlplane.scheduler.cycle import schedule
from controlplane.scheduler.forecast import StartForecast, forecast
from tests.unit.scheduler.clusters import scenes, snapshot_of
from tests.unit.scheduler.scenes import NOW

HOUR = 3600.0


def of(experiment_id: str, *lines: str, durations: Durations = Durations()) -> StartForecast | None:  # noqa: B008
    picture = replace(snapshot_of(lines), durations=durations)
    return forecast(picture, NOW, experiment_id)


def hours(found: StartForecast | None) -> tuple[float, float | None]:
    assert found is not None
    latest = None if found.latest is None else round((found.latest - NOW) / HOUR, 2)
    return round((found.earliest - NOW) / HOUR, 2), latest


HALF = Durations(parts=(0.5,))
ONE = ("node n1 gpus=1", "run bo.1 n1:0 for=4h started=1h")


def test_nothing_is_foretold_of_what_does_not_wait() -> None:
    assert of("bo.1", *ONE) is None
    assert of("ana.9", *ONE) is None


def test_what_fits_starts_now() -> None:
    assert hours(of("ana.1", "node n1 gpus=1", "wait ana.1 gpus=1")) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        # Half of four hours, and all of them, an hour after the start.
        (["wait ana.1 gpus=1 for=2h"], (1.0, 3.0)),
        # Behind a shorter one, which needs half of its hour, or all of it.
        (["wait ana.1 gpus=1 for=2h", "wait ana.2 gpus=1 for=1h"], (1.5, 4.0)),
        # Before a longer one.
        (["wait ana.1 gpus=1 for=2h", "wait ana.2 gpus=1 for=9h"], (1.0, 3.0)),
    ],
)
def test_what_is_before_it_needs_as_much_as_others_did_or_all_it_may(
    waiting: list[str], expected: tuple[float, float]
) -> None:
    assert hours(of("ana.1", *ONE, *waiting, durations=HALF)) == expected


def test_what_has_run_longer_than_others_did_is_expected_at_its_limit() -> None:
    found = of(
        "ana.1",
        "node n1 gpus=1",
        "run bo.1 n1:0 for=4h started=3h",
        "wait ana.1 gpus=1",
        durations=HALF,
    )
    assert hours(found) == (1.0, 1.0)


def test_without_a_max_duration_there_is_no_latest() -> None:
    lines = ("node n1 gpus=1", "run bo.1 n1:0 started=1h", "wait ana.1 gpus=1")
    assert of("ana.1", *lines) is None
    found = of("ana.1", *lines, durations=Durations(seconds=(60.0, 2 * HOUR, 8 * HOUR)))
    assert hours(found) == (1.0, None)
    assert found is not None and "names none" in found.basis


def test_what_can_never_start_has_no_forecast() -> None:
    assert of("ana.1", *ONE, "wait ana.1 gpus=2") is None


def test_who_makes_room_is_counted_on() -> None:
    lines = ("node n1 gpus=1", "run bo.1 n1:0 priority=40 grace=36s", "wait ana.1 gpus=1")
    assert hours(of("ana.1", *lines)) == (0.01, 0.01)


def test_a_limit_of_a_queue_is_counted_in() -> None:
    found = of(
        "ana.1",
        "node n1 gpus=4",
        "queue default limit=1",
        "run bo.1 n1:0 for=2h",
        "wait ana.1 gpus=1",
    )
    assert hours(found) == (0.2, 2.0)


@given(scenes(most_waiting=4))
@settings(max_examples=40)
def test_a_range_is_one_and_who_starts_now_is_told_so(lines: list[str]) -> None:
    picture = snapshot_of(lines)
    started = {one.experiment_id for one in schedule(picture, NOW).placements}
    for gang in picture.pending:
        found = forecast(picture, NOW, gang.experiment_id)
        if gang.experiment_id in started:
            assert found is not None and found.earliest == found.latest == NOW
        elif found is not None:
            assert NOW < found.earliest
            assert found.latest is None or found.earliest <= found.latest
