"""The known ends of running gangs, in order, kept from one snapshot to the next."""

from __future__ import annotations

from bisect import insort

from controlplane.domain.snapshot import RunningGang

End = tuple[float, str, RunningGang]
"""When a gang ends at the latest, and its id."""


def end_of(gang: RunningGang) -> End | None:
    """None: nothing bounds it."""
    time = gang.end_time
    return None if time is None else (time, gang.experiment_id, gang)


class KnownEnds:
    """A gang that is the same object as in the snapshot before costs next to nothing."""

    def __init__(self) -> None:
        self._running: tuple[RunningGang, ...] = ()
        # By identity; the tuple above keeps them alive.
        self._known: dict[int, RunningGang] = {}
        self._ends: list[End] = []

    def of(self, running: tuple[RunningGang, ...]) -> list[End]:
        """Ascending; the caller may change the list."""
        if running is not self._running:
            self._follow(running)
        return self._ends.copy()

    def _follow(self, running: tuple[RunningGang, ...]) -> None:
        old, new = self._known, {id(gang): gang for gang in running}
        come = [gang for key, gang in new.items() if key not in old]
        if len(come) + len(old) > len(new):
            gone = {key for key in old if key not in new}
            self._ends = [end for end in self._ends if id(end[2]) not in gone]
        if len(come) > len(self._ends):
            self._ends = sorted(self._ends + [end for end in map(end_of, come) if end is not None])
        else:
            for gang in come:
                end = end_of(gang)
                if end is not None:
                    insort(self._ends, end)
        self._running, self._known = running, new
