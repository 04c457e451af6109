"""Who runs, by experiment, kept such that a picture of all of them costs what has changed."""

from __future__ import annotations

from typing import Final

from controlplane.domain.running import RunningGangs
from controlplane.domain.snapshot import RunningGang

BLOCK: Final = 256


class Running:
    """In the order in which they began. Blocks get sparse, but are never more than the gangs."""

    def __init__(self) -> None:
        # How many ever came: so many before one, divided by BLOCK, is the number of its block.
        self._came = 0
        self._block_of: dict[str, int] = {}
        self._blocks: dict[int, dict[str, RunningGang]] = {}
        # The blocks as they were shown last, and which of them are others now.
        self._shown: dict[int, tuple[RunningGang, ...]] = {}
        self._changed: set[int] = set()
        self._all: RunningGangs | None = RunningGangs()

    def put(self, gang: RunningGang) -> None:
        """It runs, or is another now."""
        number = self._block_of.get(gang.experiment_id)
        if number is None:
            number = self._block_of[gang.experiment_id] = self._came // BLOCK
            self._came += 1
        self._blocks.setdefault(number, {})[gang.experiment_id] = gang
        self._changed.add(number)
        self._all = None

    def drop(self, experiment_id: str) -> None:
        """It runs no more; nothing happens if it did not."""
        number = self._block_of.pop(experiment_id, None)
        if number is not None:
            del self._blocks[number][experiment_id]
            self._changed.add(number)
            self._all = None

    def all(self) -> RunningGangs:
        """The same object as long as nothing changed."""
        if self._all is None:
            for number in sorted(self._changed):
                block = self._blocks[number]
                if block:
                    self._shown[number] = tuple(block.values())
                else:
                    del self._blocks[number]
                    self._shown.pop(number, None)
            self._changed.clear()
            self._all = RunningGangs(tuple(self._shown.values()))
        return self._all
