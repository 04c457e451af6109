"""The best node for a member, found without looking at every node for every member.

Nodes in equal states (see `Scratch.state_of`) are equally good, so states are scored, not nodes.
For each kind of member the states stand in a heap. Of the nodes in the best state the first by name
is taken.
"""

from __future__ import annotations

import heapq

from controlplane.scheduler.feasibility import may_use
from controlplane.scheduler.scoring import Score, score
from controlplane.scheduler.scratch import EligibleKey, Scratch, ScratchNode
from riseml.spec.model import Resources


class _Eligible:
    """The nodes that gangs of one key may use, by state."""

    def __init__(self, scratch: Scratch, key: EligibleKey) -> None:
        self._scratch = scratch
        nodes = [node for node in scratch.nodes if may_use(node.view, key)]
        self._indexes = {node.index for node in nodes}
        # Indexes of nodes that are, or were, in a state; each list is a heap.
        self._by_state: dict[int, list[int]] = {}
        # States in the order in which nodes came into them, with repeats.
        self.entered: list[int] = []
        self._read = len(scratch.changed)
        for node in nodes:
            # By name, so each list is a heap as it is.
            self._by_state.setdefault(scratch.state_of(node), []).append(node.index)
        self.entered.extend(self._by_state)

    def refresh(self) -> None:
        """Takes in what changed on the scratch copy."""
        changed = self._scratch.changed
        while self._read < len(changed):
            node = changed[self._read]
            self._read += 1
            if node.index in self._indexes:
                state = self._scratch.state_of(node)
                heapq.heappush(self._by_state.setdefault(state, []), node.index)
                self.entered.append(state)

    def first(self, state: int) -> ScratchNode | None:
        """The first node by name that is in a state now."""
        members = self._by_state[state]
        while members:
            node = self._scratch.nodes[members[0]]
            if self._scratch.state_of(node) == state:
                return node
            heapq.heappop(members)
        return None


class _Kind:
    """States for one kind of member, best first."""

    def __init__(self, eligible: _Eligible, resources: Resources, ports: int) -> None:
        self._eligible = eligible
        self._resources = resources
        self._ports = ports
        self._heap: list[tuple[Score, int]] = []
        # States that are in the heap, or that do not fit.
        self._known: set[int] = set()
        self._read = 0

    def best(self) -> ScratchNode | None:
        eligible = self._eligible
        eligible.refresh()
        for position in range(self._read, len(eligible.entered)):
            state = eligible.entered[position]
            if state not in self._known:
                self._add(state)
        self._read = len(eligible.entered)
        while self._heap:
            _, state = self._heap[0]
            node = eligible.first(state)
            if node is not None:
                return node
            heapq.heappop(self._heap)
            self._known.discard(state)
        return None

    def _add(self, state: int) -> None:
        node = self._eligible.first(state)
        if node is None:
            return
        self._known.add(state)
        found = score(node, self._resources, self._ports)
        if found is not None:
            heapq.heappush(self._heap, (found, state))


class Candidates:
    """The kinds of members that were asked for in this cycle."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._eligible: dict[EligibleKey, _Eligible] = {}
        self._kinds: dict[tuple[EligibleKey, Resources, int], _Kind] = {}

    def best(self, key: EligibleKey, resources: Resources, ports: int) -> ScratchNode | None:
        """The best node that has room now for such a member, None when no node has."""
        kind = self._kinds.get((key, resources, ports))
        if kind is None:
            eligible = self._eligible.get(key)
            if eligible is None:
                eligible = self._eligible[key] = _Eligible(self._scratch, key)
            kind = self._kinds[key, resources, ports] = _Kind(eligible, resources, ports)
        return kind.best()
