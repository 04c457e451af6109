"""Which GPUs of a node are taken together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.model import Gpu
from controlplane.scheduler.topology import FAR, Layout, closest, distance

GROUP = st.integers(-1, 2)


def gpus(number: int) -> list[Gpu]:
    return [Gpu(f"g{i}", i, "NVIDIA H100", "H100", 80 << 30) for i in range(number)]


@given(
    st.lists(st.tuples(GROUP, GROUP, GROUP), min_size=1, max_size=8).map(tuple),
    st.data(),
)
def test_what_is_taken_is_as_close_as_it_can_be(layout: Layout, data: st.DataObject) -> None:
    positions = range(len(layout))
    free = sorted(data.draw(st.sets(st.sampled_from(positions), min_size=1)))
    count = data.draw(st.integers(1, len(free)))
    taken = closest(layout, gpus(len(layout)), free, count)
    assert len(set(taken)) == count
    assert set(taken) <= set(free)
    assert distance(layout, taken, count) == distance(layout, free, count)


def test_of_two_groups_that_suffice_the_smaller_is_broken() -> None:
    layout = ((0, -1, -1),) * 4 + ((1, -1, -1),) * 2
    assert closest(layout, gpus(6), range(6), 2) == [4, 5]


def test_within_a_group_pairs_stay_together() -> None:
    layout = ((0, 0, 0), (0, 1, 0), (0, 0, 0), (0, 1, 0))
    assert closest(layout, gpus(4), range(4), 2) == [0, 2]
    assert closest(layout, gpus(4), [1, 2, 3], 2) == [1, 3]
    assert closest(layout, gpus(4), [1, 2, 3], 1) == [2]


def test_gpus_of_which_nothing_is_known_are_far_from_each_other() -> None:
    assert distance((), [0, 1], 2) == FAR
    assert closest((), gpus(3), [2, 1], 1) == [1]
