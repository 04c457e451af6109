"""Which GPUs of a node a member gets: close ones, and such that close ones stay for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from controlplane.domain.model import Gpu
from controlplane.domain.snapshot import GpuView

Layout = tuple[tuple[int, int, int], ...]
"""Of each GPU of a node the NVLink group, the PCIe group and the NUMA node, -1: unknown."""

FAR: Final = 3
"""GPUs that have no group in common, or of which nothing is known."""


def layout_of(gpus: Sequence[GpuView]) -> Layout:
    """Empty where nothing is known."""
    for view in gpus:
        gpu = view.gpu
        if gpu.nvlink_group >= 0 or gpu.pcie_group >= 0 or gpu.numa_node >= 0:
            return tuple([(v.gpu.nvlink_group, v.gpu.pcie_group, v.gpu.numa_node) for v in gpus])
    return ()


def distance(layout: Layout, free: Sequence[int], count: int) -> int:
    """How close `count` of the GPUs at these positions can be: 0 in one NVLink group, 1 on one PCIe
    switch, 2 at one NUMA node, FAR.
    """
    if layout:
        for level in range(FAR):
            sizes: dict[int, int] = {}
            for position in free:
                group = layout[position][level]
                if group >= 0:
                    sizes[group] = sizes.get(group, 0) + 1
            if sizes and max(sizes.values()) >= count:
                return level
    return FAR


def closest(layout: Layout, gpus: Sequence[Gpu], free: Sequence[int], count: int) -> list[int]:
    """Positions of `count` of these, which are at least so many.

    Those of one group, of the smallest group that has enough, so that larger ones stay whole; of
    one group by groups within it, then those with the least memory, then the first.
    """
    chosen = list(free)
    if layout:
        level = distance(layout, free, count)
        if level < FAR:
            groups: dict[int, list[int]] = {}
            for position in free:
                group = layout[position][level]
                if group >= 0:
                    groups.setdefault(group, []).append(position)
            enough = [group for group in groups.values() if len(group) >= count]
            chosen = min(enough, key=lambda group: (len(group), group))
        # A single one comes from where fewest are left, several from where most are.
        sign = 1 if count == 1 else -1
        near = {position: _neighbours(layout, chosen, position) for position in chosen}
        chosen.sort(
            key=lambda p: (
                *[sign * size for size in near[p]],
                *layout[p],
                gpus[p].memory_bytes,
                p,
            )
        )
    else:
        chosen.sort(key=lambda p: (gpus[p].memory_bytes, p))
    return sorted(chosen[:count])


def _neighbours(layout: Layout, among: Sequence[int], position: int) -> list[int]:
    """By level, how many of them are in one group with it."""
    return [
        sum(1 for other in among if layout[other][level] == group) if group >= 0 else 0
        for level, group in enumerate(layout[position])
    ]
