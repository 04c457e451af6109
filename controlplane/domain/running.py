"""All gangs that run, shared between pictures of a cluster in which most of them are the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import overload

from controlplane.domain.snapshot import RunningGang


class RunningGangs(Sequence[RunningGang]):
    """An immutable sequence in blocks: a picture takes over the blocks in which nothing changed.

    It equals any sequence of the same gangs in the same order.
    """

    __slots__ = ("_blocks", "_length")

    def __init__(self, blocks: tuple[tuple[RunningGang, ...], ...] = ()) -> None:
        self._blocks = blocks
        self._length = sum(map(len, blocks))

    def apart_from(self, other: RunningGangs) -> tuple[RunningGang, ...]:
        """Those in blocks that the other does not share, in their order."""
        shared = set(map(id, other._blocks))
        own = [block for block in self._blocks if id(block) not in shared]
        return tuple(chain.from_iterable(own))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[RunningGang]:
        return chain.from_iterable(self._blocks)

    @overload
    def __getitem__(self, index: int) -> RunningGang: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RunningGang, ...]: ...
    def __getitem__(self, index: int | slice) -> RunningGang | tuple[RunningGang, ...]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(_equal, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def _equal(one: object, other: object) -> bool:
    return one is other or one == other
