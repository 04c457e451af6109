"""How long GPUs have been idle, from samples, in a time that the test makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.idle import Watched
from controlplane.idleness import Idleness

PATIENCE = 10.0
POLICY = Watched("ana.1", 1, ("g0", "g1"), min_percent=10, window_seconds=60, noticed=False)

Use = Callable[[int], Mapping[str, int]]


def told(use: Use, seconds: int, policy: Watched = POLICY) -> list[tuple[int, str]]:
    """What is told, and after how many seconds, when samples with this use come each second."""
    idleness = Idleness(PATIENCE)
    found: list[tuple[int, str]] = []
    for second in range(seconds):
        for uuid, percent in use(second).items():
            if uuid in idleness.wanted:
                idleness.sampled(uuid, percent, 100.0 + second)
        for change in idleness.look([policy], 100.5 + second):
            assert (change.experiment_id, change.generation) == ("ana.1", 1)
            if change.stop:
                return [*found, (second, "stop")]
            noticed = change.idle_seconds is not None
            found.append((second, "idle" if noticed else "used"))
            policy = replace(policy, noticed=noticed)
    return found


def always(*percents: int) -> Use:
    return lambda second: dict(zip(("g0", "g1"), percents, strict=False))


def test_who_is_idle_is_told_at_half_time_and_stopped_at_the_end() -> None:
    assert told(always(0, 9), 200) == [(30, "idle"), (60, "stop")]


def test_one_gpu_that_works_is_enough() -> None:
    assert told(always(0, 10), 500) == []


def test_a_burst_between_looks_begins_the_count_anew() -> None:
    def use(second: int) -> Mapping[str, int]:
        return {"g0": 90 if second == 40 else 0, "g1": 0}

    assert told(use, 300) == [(30, "idle"), (40, "used"), (70, "idle"), (100, "stop")]


def test_a_gpu_of_which_nothing_is_heard_is_not_idle() -> None:
    assert told(always(0), 500) == [], "the other one may work"
    assert told(always(), 500) == []


def test_time_without_samples_is_not_counted() -> None:
    def use(second: int) -> Mapping[str, int]:
        return {} if 20 <= second < 120 else {"g0": 0, "g1": 0}

    # The last reading before the gap is good for as long as a sample may be late.
    assert told(use, 300) == [(121, "idle"), (151, "stop")]


def test_a_single_gpu_that_others_do_not_matter_to() -> None:
    alone = replace(POLICY, gpus=("g0",))
    assert told(always(0, 99), 200, alone) == [(30, "idle"), (60, "stop")]


def test_a_new_generation_is_counted_from_its_own_begin() -> None:
    idleness = Idleness(PATIENCE)
    for second in range(50):
        for uuid in ("g0", "g1"):
            idleness.sampled(uuid, 0, float(second))
        generation = 1 if second < 40 else 2
        changes = idleness.look([replace(POLICY, generation=generation)], float(second))
        assert bool(changes) is (30 <= second < 40)


def test_what_does_not_show_in_the_experiment_is_said_again() -> None:
    idleness = Idleness(PATIENCE)
    counts = 0
    for second in range(200):
        for uuid in ("g0", "g1"):
            idleness.sampled(uuid, 0, float(second))
        counts += len(idleness.look([POLICY], float(second)))
    assert counts > 100


@given(st.lists(st.one_of(st.none(), st.sampled_from((0, 5, 10, 80))), max_size=150))
def test_nobody_is_stopped_without_a_whole_window_of_idle_readings(
    percents: list[int | None],
) -> None:
    def use(second: int) -> Mapping[str, int]:
        percent = percents[second] if second < len(percents) else None
        return {} if percent is None else {"g0": percent}

    alone = replace(POLICY, gpus=("g0",), window_seconds=20)
    for second, what in told(use, len(percents), alone):
        if what != "stop":
            continue
        before = percents[: second + 1]
        busy = [at for at, percent in enumerate(before) if percent is not None and percent >= 10]
        since = busy[-1] if busy else -1
        idle = [percent for percent in before[since + 1 :] if percent is not None]
        # Each reading speaks for the time until the next one, at most for the patience.
        assert len(idle) * PATIENCE >= 20 - PATIENCE
        assert second - since >= 20
