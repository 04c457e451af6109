"""What is known of running gangs, kept from one snapshot to the next: their ends, in order, and the
lowest priority of each queue.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from operator import is_not
from typing import Final

from controlplane.domain.running import RunningGangs
from controlplane.domain.snapshot import RunningGang

End = tuple[float, str, RunningGang]
"""When a gang ends at the latest, and its id."""

Running = Sequence[RunningGang]

_STRETCH: Final = 256


def end_of(gang: RunningGang) -> End | None:
    """None: nothing bounds it."""
    time = gang.end_time
    return None if time is None else (time, gang.experiment_id, gang)


class KnownEnds:
    """A gang that is the same as in the snapshot before costs next to nothing."""

    def __init__(self) -> None:
        self._running: Running = ()
        self._ends: list[End] = []
        self._on_nodes: dict[str, list[End]] = {}
        # How many gangs of each priority, by queue.
        self._priorities: dict[str, dict[int, int]] = {}
        self._lowest: dict[str, int] = {}

    def of(self, running: Running) -> list[End]:
        """Ascending; the caller may change the list."""
        self._follow(running)
        return self._ends.copy()

    def on_nodes(self, running: Running) -> Mapping[str, Sequence[End]]:
        """By node of their members, ascending. Not to be changed; true until the next snapshot."""
        self._follow(running)
        return self._on_nodes

    def lowest(self, running: Running) -> dict[str, int]:
        """By queue, the lowest priority that runs. Not to be changed."""
        self._follow(running)
        return self._lowest

    def _follow(self, running: Running) -> None:
        if running is self._running:
            return
        gone, come = changes(self._running, running)
        self._running = running
        for gang in gone:
            self._count(gang, -1)
        for gang in come:
            self._count(gang, 1)
        for queue in {gang.queue for gang in (*gone, *come)}:
            priorities = self._priorities[queue]
            if priorities:
                self._lowest[queue] = min(priorities)
            else:
                del self._priorities[queue]
                self._lowest.pop(queue, None)
        self._follow_ends(gone, come)

    def _count(self, gang: RunningGang, number: int) -> None:
        priorities = self._priorities.setdefault(gang.queue, {})
        count = priorities.get(gang.priority, 0) + number
        if count:
            priorities[gang.priority] = count
        else:
            del priorities[gang.priority]

    def _follow_ends(self, gone: list[RunningGang], come: list[RunningGang]) -> None:
        ended = [end for end in map(end_of, gone) if end is not None]
        begun = [end for end in map(end_of, come) if end is not None]
        if len(ended) + len(begun) > len(self._ends) // 8 + 8:
            left = {end[:2] for end in ended}
            kept = [end for end in self._ends if end[:2] not in left]
            self._ends = sorted(kept + begun)
            self._on_nodes = {}
            for end in self._ends:
                for name in nodes_of(end[2]):
                    self._on_nodes.setdefault(name, []).append(end)
            return
        for end in ended:
            _remove(self._ends, end)
            for name in nodes_of(end[2]):
                here = self._on_nodes[name]
                _remove(here, end)
                if not here:
                    del self._on_nodes[name]
        for end in begun:
            insort(self._ends, end)
            for name in nodes_of(end[2]):
                insort(self._on_nodes.setdefault(name, []), end)


def nodes_of(gang: RunningGang) -> Iterable[str]:
    """The nodes of its members, each once."""
    members = gang.members
    if len(members) == 1:
        return (members[0].node_name,)
    return dict.fromkeys([member.node_name for member in members])


def _remove(ends: list[End], end: End) -> None:
    del ends[bisect_left(ends, end[:2], key=lambda one: one[:2])]


def changes(old: Running, new: Running) -> tuple[list[RunningGang], list[RunningGang]]:
    """Who is in the first only, and who in the second only; of a gang that changed, both forms.

    Fast where gangs keep their order and new ones come last; right in any case, but then some may
    be named in both that did not change.
    """
    if isinstance(old, RunningGangs) and isinstance(new, RunningGangs):
        return _changes(old.apart_from(new), new.apart_from(old))
    return _changes(tuple(old), tuple(new))


def _changes(
    old: tuple[RunningGang, ...], new: tuple[RunningGang, ...]
) -> tuple[list[RunningGang], list[RunningGang]]:
    gone: list[RunningGang] = []
    come: list[RunningGang] = []
    before, now = 0, 0
    while before < len(old) and now < len(new):
        one, other = old[before], new[now]
        if one is other:
            was, is_now = old[before : before + _STRETCH], new[now : now + _STRETCH]
            # The objects are mostly the same, and then this is fast.
            same = len(was) if was == is_now else _same(was, is_now)
            before += same
            now += same
            continue
        before += 1
        if one == other:
            now += 1
            continue
        gone.append(one)
        if one.experiment_id == other.experiment_id:
            come.append(other)
            now += 1
    gone.extend(old[before:])
    come.extend(new[now:])
    return gone, come


def _same(one: Running, other: Running) -> int:
    """How many are the same from the beginning on; not all are."""
    for position, differs in enumerate(map(is_not, one, other)):
        if differs:
            return position
    return min(len(one), len(other))
