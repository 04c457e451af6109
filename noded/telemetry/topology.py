"""Which GPUs of a node are close to each other: through NVLink, and on PCIe. Pure.

A group is named by the index of its first GPU, so that the others keep their numbers when one
group comes or goes.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

HOST_BRIDGE: Final = 30
"""NVML_TOPOLOGY_HOSTBRIDGE: up to this level two GPUs meet before they reach a processor."""

_SWITCH: Final = "switch"


class LinkKind(enum.Enum):
    """What an NVLink leads to."""

    GPU = "GPU"
    SWITCH = "SWITCH"
    PROCESSOR = "PROCESSOR"
    """IBM's processors have NVLinks of their own; that two GPUs share one says little."""
    UNTOLD = "UNTOLD"
    """The driver has no function for it."""


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """The far end of one NVLink that is up."""

    kind: LinkKind
    bus_id: str = ""
    """PCI bus id as NVML writes it; empty where it does not tell."""


def nvlink_groups(
    bus_ids: Mapping[int, str], ends: Mapping[int, Sequence[LinkEnd]]
) -> dict[int, int]:
    """The group of each GPU, by index, that reaches another one through NVLink.

    All switches of a node are one: NVIDIA connects each of its GPUs to every switch. GPUs that are
    linked directly reach each other over those in between.
    """
    own = {short_bus_id(bus_id): index for index, bus_id in bus_ids.items() if bus_id}
    links: list[tuple[Hashable, Hashable]] = []
    for index, far in ends.items():
        for end in far:
            meeting = _meeting_place(end, own)
            if meeting is not None:
                links.append((index, meeting))
    groups = _connected(bus_ids, links)
    sizes = list(groups.values())
    return {index: group for index, group in groups.items() if sizes.count(group) > 1}


def _meeting_place(end: LinkEnd, own: Mapping[str, int]) -> Hashable | None:
    if end.kind is LinkKind.SWITCH:
        return _SWITCH
    if end.kind is LinkKind.PROCESSOR or not end.bus_id:
        return None
    bus_id = short_bus_id(end.bus_id)
    if bus_id in own:
        return own[bus_id]
    # A GPU that this daemon may not see joins nobody; what a silent driver leads to may be a
    # switch, where others come out as well.
    return bus_id if end.kind is LinkKind.UNTOLD else None


def pcie_groups(
    indexes: Sequence[int], levels: Mapping[tuple[int, int], int | None]
) -> dict[int, int]:
    """The group of each GPU, by index; empty where the driver tells nothing.

    `levels` has NVML's common ancestor for each pair, the lower index first; None: not told.
    """
    if all(level is None for level in levels.values()):
        return {}
    near = [pair for pair, level in levels.items() if level is not None and level <= HOST_BRIDGE]
    return _connected(indexes, near)


def short_bus_id(bus_id: str) -> str:
    """`0000:3b:00.0`, whether the domain was written with four digits or with eight."""
    return bus_id.lower()[-12:]


def _connected(
    indexes: Iterable[int], links: Iterable[tuple[Hashable, Hashable]]
) -> dict[int, int]:
    """By GPU the lowest index among those that it is connected to."""
    above: dict[Hashable, Hashable] = {}

    def top(one: Hashable) -> Hashable:
        while one in above:
            one = above[one]
        return one

    for first, second in links:
        low, high = top(first), top(second)
        if low != high:
            above[high] = low
    lowest: dict[Hashable, int] = {}
    found = {index: top(index) for index in sorted(indexes)}
    for index, head in found.items():
        lowest.setdefault(head, index)
    return {index: lowest[head] for index, head in found.items()}
