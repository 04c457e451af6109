"""One node as it is shown to the rest of a cycle, and changes of what is free on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.domain.snapshot import NodeView
from controlplane.scheduler.table import RoomNode, Taken
from riseml.spec.model import GPU, Resources


@dataclass(frozen=True, slots=True)
class Row:
    """One node now: what is free there, counting what was taken and released, but not what is
    held; that stands beside it.
    """

    view: NodeView
    name: str
    free_cpu_milli: int
    free_memory_bytes: int
    free_shm_bytes: int
    free_ports: int
    # Thousandths that may be given, by position; 0 where a GPU is unusable.
    gpu_free: Sequence[int]
    # How many GPUs are wholly free.
    whole_free: int
    # Of what is free, what is held.
    held_cpu_milli: int
    held_memory_bytes: int
    held_shm_bytes: int
    gpu_held: Sequence[int]
    # Experiments that it is held for, on this node and by GPU.
    held_for: tuple[str, ...]
    gpu_held_for: Sequence[tuple[str, ...]]
    # Equal for nodes on which equal members fit or do not fit alike, name and labels apart.
    state: int


@dataclass(slots=True)
class Change:
    """A change of what is free on one node."""

    node: RoomNode
    resources: Resources
    ports: int
    taken: Taken


def negative(amount: Change) -> Change:
    """What takes a change back."""
    wanted = amount.resources
    return Change(
        amount.node,
        Resources(
            cpu_milli=-wanted.cpu_milli,
            memory_bytes=-wanted.memory_bytes,
            shm_bytes=-wanted.shm_bytes,
        ),
        -amount.ports,
        tuple([(position, -milli) for position, milli in amount.taken]),
    )


def row_of(node: RoomNode, state: int, held: Sequence[tuple[str, Change]]) -> Row:
    """`held`: for whom how much of it is held."""
    gpu_free = list(node.gpu_free)
    gpu_held = [0] * len(gpu_free)
    gpu_held_for: list[tuple[str, ...]] = [()] * len(gpu_free)
    cpu = memory = shm = 0
    for experiment_id, amount in held:
        shm += amount.resources.shm_bytes
        cpu += amount.resources.cpu_milli
        memory += amount.resources.memory_bytes
        for position, milli in amount.taken:
            gpu_held[position] += milli
            gpu_held_for[position] += (experiment_id,)
    for position, milli in enumerate(gpu_held):
        gpu_free[position] += milli
    return Row(
        view=node.view,
        name=node.name,
        free_cpu_milli=node.free_cpu_milli + cpu,
        free_memory_bytes=node.free_memory_bytes + memory,
        free_shm_bytes=node.free_shm_bytes + shm,
        free_ports=node.free_ports,
        gpu_free=gpu_free,
        whole_free=gpu_free.count(GPU),
        held_cpu_milli=cpu,
        held_memory_bytes=memory,
        held_shm_bytes=shm,
        gpu_held=gpu_held,
        held_for=tuple(dict.fromkeys(experiment_id for experiment_id, _ in held)),
        gpu_held_for=gpu_held_for,
        state=state,
    )
