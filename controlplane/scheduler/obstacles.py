"""What keeps one member from one node: the first thing that stands in the way."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from controlplane.domain.plan import PendingCode
from controlplane.domain.snapshot import NodeView
from controlplane.scheduler.feasibility import Barrier, gpu_matches, refuses_share
from riseml.spec.model import GPU, Resources


class What(Enum):
    """The amount that a reason speaks of."""

    GPUS = "GPUs"
    CPUS = "CPUs"
    MEMORY = "memory"
    SHM = "shared memory"
    PORTS = "ports"
    NONE = ""


Kind = tuple[PendingCode, What]


Obstacle = tuple[PendingCode, What, int]
"""With the amount that the node has of what it is short of."""

Finding = tuple[Obstacle | None, int, int]
"""What stands in the way first; how many members the empty node would hold, and how many it can
now.
"""

BARRED: Final[dict[Barrier, Kind]] = {
    Barrier.PINNED: (PendingCode.PINNED, What.NONE),
    Barrier.LABELS: (PendingCode.NO_MATCHING_LABELS, What.NONE),
    Barrier.TAINTED: (PendingCode.TAINTED, What.NONE),
    Barrier.OWNED: (PendingCode.OTHER_USERS_NODE, What.NONE),
    Barrier.IMAGELESS: (PendingCode.NO_IMAGES, What.NONE),
}
"""What keeps a gang from a node whatever it asks for."""

ANY_NUMBER: Final = 1 << 30
"""Of members that ask for nothing."""


class Free(Protocol):
    """What is free on a node."""

    @property
    def view(self) -> NodeView: ...
    @property
    def free_cpu_milli(self) -> int: ...
    @property
    def free_memory_bytes(self) -> int: ...
    @property
    def free_shm_bytes(self) -> int: ...
    @property
    def free_ports(self) -> int: ...
    @property
    def gpu_free(self) -> Sequence[int]: ...


def find(node: Free, wanted: Resources, ports: int) -> Finding:
    obstacle = too_small(node.view, wanted)
    if obstacle is not None:
        return obstacle, 0, 0
    room_ever = room_when_empty(node.view, wanted)
    obstacle = busy(node, wanted, ports)
    return obstacle, room_ever, 0 if obstacle else _room_now(node, wanted)


def too_small(node: NodeView, wanted: Resources) -> Obstacle | None:
    """What keeps a member from this node even if nothing else ran there."""
    if wanted.gpu_milli:
        if node.gpus and refuses_share(node, wanted):
            return PendingCode.WHOLE_GPUS, What.NONE, 0
        matching = sum(1 for view in node.gpus if gpu_matches(view.gpu, wanted))
        if not matching:
            return PendingCode.NO_MATCHING_GPU, What.NONE, 0
        if matching < wanted.gpu_count:
            return PendingCode.TOO_LARGE, What.GPUS, matching * GPU
    if wanted.cpu_milli > node.cpu_milli:
        return PendingCode.TOO_LARGE, What.CPUS, node.cpu_milli
    if wanted.memory_bytes > node.memory_bytes:
        return PendingCode.TOO_LARGE, What.MEMORY, node.memory_bytes
    if node.shm_bytes and wanted.shm_bytes > node.shm_bytes:
        return PendingCode.TOO_LARGE, What.SHM, node.shm_bytes
    return None


def busy(node: Free, wanted: Resources, ports: int) -> Obstacle | None:
    """What keeps a member from this node now."""
    view = node.view
    if wanted.gpu_milli:
        usable = sum(1 for gpu in view.gpus if gpu.usable and gpu_matches(gpu.gpu, wanted))
        if usable < wanted.gpu_count:
            return PendingCode.GPUS_UNUSABLE, What.GPUS, usable * GPU
        free = _free_gpu_milli(node, wanted)
        if free < wanted.gpu_milli:
            return PendingCode.GPUS_BUSY, What.GPUS, free
    if node.free_cpu_milli < wanted.cpu_milli:
        return PendingCode.CPU_BUSY, What.CPUS, max(0, node.free_cpu_milli)
    if node.free_memory_bytes < wanted.memory_bytes:
        return PendingCode.MEMORY_BUSY, What.MEMORY, max(0, node.free_memory_bytes)
    if view.shm_bytes and node.free_shm_bytes < wanted.shm_bytes:
        return PendingCode.SHM_BUSY, What.SHM, max(0, node.free_shm_bytes)
    if node.free_ports < ports:
        return PendingCode.PORTS_BUSY, What.PORTS, max(0, node.free_ports)
    return None


def _free_gpu_milli(node: Free, wanted: Resources) -> int:
    """Of whole GPUs how many are wholly free; of a share the most that is free of one GPU."""
    free = [
        milli
        for milli, view in zip(node.gpu_free, node.view.gpus, strict=True)
        if gpu_matches(view.gpu, wanted)
    ]
    if wanted.gpu_milli < GPU:
        return max(free, default=0)
    return GPU * sum(1 for milli in free if milli == GPU)


def _room_now(node: Free, wanted: Resources) -> int:
    """How many such members find room here, at least one."""
    matching = [
        milli
        for milli, view in zip(node.gpu_free, node.view.gpus, strict=True)
        if gpu_matches(view.gpu, wanted)
    ]
    shm = node.free_shm_bytes if node.view.shm_bytes else None
    return _times(wanted, node.free_cpu_milli, node.free_memory_bytes, shm, matching)


def room_when_empty(view: NodeView, wanted: Resources) -> int:
    """How many such members the whole node would hold, its unusable GPUs counted as usable."""
    matching = [GPU for gpu in view.gpus if gpu_matches(gpu.gpu, wanted)]
    return _times(wanted, view.cpu_milli, view.memory_bytes, view.shm_bytes or None, matching)


def _times(
    wanted: Resources,
    cpu_milli: int,
    memory_bytes: int,
    shm_bytes: int | None,
    gpus: Sequence[int],
) -> int:
    limits = []
    if wanted.cpu_milli:
        limits.append(cpu_milli // wanted.cpu_milli)
    if wanted.memory_bytes:
        limits.append(memory_bytes // wanted.memory_bytes)
    if wanted.shm_bytes and shm_bytes is not None:
        limits.append(shm_bytes // wanted.shm_bytes)
    if wanted.gpu_milli >= GPU:
        limits.append(GPU * sum(1 for milli in gpus if milli == GPU) // wanted.gpu_milli)
    elif wanted.gpu_milli:
        limits.append(sum(milli // wanted.gpu_milli for milli in gpus))
    # A member that asks for nothing fits any number of times.
    return min(limits, default=ANY_NUMBER)
