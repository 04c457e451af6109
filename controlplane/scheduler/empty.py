"""A node as it would be if nothing ran."""

from __future__ import annotations

from controlplane.domain.snapshot import NodeView
from controlplane.scheduler.feasibility import gpu_matches, refuses_share
from controlplane.scheduler.table import UNLIMITED
from riseml.spec.model import GPU, Resources


class EmptyNode:
    """A node on which nothing runs, but what is put there."""

    __slots__ = ("_cpu_milli", "_gpus", "_memory_bytes", "_shm_bytes", "_view")

    def __init__(self, view: NodeView) -> None:
        self._view = view
        self._cpu_milli = view.cpu_milli
        self._memory_bytes = view.memory_bytes
        self._shm_bytes = view.shm_bytes or UNLIMITED
        self._gpus = [GPU if gpu.usable else 0 for gpu in view.gpus]

    def take(self, wanted: Resources) -> bool:
        """Takes a place, if there is one."""
        if self._cpu_milli < wanted.cpu_milli or self._memory_bytes < wanted.memory_bytes:
            return False
        if self._shm_bytes < wanted.shm_bytes or refuses_share(self._view, wanted):
            return False
        each = min(wanted.gpu_milli, GPU)
        fit = [
            (free, position)
            for position, free in enumerate(self._gpus)
            if free >= each and gpu_matches(self._view.gpus[position].gpu, wanted)
        ]
        if len(fit) < wanted.gpu_count:
            return False
        for _, position in sorted(fit)[: wanted.gpu_count]:
            self._gpus[position] -= each
        self._cpu_milli -= wanted.cpu_milli
        self._memory_bytes -= wanted.memory_bytes
        self._shm_bytes -= wanted.shm_bytes
        return True
