"""Who waits and why: the queue that snapshots show, and the reasons of the newest plan.

Both are kept by shape: what a plan says of one gang holds for all of its shape, and a long queue in
which nothing changes costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from controlplane.core.views import gang_shape
from controlplane.domain.model import Experiment
from controlplane.domain.plan import PendingCode, Reservation, Waiting, WaitingShape
from controlplane.domain.snapshot import Backlog, GangRequest, Line, Shape
from controlplane.domain.states import State

if TYPE_CHECKING:
    from controlplane.core.cluster import Cluster

_LineKey = tuple[Shape, int]


class WaitingLines:
    """The queue, changed gang by gang; what it showed once never changes."""

    def __init__(self) -> None:
        self._lines: dict[_LineKey, _GrowingLine] = {}
        self._places: dict[str, tuple[GangRequest, _LineKey]] = {}
        self._queue: Backlog | None = Backlog()

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, experiment_id: str) -> bool:
        return experiment_id in self._places

    def put(self, gang: GangRequest) -> None:
        """A gang that waits, known or not."""
        known = self._places.get(gang.experiment_id)
        if known is not None:
            if known[0] == gang:
                return
            self.drop(gang.experiment_id)
        key = (gang.shape, gang.priority)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _GrowingLine(*key)
        line.add(gang)
        # The line's own key: gangs that are alike share one shape.
        self._places[gang.experiment_id] = (gang, line.key)
        self._queue = None

    def drop(self, experiment_id: str) -> None:
        """A gang that does not wait any more; nothing happens if it did not."""
        known = self._places.pop(experiment_id, None)
        if known is None:
            return
        gang, key = known
        line = self._lines[key]
        line.remove(gang)
        if not line:
            del self._lines[key]
        self._queue = None

    def queue(self) -> Backlog:
        """All of them now."""
        if self._queue is None:
            self._queue = Backlog(tuple([line.shown() for line in self._lines.values()]))
        return self._queue


class _GrowingLine:
    """A line by rank. Most come last and leave first, which costs the same however long it is."""

    __slots__ = ("_begin", "_gangs", "_left", "_out_of_order", "_shown", "key")

    def __init__(self, shape: Shape, priority: int) -> None:
        self.key: _LineKey = (shape, priority)
        # Lines that were shown share this list: it is only appended to.
        self._gangs: list[GangRequest] = []
        self._begin = 0
        # Those that are still in the list, by identity, and those that are not yet.
        self._left: set[int] = set()
        self._out_of_order: list[GangRequest] = []
        self._shown: Line | None = None

    def __len__(self) -> int:
        return len(self._gangs) - self._begin - len(self._left) + len(self._out_of_order)

    def add(self, gang: GangRequest) -> None:
        self._shown = None
        gangs = self._gangs
        if self._begin < len(gangs) and gang.rank < gangs[-1].rank:
            self._out_of_order.append(gang)
        else:
            gangs.append(gang)

    def remove(self, gang: GangRequest) -> None:
        self._shown = None
        if any(one is gang for one in self._out_of_order):
            self._out_of_order = [one for one in self._out_of_order if one is not gang]
        elif self._gangs[self._begin] is gang:
            self._begin += 1
        else:
            self._left.add(id(gang))

    def shown(self) -> Line:
        """The line as it is."""
        if self._shown is None:
            # What left from the front is forgotten before it is more than what waits.
            if self._left or self._out_of_order or self._begin > len(self._gangs) // 2:
                self._put_in_order()
            self._shown = Line(*self.key, self._gangs, self._begin, len(self._gangs))
        return self._shown

    def _put_in_order(self) -> None:
        left = self._left
        kept = [gang for gang in self._gangs[self._begin :] if id(gang) not in left]
        if self._out_of_order:
            kept.extend(self._out_of_order)
            kept.sort(key=lambda gang: gang.rank)
        self._gangs = kept
        self._begin = 0
        self._left = set()
        self._out_of_order = []


class WaitingReasons:
    """What the newest plan said of those that wait. Not stored."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._by_shape: dict[Shape, WaitingShape] = {}
        self._reservations: dict[str, Reservation] = {}
        # Of gangs for which others are being stopped.
        self._making_room: set[Shape] = set()
        self._version = 0
        self._room_grew_at = 0

    def note(
        self,
        waiting: Iterable[WaitingShape],
        version: int,
        reservations: Iterable[Reservation] = (),
    ) -> None:
        """Replaces what was known; `version` is the snapshot's, 0 if not all of the plan was made
        real.
        """
        self._by_shape = {one.shape: one for one in waiting}
        self._reservations = {one.experiment_id: one for one in reservations}
        self._making_room = set()
        for one in self._reservations.values():
            experiment = self._cluster.experiments.get(one.experiment_id)
            if one.reason is not None and experiment is not None:
                self._making_room.add(self._shape_of(experiment))
        self._version = version

    @property
    def reserved(self) -> Iterable[str]:
        """Experiments for which the newest plan keeps room."""
        return self._reservations

    def room_grew(self, version: int) -> None:
        """Since the snapshot of this version something became free, or a node became another."""
        self._room_grew_at = version

    def get(self, experiment_id: str) -> Waiting | None:
        """Why an experiment waits; None if it does not, or no plan has spoken of it yet."""
        experiment = self._cluster.experiments.get(experiment_id)
        if experiment is None or experiment.is_set or experiment.state is not State.PENDING:
            return None
        found = self._by_shape.get(self._shape_of(experiment)) if self._by_shape else None
        if found is None:
            return None
        reserved = self._reservations.get(experiment_id)
        own = () if reserved is None or reserved.reason is None else (reserved.reason,)
        return Waiting(experiment_id, own + found.reasons, found.impossible)

    def are_known(self, shape: Shape, priority: int) -> bool:
        """Whether the next plan could only say again that gangs of this shape wait, and why.

        Room that is kept for another may become free without a word: it may be another's turn. One
        of higher priority than those that wait may preempt where they may not; and where one
        preempts, the next may as well.
        """
        found = self._by_shape.get(shape)
        return (
            found is not None
            and priority <= found.priority
            and shape not in self._making_room
            and self._version > self._room_grew_at
            and all(reason.code is not PendingCode.RESERVED for reason in found.reasons)
        )

    def _shape_of(self, experiment: Experiment) -> Shape:
        cluster = self._cluster
        gang = [job for job in cluster.jobs_of(experiment.id) if job.rank >= 0]
        return gang_shape(experiment, gang, cluster.pinned_nodes(experiment))
