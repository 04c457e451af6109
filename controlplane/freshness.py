"""Which nodes' telemetry is late, in monotonic time. A node of which nobody knows how it is gets
nothing new to run.

A node counts from its connection on, and from each sample. The first time that it was late, one
sample makes it good again; each further time within a while its samples have to come in time for
twice as long before it is believed, so that a node on the edge does not swing to and fro.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# Being late again so soon after having been late counts as the same trouble.
SAME_TROUBLE_SECONDS: Final = 600.0
# Doublings at most: with ten seconds of patience, about five minutes of samples in time.
MOST_DOUBLINGS: Final = 5


@dataclass(slots=True)
class _Standing:
    """One connected node."""

    # Its last sample, or its connection.
    heard: float
    # What the reactor was told last.
    said_late: bool
    late: bool
    # Since when samples come in time again, and until when they have to before that is believed.
    steady_since: float = 0.0
    believed_at: float = 0.0


class Freshness:
    """Samples by node name; `now` is always monotonic seconds."""

    def __init__(self, late_seconds: float) -> None:
        self.late_seconds = late_seconds
        self._standings: dict[str, _Standing] = {}
        # When each node's last trouble ended, and how often it came back. Outlives connections.
        self._troubles: dict[str, tuple[float, int]] = {}
        self._looked = 0.0

    def connected(self, node_name: str, late: bool, now: float) -> None:
        """A session began; `late` is what the reactor has in mind, from the session before."""
        self._standings[node_name] = _Standing(now, said_late=late, late=late, believed_at=now)

    def disconnected(self, node_name: str) -> None:
        """A session ended: without one there is nothing to decide."""
        self._standings.pop(node_name, None)

    def forget(self, node_name: str) -> None:
        """The node is gone for good."""
        self._standings.pop(node_name, None)
        self._troubles.pop(node_name, None)

    def sampled(self, node_name: str, now: float) -> None:
        """A sample came."""
        standing = self._standings.get(node_name)
        if standing is None:
            return
        gap, standing.heard = now - standing.heard, now
        if not standing.late:
            return
        if not standing.steady_since or gap > self.late_seconds:
            standing.steady_since = now
            standing.believed_at = now + self._probation(node_name)
        if now >= standing.believed_at:
            standing.late = False
            self._troubles[node_name] = (now, self._doublings(node_name))

    def changes(self, now: float) -> list[tuple[str, bool]]:
        """Nodes that are late, or are no more, of which the reactor has another idea.

        To be asked several times within the patience.
        """
        found = []
        self._forgive_own_absence(now)
        for name, standing in self._standings.items():
            if not standing.late and now - standing.heard > self.late_seconds:
                standing.late = True
                standing.steady_since = 0.0
                ended, doublings = self._troubles.get(name, (0.0, -1))
                again = doublings >= 0 and now - ended < SAME_TROUBLE_SECONDS
                doublings = min(doublings + 1, MOST_DOUBLINGS) if again else 0
                self._troubles[name] = (now, doublings)
            if standing.late is not standing.said_late:
                found.append((name, standing.late))
        return found

    def _forgive_own_absence(self, now: float) -> None:
        """Who did not look for long cannot say who was silent: samples may wait to be read."""
        absent, self._looked = now - self._looked, now
        if absent > self.late_seconds / 2:
            for standing in self._standings.values():
                standing.heard = max(standing.heard, now - self.late_seconds / 2)

    def told(self, changes: Iterable[tuple[str, bool]]) -> None:
        """The reactor knows of these."""
        for name, late in changes:
            standing = self._standings.get(name)
            if standing is not None:
                standing.said_late = late

    def _doublings(self, node_name: str) -> int:
        return self._troubles.get(node_name, (0.0, 0))[1]

    def _probation(self, node_name: str) -> float:
        """How long samples have to come in time."""
        doublings = self._doublings(node_name)
        return self.late_seconds * 2.0 ** (doublings - 1) if doublings else 0.0
