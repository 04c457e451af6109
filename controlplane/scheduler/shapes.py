"""What was found out about shapes, kept from cycle to cycle."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from controlplane.domain.model import PlacementStyle
from controlplane.domain.snapshot import Held, Shape
from controlplane.scheduler.quota import QueueAccount, total
from controlplane.scheduler.room import Room

_MOST_SHAPES: Final = 50_000


@dataclass(frozen=True, slots=True)
class Known:
    """Of one shape."""

    # Equal for gangs that fit or do not fit alike; to be looked up quickly.
    kind: int
    # Equal for those that may go to the same nodes.
    nodes: int
    # What all members ask for together.
    wanted: Held
    # How long it holds its places at the most; None: nothing bounds it.
    seconds: float | None


@dataclass(slots=True)
class Facts:
    """What the gangs of one shape have in common, in one cycle."""

    shape: Shape
    known: Known
    # Equal for gangs that fit or do not fit alike.
    kind: int
    queue: QueueAccount
    style: PlacementStyle
    # When it ends at the latest if it starts now; None: unknown.
    until: float | None


class Shapes:
    """Forgets all now and then, so that it does not grow for ever."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._discerned: Hashable = None
        self._known: dict[Shape, Known] = {}
        self._numbers: dict[Hashable, int] = {}

    def load(self) -> None:
        """The room shows another snapshot."""
        discerned = self._room.discerns
        if discerned != self._discerned or len(self._known) > _MOST_SHAPES:
            self._known.clear()
            self._numbers.clear()
        self._discerned = discerned

    def of(self, shape: Shape) -> Known:
        known = self._known.get(shape)
        if known is None:
            seconds = None
            if shape.max_duration_seconds is not None:
                seconds = shape.max_duration_seconds + shape.grace_period_seconds
            known = self._known[shape] = Known(
                self._number(self._room.kind_of(shape)),
                self._number(self._room.nodes_of(shape)),
                total(shape.resources),
                seconds,
            )
        return known

    def facts(self, shape: Shape, queue: QueueAccount, now: float) -> Facts:
        """For a cycle; `queue` is its queue."""
        known = self.of(shape)
        style = queue.queue.placement
        # A gang that one style has no place for another may have one for.
        kind = known.kind * 2 + (style is PlacementStyle.SPREAD)
        until = None if known.seconds is None else now + known.seconds
        return Facts(shape, known, kind, queue, style, until)

    def _number(self, of: Hashable) -> int:
        return self._numbers.setdefault(of, len(self._numbers))
