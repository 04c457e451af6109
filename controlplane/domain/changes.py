"""What an event did to the state, as data: the runtime applies it to memory and the store commits
it.
"""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain.model import Entity


@dataclass(frozen=True, slots=True)
class Insert:
    """A new object. Its key must be free."""

    entity: Entity


@dataclass(frozen=True, slots=True)
class Update:
    """A new value of an existing object."""

    entity: Entity


@dataclass(frozen=True, slots=True)
class Delete:
    """The object with this value's key is gone."""

    entity: Entity


Change = Insert | Update | Delete
