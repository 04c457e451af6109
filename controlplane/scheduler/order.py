"""Who comes first: higher priority, then earlier submission, then the id (`GangRequest.rank`)."""

from __future__ import annotations

import heapq

from controlplane.domain.snapshot import Backlog, GangRequest, Line, Rank


class Order:
    """Goes through the gangs of a queue by rank, whatever the order of its lines.

    A line costs something only while gangs are taken from it.
    """

    def __init__(self, queue: Backlog) -> None:
        self._heap: list[tuple[Rank, int, Line]] = [(line[0].rank, 0, line) for line in queue.lines]
        heapq.heapify(self._heap)

    def first(self) -> tuple[GangRequest, Line] | None:
        """The next gang and the line it stands in; None after the last."""
        if not self._heap:
            return None
        _, position, line = self._heap[0]
        return line[position], line

    def take(self) -> None:
        """Goes on behind the first gang."""
        _, position, line = self._heap[0]
        position += 1
        if position < len(line):
            heapq.heapreplace(self._heap, (line[position].rank, position, line))
        else:
            heapq.heappop(self._heap)

    def drop(self) -> None:
        """Goes on without all that stands in the line of the first gang."""
        heapq.heappop(self._heap)
