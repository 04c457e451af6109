"""Groups of GPUs that are close to each other, from what NVML says of links and of PCIe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noded.telemetry.topology import LinkEnd, LinkKind, nvlink_groups, pcie_groups

SWITCH = LinkEnd(LinkKind.SWITCH, "00000000:A0:00.0")


def to_gpu(index: int) -> LinkEnd:
    return LinkEnd(LinkKind.GPU, f"00000000:{0x10 + index:02X}:00.0")


def untold(bus_id: str) -> LinkEnd:
    return LinkEnd(LinkKind.UNTOLD, bus_id)


def bus_ids(count: int) -> dict[int, str]:
    """As sysfs writes them: the groups are found all the same."""
    return {index: f"0000:{0x10 + index:02x}:00.0" for index in range(count)}


@pytest.mark.parametrize(
    ("count", "ends", "expected"),
    [
        pytest.param(8, {i: [SWITCH] * 18 for i in range(8)}, dict.fromkeys(range(8), 0), id="hgx"),
        pytest.param(
            4,
            {0: [to_gpu(1)], 1: [to_gpu(0)], 2: [to_gpu(3)], 3: [to_gpu(2)]},
            {0: 0, 1: 0, 2: 2, 3: 2},
            id="bridges between pairs",
        ),
        pytest.param(
            4,
            {0: [to_gpu(1)], 1: [to_gpu(2)], 2: [to_gpu(3)]},
            dict.fromkeys(range(4), 0),
            id="a chain, each told from one side",
        ),
        pytest.param(3, {0: [SWITCH], 2: [SWITCH]}, {0: 0, 2: 0}, id="one without links"),
        pytest.param(2, {0: [SWITCH], 1: []}, {}, id="alone at the switch"),
        pytest.param(
            3,
            {i: [untold(f"00000000:A{i % 2}:00.0")] for i in range(3)},
            {0: 0, 2: 0},
            id="a driver that does not tell switches from GPUs",
        ),
        pytest.param(2, {0: [untold("")], 1: [untold("")]}, {}, id="nothing told"),
        pytest.param(
            2,
            {0: [to_gpu(9)], 1: [to_gpu(9)]},
            {},
            id="a GPU that this daemon may not see",
        ),
        pytest.param(
            2,
            {i: [LinkEnd(LinkKind.PROCESSOR, "0004:00:00.1")] for i in range(2)},
            {},
            id="a processor with NVLinks",
        ),
    ],
)
def test_gpus_that_reach_each_other_through_nvlink_are_a_group(
    count: int, ends: Mapping[int, Sequence[LinkEnd]], expected: dict[int, int]
) -> None:
    assert nvlink_groups(bus_ids(count), ends) == expected


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({(0, 1): 10, (0, 2): 40, (1, 2): 40}, {0: 0, 1: 0, 2: 2}),
        ({(0, 1): 20, (0, 2): 30, (1, 2): 30}, {0: 0, 1: 0, 2: 0}),
        ({(0, 1): 50, (0, 2): 50, (1, 2): 40}, {0: 0, 1: 1, 2: 2}),
        ({(0, 1): 10, (0, 2): None, (1, 2): None}, {0: 0, 1: 0, 2: 2}),
        ({(0, 1): None, (0, 2): None, (1, 2): None}, {}),
        ({}, {}),
    ],
)
def test_gpus_below_one_host_bridge_are_a_group(
    levels: dict[tuple[int, int], int | None], expected: dict[int, int]
) -> None:
    assert pcie_groups([0, 1, 2], levels) == expected


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_a_group_is_named_by_its_first_gpu(pairs: set[tuple[int, int]]) -> None:
    ends: dict[int, list[LinkEnd]] = {}
    for one, other in pairs:
        ends.setdefault(one, []).append(to_gpu(other))
    groups = nvlink_groups(bus_ids(10), ends)
    for index, group in groups.items():
        assert groups[group] == group <= index
    for one, other in pairs:
        assert groups.get(one) == groups.get(other) or one == other
