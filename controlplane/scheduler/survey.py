"""All nodes against one kind of member: what stands in the way first on each, and how many fit.

The same as `obstacles.find` says node by node, for all nodes at once: in a full cluster every kind
of job that waits is told why in every cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, Protocol

import numpy as np

from controlplane.domain.plan import PendingCode
from controlplane.domain.snapshot import NodeView
from controlplane.scheduler.arrays import Flags, Ints
from controlplane.scheduler.feasibility import Barrier, EligibleKey, wants_share
from controlplane.scheduler.obstacles import ANY_NUMBER, BARRED, Kind, What, find
from controlplane.scheduler.table import NodeTable
from riseml.spec.model import GPU, Resources

# By number; the first are those of `Barrier`.
_KINDS: Final[tuple[Kind | None, ...]] = (
    None,
    *[BARRED[barrier] for barrier in Barrier if barrier],
    (PendingCode.NODES_CLOSED, What.NONE),
    (PendingCode.WHOLE_GPUS, What.NONE),
    (PendingCode.NO_MATCHING_GPU, What.NONE),
    (PendingCode.TOO_LARGE, What.GPUS),
    (PendingCode.TOO_LARGE, What.CPUS),
    (PendingCode.TOO_LARGE, What.MEMORY),
    (PendingCode.TOO_LARGE, What.SHM),
    (PendingCode.GPUS_UNUSABLE, What.GPUS),
    (PendingCode.GPUS_BUSY, What.GPUS),
    (PendingCode.CPU_BUSY, What.CPUS),
    (PendingCode.MEMORY_BUSY, What.MEMORY),
    (PendingCode.SHM_BUSY, What.SHM),
    (PendingCode.PORTS_BUSY, What.PORTS),
)
# So many nodes are not worth arrays.
FEW: Final = 8
_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS)}


class Place(Protocol):
    """A node by name, as it was shown."""

    @property
    def name(self) -> str: ...
    @property
    def view(self) -> NodeView: ...


@dataclass(frozen=True, slots=True)
class Short:
    """Nodes that are short of the same thing, and the most that one of them has of it."""

    nodes: Sequence[Place]
    names: tuple[str, ...]
    available: int


@dataclass(slots=True)
class Survey:
    """One kind of member against all nodes."""

    resources: Resources
    # How many such members the gang has, find room now, and would on nodes without anything else.
    count: int
    room_now: int
    room_ever: int
    # Nodes by what stands in the way first.
    obstacles: dict[Kind, Short]


def survey(table: NodeTable, wanted: Resources, count: int, ports: int, key: EligibleKey) -> Survey:
    """As things are now. `count` is only passed on; `ports`: what each member needs of them."""
    table.sync()
    seen = _Seen(table, key)
    # A few nodes are sooner looked at one by one; those with GPUs of several models have to be.
    several_models = table.mixed if wanted.gpu_milli else ()
    singly = range(len(table.nodes)) if len(table.nodes) <= FEW else several_models
    rows = [row for row in singly if seen.nothing[row]]
    seen.nothing[rows] = False
    room_ever = room_now = 0
    if seen.nothing.any():
        room_ever, room_now = _at_once(table, seen, wanted, ports)
    for row in rows:
        node = table.nodes[row]
        obstacle, most, fit = find(node, wanted, ports)
        room_ever += most
        if most and not node.view.open:
            obstacle = PendingCode.NODES_CLOSED, What.NONE, 0
        if obstacle is None:
            room_now += min(fit, node.free_ports) if ports else fit
        else:
            code, what, have = obstacle
            seen.numbers[row], seen.available[row] = _NUMBERS[code, what], have
    return Survey(wanted, count, room_now, room_ever, seen.obstacles())


def _at_once(table: NodeTable, seen: _Seen, wanted: Resources, ports: int) -> tuple[int, int]:
    """All rows where nothing was seen so far; how many members they hold when empty, and now."""
    gpus = wanted.gpu_milli
    here = table.gpus * table.fitting(wanted)[table.gpu_class] if gpus else table.gpus
    # What never changes for itself.
    if table.whole and wants_share(wanted):
        seen.find((PendingCode.WHOLE_GPUS, What.NONE), table.whole_gpus & (table.gpus > 0))
    if gpus:
        seen.find((PendingCode.NO_MATCHING_GPU, What.NONE), here == 0)
        seen.find((PendingCode.TOO_LARGE, What.GPUS), here < wanted.gpu_count, here * GPU)
    seen.less((PendingCode.TOO_LARGE, What.CPUS), table.total_cpu, wanted.cpu_milli)
    seen.less((PendingCode.TOO_LARGE, What.MEMORY), table.total_memory, wanted.memory_bytes)
    counted = table.total_shm > 0
    if wanted.shm_bytes:
        seen.less((PendingCode.TOO_LARGE, What.SHM), table.total_shm, wanted.shm_bytes, counted)
    ever = np.full(len(table.nodes), ANY_NUMBER)
    _at_most(ever, table.total_cpu, wanted.cpu_milli)
    _at_most(ever, table.total_memory, wanted.memory_bytes)
    _at_most(ever, table.total_shm, wanted.shm_bytes, counted)
    if 0 < gpus < GPU:
        np.minimum(ever, here * (GPU // gpus), out=ever)
    else:
        _at_most(ever, here * GPU, gpus)
    room_ever = int(ever[seen.nothing].sum())
    seen.find((PendingCode.NODES_CLOSED, What.NONE), ~table.is_open)
    # What time or other jobs change.
    cpu, memory = table.cpu.astype(np.int64), table.memory.astype(np.int64)
    now = np.full(len(table.nodes), ANY_NUMBER)
    if gpus:
        seen.less(
            (PendingCode.GPUS_UNUSABLE, What.GPUS), table.usable * GPU, wanted.gpu_count * GPU
        )
        if gpus < GPU:
            free: Ints = table.levels.max(axis=1, initial=0)
            np.minimum(now, (table.levels // gpus).sum(axis=1), out=now)
        else:
            free = GPU * np.count_nonzero(table.levels == GPU, axis=1)
            _at_most(now, free, gpus)
        seen.less((PendingCode.GPUS_BUSY, What.GPUS), free, gpus)
    seen.less((PendingCode.CPU_BUSY, What.CPUS), cpu, wanted.cpu_milli)
    seen.less((PendingCode.MEMORY_BUSY, What.MEMORY), memory, wanted.memory_bytes)
    if wanted.shm_bytes:
        seen.less((PendingCode.SHM_BUSY, What.SHM), table.shm, wanted.shm_bytes, counted)
    seen.less((PendingCode.PORTS_BUSY, What.PORTS), table.ports, ports)
    _at_most(now, cpu, wanted.cpu_milli)
    _at_most(now, memory, wanted.memory_bytes)
    _at_most(now, table.shm, wanted.shm_bytes, counted)
    _at_most(now, table.ports, ports)
    return room_ever, int(now[seen.nothing].sum())


def _at_most(found: Ints, available: Ints, each: int, where: Flags | None = None) -> None:
    """No more than what is available suffices for."""
    if each:
        enough_for = available // each
        if where is not None:
            enough_for = np.where(where, enough_for, ANY_NUMBER)
        np.minimum(found, enough_for, out=found)


class _Seen:
    """By row what stands in the way first."""

    def __init__(self, table: NodeTable, key: EligibleKey) -> None:
        self._table = table
        self.numbers = table.barriers(key).copy()
        self.available: Ints = np.zeros(len(self.numbers), dtype=np.int64)
        # Where nothing does, so far.
        self.nothing: Flags = self.numbers == 0

    def find(self, kind: Kind, where: Flags, available: Ints | None = None) -> None:
        """It stands in the way there, where nothing else did."""
        new = self.nothing & where
        if not new.any():
            return
        self.numbers[new] = _NUMBERS[kind]
        if available is not None:
            self.available[new] = np.maximum(available[new], 0)
        self.nothing &= ~where

    def less(self, kind: Kind, available: Ints, needed: int, where: Flags | None = None) -> None:
        """It stands in the way where less than what is needed is available."""
        short = available < needed
        self.find(kind, short if where is None else short & where, available)

    def obstacles(self) -> dict[Kind, Short]:
        found = {}
        for number in np.bincount(self.numbers).nonzero()[0].tolist():
            kind = _KINDS[number]
            if kind is None:
                continue
            (rows,) = (self.numbers == number).nonzero()
            pick = itemgetter(*rows.tolist())
            several = len(rows) > 1
            nodes = pick(self._table.nodes) if several else (pick(self._table.nodes),)
            names = pick(self._table.names) if several else (pick(self._table.names),)
            found[kind] = Short(nodes, names, int(self.available[rows].max()))
        return found
