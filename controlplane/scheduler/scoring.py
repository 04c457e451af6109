"""Which of the places that fit is best: full nodes get fuller, others stay free for large jobs."""

from __future__ import annotations

from controlplane.scheduler.feasibility import choose_gpus, has_room
from controlplane.scheduler.scratch import ScratchNode
from riseml.spec.model import GPU, Resources

Score = tuple[int, int, int]
"""Compared from the left, the lowest is best. Of equal ones the state that came up first in the
cycle is taken, and in it the first node by name.
"""


def score(node: ScratchNode, resources: Resources, ports: int) -> Score | None:
    """How good a node is for a member; None when it does not fit.

    A share: the GPU that is left with the least, so shared GPUs before whole ones. Whole GPUs: the
    node that is left with the fewest whole ones, then the GPUs with the least memory. No GPUs:
    nodes without any first. At last the node that is left with the least CPU and memory.
    """
    if not has_room(node, resources, ports):
        return None
    wanted = resources.gpu_milli
    if not wanted:
        return (1 if node.view.gpus else 0, 0, _left_over(node, resources))
    taken = choose_gpus(node, resources)
    if taken is None:
        return None
    if wanted < GPU:
        left = node.gpu_free[taken[0][0]] - wanted
        return (left, node.whole_free, _left_over(node, resources))
    memory = sum(node.view.gpus[position].gpu.memory_bytes for position, _ in taken)
    return (node.whole_free - len(taken), memory, _left_over(node, resources))


def _left_over(node: ScratchNode, resources: Resources) -> int:
    """What stays free of CPU and of memory, each in ten-thousandths of the node's, added."""
    view = node.view
    cpu = (node.free_cpu_milli - resources.cpu_milli) * 10_000 // max(1, view.cpu_milli)
    memory = (node.free_memory_bytes - resources.memory_bytes) * 10_000
    return cpu + memory // max(1, view.memory_bytes)
