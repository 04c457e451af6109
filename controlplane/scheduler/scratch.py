"""The cluster as a copy that gangs are tried on: taken from, undone, never seen outside a cycle."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from controlplane.domain.model import GpuShare
from controlplane.domain.snapshot import NodeView, Shape
from riseml.spec.model import GPU, Resources

Taken = tuple[tuple[int, int], ...]
"""GPUs of one node by their position there, with the thousandths taken of each."""

EligibleKey = tuple[tuple[tuple[str, str], ...], tuple[str, ...], str]
"""What decides which nodes a gang may use: labels, only these nodes, and the user."""


class ScratchNode:
    """What is free on one node at this point of the cycle."""

    __slots__ = (
        "_kinds",
        "free_cpu_milli",
        "free_memory_bytes",
        "free_ports",
        "gpu_free",
        "index",
        "name",
        "state",
        "view",
        "whole_free",
    )

    def __init__(self, view: NodeView, index: int) -> None:
        self.view = view
        self.name = view.name
        self.index = index
        # See Scratch.state_of; -1 when it has to be found anew.
        self.state = -1
        self._kinds = tuple(
            [(one.gpu.model, one.gpu.name, one.gpu.memory_bytes, one.usable) for one in view.gpus]
        )
        self.free_cpu_milli = view.free_cpu_milli
        self.free_memory_bytes = view.free_memory_bytes
        self.free_ports = view.free_ports
        # Thousandths that may be given, by position; 0 where a GPU is unusable.
        self.gpu_free = [one.free_milli if one.usable else 0 for one in view.gpus]
        # How many GPUs are wholly free.
        self.whole_free = self.gpu_free.count(GPU)

    def shift(self, sign: int, resources: Resources, ports: int, taken: Taken) -> None:
        """Gives (1) or takes (-1) these amounts."""
        self.state = -1
        self.free_cpu_milli += sign * resources.cpu_milli
        self.free_memory_bytes += sign * resources.memory_bytes
        self.free_ports += sign * ports
        if taken:
            for position, milli in taken:
                self.gpu_free[position] += sign * milli
            self.whole_free = self.gpu_free.count(GPU)

    def shares(self, taken: Taken) -> tuple[GpuShare, ...]:
        """The same by UUID, as plans name them."""
        return tuple([GpuShare(self.view.gpus[p].gpu.uuid, milli) for p, milli in taken])

    def signature(self) -> tuple[Any, ...]:
        """Equal for nodes that are equally good for every member that may use them."""
        return (
            self.view.cpu_milli,
            self.view.memory_bytes,
            self.free_cpu_milli,
            self.free_memory_bytes,
            self.free_ports > 0,
            tuple(self.gpu_free),
            self._kinds,
        )


Move = tuple[ScratchNode, Resources, int, Taken]


class Scratch:
    """All nodes by name, with a journal that undoes what did not work out."""

    def __init__(self, views: Sequence[NodeView]) -> None:
        by_name = sorted(views, key=attrgetter("name"))
        self.nodes = [ScratchNode(view, index) for index, view in enumerate(by_name)]
        # Every change of a node, in order: whoever remembers something of nodes reads on from here.
        self.changed: list[ScratchNode] = []
        self.shared_by_all = not any(view.only_user for view in views)
        self._journal: list[Move] = []
        self._held: list[Move] = []
        self._states: dict[tuple[Any, ...], int] = {}

    def state_of(self, node: ScratchNode) -> int:
        """A number that is equal for nodes with equal signatures.

        In a large cluster many nodes are alike: what was found out for one holds for all of them.
        """
        if node.state < 0:
            node.state = self._states.setdefault(node.signature(), len(self._states))
        return node.state

    def take(self, node: ScratchNode, resources: Resources, ports: int, taken: Taken) -> None:
        """Takes the place of one member."""
        node.shift(-1, resources, ports, taken)
        self.changed.append(node)
        self._journal.append((node, resources, ports, taken))

    def keep(self) -> None:
        """What was taken so far stays taken."""
        self._journal.clear()

    def undo(self) -> None:
        """Gives back all that was taken since the last `keep`."""
        while self._journal:
            self._give_back(self._journal.pop())

    def hold(self, node: ScratchNode, resources: Resources, taken: Taken) -> None:
        """Keeps an amount from everybody until `release`; what is free may become negative."""
        node.shift(-1, resources, 0, taken)
        self.changed.append(node)
        self._held.append((node, resources, 0, taken))

    def release(self) -> None:
        """Gives back all that was held."""
        while self._held:
            self._give_back(self._held.pop())

    def _give_back(self, move: Move) -> None:
        node, resources, ports, taken = move
        node.shift(1, resources, ports, taken)
        self.changed.append(node)


def eligible_key(shape: Shape, shared_by_all: bool) -> EligibleKey:
    """Equal for gangs that may use the same nodes."""
    return (shape.node_selector, shape.only_nodes, "" if shared_by_all else shape.user_name)
