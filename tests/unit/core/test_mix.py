"""What is learned of what jobs ask for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.mix import HALF_LIFE_JOBS, MOST_KINDS, JobMix
from controlplane.scheduler.mix import GENERIC_MIX
from riseml.spec.model import Resources

SMALL, LARGE = Resources(gpu_milli=500), Resources(gpu_milli=8000)


def part(mix: JobMix, wanted: Resources) -> float:
    return dict(mix.shown()).get(wanted, 0.0)


def test_a_new_cluster_is_taken_to_be_like_others() -> None:
    mix = JobMix()
    assert mix.shown() is GENERIC_MIX
    mix.saw(SMALL, 10)
    assert mix.shown() is GENERIC_MIX


def test_what_was_assumed_fades_as_jobs_come() -> None:
    mix = JobMix()
    mix.saw(SMALL, 1000)
    assert part(mix, SMALL) > 0.97
    assert abs(sum(share for _, share in mix.shown()) - 1.0) < 1e-9


def test_what_is_shown_stays_the_same_object_until_a_good_part_of_it_is_new() -> None:
    mix = JobMix()
    mix.saw(SMALL, 100)
    shown = mix.shown()
    mix.saw(LARGE, 50)
    assert mix.shown() is shown
    mix.saw(LARGE, 50)
    assert mix.shown() is not shown


def test_a_cluster_whose_jobs_change_forgets_the_old_ones() -> None:
    mix = JobMix()
    mix.saw(SMALL, HALF_LIFE_JOBS)
    mix.shown()
    for _ in range(6):
        mix.saw(LARGE, HALF_LIFE_JOBS)
        mix.shown()
    assert part(mix, SMALL) < 0.02


@given(st.lists(st.sampled_from([SMALL, LARGE, Resources()]), min_size=40, max_size=80))
def test_the_order_in_which_jobs_come_between_two_looks_does_not_matter(
    jobs: list[Resources],
) -> None:
    one, other = JobMix(), JobMix()
    for wanted in jobs:
        one.saw(wanted)
    for wanted in reversed(jobs):
        other.saw(wanted)
    assert one.shown() == other.shown()


def test_only_so_many_kinds_are_kept_apart() -> None:
    mix = JobMix()
    for number in range(2 * MOST_KINDS):
        mix.saw(Resources(cpu_milli=number))
    assert len(mix.shown()) == MOST_KINDS
