"""All nodes as rows of arrays, kept from one snapshot to the next.

Nodes themselves (`RoomNode`) are what is read and changed one by one; the arrays are what is looked
at all at once. They follow by `sync`, at the latest when they are read: what was changed and
changed back in between costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from operator import attrgetter, is_not
from typing import Any, Final

import numpy as np

from controlplane.domain.model import Gpu, GpuShare
from controlplane.domain.snapshot import NodeView
from controlplane.scheduler.arrays import Flags, Floats, Ints, Smalls
from controlplane.scheduler.feasibility import (
    EligibleKey,
    GpuClass,
    barrier_of,
    may_use,
    wants_share,
)
from controlplane.scheduler.topology import Layout, layout_of
from riseml.spec.model import GPU, Resources

Taken = tuple[tuple[int, int], ...]
"""GPUs of one node by their position there, with the thousandths taken of each."""

NO_GPUS: Final = 0
"""The class of nodes without GPUs."""
MIXED: Final = -1
"""The class of nodes with GPUs of several classes."""

UNLIMITED: Final = 1 << 60

_STRETCH: Final = 256

_MANY: Final = float(1 << 30)
_MOST_STATES: Final = 50_000


class RoomNode:
    """What is free on one node."""

    __slots__ = (
        "classes",
        "free_cpu_milli",
        "free_memory_bytes",
        "free_ports",
        "free_shm_bytes",
        "gpu_class",
        "gpu_free",
        "index",
        "layout",
        "name",
        "row",
        "view",
    )

    def __init__(self, view: NodeView, index: int) -> None:
        self.name = view.name
        self.index = index
        self.view = view
        self.free_cpu_milli = 0
        self.free_memory_bytes = 0
        self.free_shm_bytes = 0
        self.free_ports = 0
        # Thousandths that may be given, by position; 0 where a GPU is unusable.
        self.gpu_free: list[int] = []
        # By position, and the one of all of them, or MIXED.
        self.classes: tuple[int, ...] = ()
        self.gpu_class = NO_GPUS
        self.layout: Layout = ()
        # What `Room` made of it for others, as long as it is true.
        self.row: Any = None

    @property
    def whole_free(self) -> int:
        """How many GPUs are wholly free."""
        return self.gpu_free.count(GPU)

    def shares(self, taken: Taken) -> tuple[GpuShare, ...]:
        """The same by UUID, as plans name them."""
        return tuple([GpuShare(self.view.gpus[p].gpu.uuid, milli) for p, milli in taken])


class NodeTable:
    """Rows are nodes by name."""

    def __init__(self, views: Sequence[NodeView]) -> None:
        order = sorted(range(len(views)), key=lambda position: views[position].name)
        self._views = tuple(views)
        # By position in the snapshot.
        self._row_of: list[int] = [0] * len(views)
        for row, position in enumerate(order):
            self._row_of[position] = row
        self.nodes = [RoomNode(views[position], row) for row, position in enumerate(order)]
        self.names = [node.name for node in self.nodes]
        self.by_name = {node.name: node for node in self.nodes}
        # By number; none for NO_GPUS.
        self.classes: list[GpuClass | None] = [None]
        self._class_of: dict[tuple[str, str, int, bool], int] = {}
        # How many are one user's alone, have taints, and run no images.
        self.owned = 0
        self.tainted = 0
        self.imageless = 0
        rows, width = len(views), max((len(view.gpus) for view in views), default=0)
        self.cpu: Floats = np.zeros(rows)
        self.memory: Floats = np.zeros(rows)
        self.shm: Ints = np.zeros(rows, dtype=np.int64)
        self.ports: Ints = np.zeros(rows, dtype=np.int64)
        # Thousandths that are free, ascending.
        self.levels: Ints = np.zeros((rows, width), dtype=np.int64)
        # And their sum.
        self.free: Floats = np.zeros(rows)
        self.gpu_class: Ints = np.zeros(rows, dtype=np.int64)
        # Equal where nodes are equally good for every member that may use them.
        self.state: Ints = np.full(rows, -1, dtype=np.int64)
        # Rises whenever some state changes, and when each row's did last.
        self.clock = 0
        self.changed: Ints = np.zeros(rows, dtype=np.int64)
        # What nodes have in all, how many of their GPUs are usable, and whether they are open.
        self.total_cpu: Ints = np.array(
            [node.view.cpu_milli for node in self.nodes], dtype=np.int64
        )
        self.total_memory: Ints = np.array(
            [node.view.memory_bytes for node in self.nodes], dtype=np.int64
        )
        self.total_shm: Ints = np.zeros(rows, dtype=np.int64)
        self.gpus: Ints = np.array([len(node.view.gpus) for node in self.nodes], dtype=np.int64)
        # Which of them give no shares of their GPUs, and how many do not.
        self.whole_gpus: Flags = np.array(
            [node.view.whole_gpus for node in self.nodes], dtype=np.bool_
        )
        self.whole = int(np.count_nonzero(self.whole_gpus))
        self.usable: Ints = np.zeros(rows, dtype=np.int64)
        self.is_open: Flags = np.zeros(rows, dtype=np.bool_)
        # Rises when other gangs than before may use a node.
        self.opened = 0
        # Whether of some node it is known which GPUs are close, and rows of class MIXED.
        self.has_layouts = False
        self.mixed: list[int] = []
        self.free_gpu_milli = self.partly_gpu_milli = 0
        self.free_cpu_milli = self.free_memory_bytes = 0
        self._shares: list[tuple[int, int, int, int]] = [(0, 0, 0, 0)] * rows
        self._states: dict[Any, int] = {}
        self._likenesses: dict[Any, int] = {}
        self._stale: dict[int, None] = {}
        self._barriers: dict[EligibleKey, Smalls] = {}
        self._eligible: dict[EligibleKey, tuple[Flags, list[int]]] = {}
        self._groups: dict[str, Ints | None] = {}
        self._unique: tuple[int, Ints, Ints] | None = None
        self._fitting: dict[tuple[str | None, int, bool], Flags] = {}
        # How many nodes there are of each kind, and how many GPUs in all.
        self._hardware: Counter[tuple[int, int, tuple[int, ...]]] = Counter()
        self._gpus = sum(len(view.gpus) for view in views)
        self._scarcity: dict[Resources, float] = {}
        for node in self.nodes:
            self._adopt(node, None)
        sizes = [0 if kind is None else kind.gpu.memory_bytes for kind in self.classes]
        largest = max(sizes) or 1
        # Whether some GPUs have more memory than others.
        self.has_sizes = len(set(sizes[1:])) > 1
        # Of the memory of a GPU by class, as a part of the largest; the last is MIXED.
        self.gpu_memory: Floats = np.array([size / largest for size in sizes] + [1.0])
        self.most_cpu = max((view.cpu_milli for view in views), default=0) or 1
        self.most_memory = max((view.memory_bytes for view in views), default=0) or 1
        self.most_gpu_milli = max((GPU * len(view.gpus) for view in views), default=0) or GPU

    # --- snapshots

    def load(self, views: tuple[NodeView, ...]) -> bool:
        """Takes in the nodes that are other objects than before; False if that is not enough, for
        nodes or hardware came or went, or too much is remembered by now.
        """
        old = self._views
        if views is old:
            return True
        if len(views) != len(old) or self._remembers_too_much:
            return False
        for position in _different(old, views):
            view = views[position]
            node = self.nodes[self._row_of[position]]
            if view.name != node.name:
                return False
            if _hardware_differs(node.view, view):
                return False
            before, node.view = node.view, view
            self._adopt(node, before)
        self._views = views
        return True

    @property
    def states(self) -> int:
        """How many different states there were so far."""
        return len(self._states)

    @property
    def _remembers_too_much(self) -> bool:
        most = max(_MOST_STATES, 4 * len(self.nodes))
        return max(len(self._states), len(self._likenesses)) > most

    def _adopt(self, node: RoomNode, before: NodeView | None) -> None:
        view = node.view
        node.free_cpu_milli = view.free_cpu_milli
        node.free_memory_bytes = view.free_memory_bytes
        node.free_shm_bytes = view.free_shm_bytes
        node.free_ports = view.free_ports
        node.gpu_free = [one.free_milli if one.usable else 0 for one in view.gpus]
        self.touch(node)
        row = node.index
        self.total_shm[row] = view.shm_bytes
        self.usable[row] = sum([one.usable for one in view.gpus])
        self.is_open[row] = view.open
        if before is None:
            self._look_at_hardware(node)
        if before is None or (
            view.open != before.open
            or view.only_user != before.only_user
            or view.taints != before.taints
            or view.runs_images != before.runs_images
            or view.labels != before.labels
        ):
            if before is not None:
                self._count_barring(before, -1)
            self._count_barring(view, 1)
            self._groups.clear()
            self.opened += 1
            for key, (allowed, barred) in self._eligible.items():
                good = may_use(view, key)
                barred[0] += int(allowed[row]) - good
                allowed[row] = good
            for key, barriers in self._barriers.items():
                barriers[row] = barrier_of(view, key)

    def _count_barring(self, view: NodeView, sign: int) -> None:
        self.owned += sign * bool(view.only_user)
        self.tainted += sign * bool(view.taints)
        self.imageless += sign * (not view.runs_images)

    def _look_at_hardware(self, node: RoomNode) -> None:
        gpus, whole = node.view.gpus, node.view.whole_gpus
        node.classes = tuple([self._class(one.gpu, whole) for one in gpus])
        kinds = set(node.classes)
        node.gpu_class = NO_GPUS if not kinds else kinds.pop() if len(kinds) == 1 else MIXED
        if node.gpu_class == MIXED:
            self.mixed.append(node.index)
        node.layout = layout_of(gpus)
        self.has_layouts = self.has_layouts or bool(node.layout)
        self.gpu_class[node.index] = node.gpu_class
        self._hardware[node.view.cpu_milli, node.view.memory_bytes, node.classes] += 1

    def _class(self, gpu: Gpu, whole_only: bool) -> int:
        key = (gpu.model, gpu.name, gpu.memory_bytes, whole_only)
        known = self._class_of.get(key)
        if known is None:
            known = self._class_of[key] = len(self.classes)
            self.classes.append(GpuClass(gpu, whole_only))
        return known

    # --- changes

    def touch(self, node: RoomNode) -> None:
        """What is free on it changes."""
        node.row = None
        self._stale[node.index] = None

    def shift(self, node: RoomNode, sign: int, wanted: Resources, ports: int, taken: Taken) -> None:
        """Gives (1) or takes (-1) these amounts."""
        node.free_cpu_milli += sign * wanted.cpu_milli
        node.free_memory_bytes += sign * wanted.memory_bytes
        node.free_shm_bytes += sign * wanted.shm_bytes
        node.free_ports += sign * ports
        for position, milli in taken:
            node.gpu_free[position] += sign * milli
        node.row = None
        self._stale[node.index] = None

    def sync(self) -> None:
        """Brings the arrays up to date."""
        if not self._stale:
            return
        clock = self.clock + 1
        for index in self._stale:
            node = self.nodes[index]
            self.shm[index] = node.free_shm_bytes if node.view.shm_bytes else UNLIMITED
            self.ports[index] = node.free_ports
            levels = sorted(node.gpu_free)
            shape = node.gpu_class if node.gpu_class >= 0 else node.classes
            key: tuple[Any, ...] = (shape, node.free_cpu_milli, node.free_memory_bytes, *levels)
            if node.layout or node.gpu_class == MIXED:
                key = (*key, node.layout, *node.gpu_free)
            state = self._states.setdefault(key, len(self._states))
            self._count(index, node, levels)
            if state == self.state[index]:
                continue
            self.state[index] = state
            self.changed[index] = self.clock = clock
            self.cpu[index] = node.free_cpu_milli
            self.memory[index] = node.free_memory_bytes
            if levels:
                row = self.levels[index]
                row[: len(row) - len(levels)] = 0
                row[len(row) - len(levels) :] = levels
                self.free[index] = sum(levels)
                if levels[0] < 0 or levels[-1] > GPU:
                    np.clip(row, 0, GPU, out=row)
        self._stale.clear()

    def _count(self, index: int, node: RoomNode, levels: list[int]) -> None:
        new = (0, 0, 0, 0)
        if node.view.open:
            good = levels if not levels or levels[0] >= 0 else [max(0, one) for one in levels]
            free = sum(good)
            new = (
                free,
                free - GPU * levels.count(GPU),
                max(0, node.free_cpu_milli),
                max(0, node.free_memory_bytes),
            )
        old = self._shares[index]
        if new != old:
            self._shares[index] = new
            self.free_gpu_milli += new[0] - old[0]
            self.partly_gpu_milli += new[1] - old[1]
            self.free_cpu_milli += new[2] - old[2]
            self.free_memory_bytes += new[3] - old[3]

    # --- questions

    def eligible(self, key: EligibleKey) -> Flags | None:
        """Which nodes gangs of this key may use, by row; None: all. Not to be changed."""
        known = self._eligible.get(key)
        if known is None:
            if len(self._eligible) > 512:
                self._eligible.clear()
            allowed = np.array([may_use(node.view, key) for node in self.nodes], dtype=np.bool_)
            known = self._eligible[key] = (allowed, [int(np.count_nonzero(~allowed))])
        allowed, barred = known
        return allowed if barred[0] else None

    def barriers(self, key: EligibleKey) -> Smalls:
        """By row the `Barrier` that keeps gangs of this key away. Not to be changed."""
        known = self._barriers.get(key)
        if known is None:
            if len(self._barriers) > 512:
                self._barriers.clear()
            known = np.array([barrier_of(node.view, key) for node in self.nodes], dtype=np.int16)
            self._barriers[key] = known
        return known

    def distinct(self) -> tuple[Ints, Ints]:
        """One row of each state there is, and by row the position of its state among them."""
        if self._unique is None or self._unique[0] != self.clock:
            _, first, which = np.unique(self.state, return_index=True, return_inverse=True)
            self._unique = (self.clock, first, which)
        return self._unique[1], self._unique[2]

    def likeness(self, node: RoomNode) -> int:
        """Equal for nodes on which equal members fit or do not fit alike, now and when they are
        empty, name, labels and taints apart.
        """
        view = node.view
        key = (
            view.cpu_milli,
            view.memory_bytes,
            view.shm_bytes,
            node.free_cpu_milli,
            node.free_memory_bytes,
            node.free_shm_bytes,
            node.free_ports > 0,
            node.classes,
            tuple([one.usable for one in view.gpus]),
            tuple(node.gpu_free),
        )
        return self._likenesses.setdefault(key, len(self._likenesses))

    def groups(self, label: str) -> Ints | None:
        """By row a number for the value that the node has of a label, -1 if it has none; None if no
        node has it.
        """
        if label not in self._groups:
            numbers: dict[str, int] = {}
            found = []
            for node in self.nodes:
                value = next((v for key, v in node.view.labels if key == label), None)
                found.append(-1 if value is None else numbers.setdefault(value, len(numbers)))
            self._groups[label] = np.array(found, dtype=np.int64) if numbers else None
        return self._groups[label]

    def copies(self, wanted: Resources, ports: int) -> Ints:
        """By row, how many such members would fit, each with so many ports."""
        self.sync()
        found = np.full(len(self.nodes), _MANY)
        if wanted.cpu_milli:
            np.minimum(found, self.cpu // wanted.cpu_milli, out=found)
        if wanted.memory_bytes:
            np.minimum(found, self.memory // wanted.memory_bytes, out=found)
        if wanted.shm_bytes:
            np.minimum(found, self.shm // wanted.shm_bytes, out=found)
        if ports:
            np.minimum(found, self.ports // ports, out=found)
        if wanted.gpu_milli:
            fits = self.fitting(wanted)
            level = min(wanted.gpu_milli, GPU)
            per_gpu = (self.levels // level).sum(axis=1) // wanted.gpu_count
            for row in self.mixed:
                node = self.nodes[row]
                per_gpu[row] = (
                    sum(
                        max(0, milli) // level
                        for milli, one in zip(node.gpu_free, node.classes, strict=True)
                        if fits[one]
                    )
                    // wanted.gpu_count
                )
            # The last is MIXED.
            per_gpu *= np.append(fits, True)[self.gpu_class]
            np.minimum(found, per_gpu, out=found)
        whole: Ints = np.maximum(found, 0).astype(np.int64)
        return whole

    def fitting(self, wanted: Resources) -> Flags:
        """Which classes of GPUs do for a member. Not to be changed."""
        key = (wanted.gpu_model, wanted.gpu_min_memory_bytes, wants_share(wanted))
        known = self._fitting.get(key)
        if known is None:
            known = np.array([k is not None and k.serves(wanted) for k in self.classes])
            self._fitting[key] = known
        return known

    def scarcity(self, wanted: Resources) -> float:
        """All GPUs per GPU of nodes that could hold such a member if nothing else ran, minus 1."""
        known = self._scarcity.get(wanted)
        if known is None:
            good = self.fitting(wanted)
            fit = 0
            for (cpu, memory, classes), number in self._hardware.items():
                if cpu >= wanted.cpu_milli and memory >= wanted.memory_bytes:
                    matching = sum(1 for one in classes if good[one])
                    if matching >= wanted.gpu_count:
                        fit += number * matching
            known = self._scarcity[wanted] = self._gpus / (fit + 1) - 1.0
        return known


def _different(old: tuple[NodeView, ...], new: tuple[NodeView, ...]) -> Iterator[int]:
    """Positions at which these hold other objects."""
    for begin in range(0, len(old), _STRETCH):
        was, now = old[begin : begin + _STRETCH], new[begin : begin + _STRETCH]
        # Fast where the objects are the same, as they are in most stretches.
        if was == now:
            continue
        differ = bytes(map(is_not, was, now))
        position = differ.find(1)
        while position >= 0:
            yield begin + position
            position = differ.find(1, position + 1)


def _hardware_differs(old: NodeView, new: NodeView) -> bool:
    if old.cpu_milli != new.cpu_milli or old.memory_bytes != new.memory_bytes:
        return True
    if len(old.gpus) != len(new.gpus) or old.whole_gpus != new.whole_gpus:
        return True
    return any(
        was.gpu is not now.gpu and _hardware(was.gpu) != _hardware(now.gpu)
        for was, now in zip(old.gpus, new.gpus, strict=True)
    )


_hardware: Final = attrgetter(
    "model", "name", "memory_bytes", "nvlink_group", "pcie_group", "numa_node"
)
