"""PURE: a batch of changes as the least that has to be written.

Within one batch only the last value of an object matters. What was inserted and changed afterwards
is inserted once with its last value; what was inserted and deleted again leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from controlplane.domain.changes import Change, Delete, Insert
from controlplane.domain.model import (
    ApiKey,
    Attempt,
    Entity,
    Experiment,
    Job,
    Node,
    NodeToken,
    Project,
    Queue,
    Revision,
    User,
    UseRecord,
)

Key = str | tuple[str, str]

_ID: Final[Callable[[Any], Key]] = attrgetter("id")
_NAME: Final[Callable[[Any], Key]] = attrgetter("name")

# What makes an object the same object, for each type. The order is that of insertion: what others
# refer to comes first.
KEYS: Final[dict[type[Any], Callable[[Any], Key]]] = {
    User: _NAME,
    ApiKey: _ID,
    NodeToken: attrgetter("node_name"),
    Node: _NAME,
    Queue: _NAME,
    UseRecord: attrgetter("queue", "user_name"),
    Project: attrgetter("user_name", "name"),
    Revision: attrgetter("user_name", "id"),
    Experiment: _ID,
    Job: _ID,
    Attempt: _ID,
}


@dataclass(slots=True)
class TypeBatch:
    """What happens to the objects of one type: first the deletes, then inserts, then updates."""

    deletes: dict[Key, Entity] = field(default_factory=dict)
    inserts: dict[Key, Entity] = field(default_factory=dict)
    updates: dict[Key, Entity] = field(default_factory=dict)


def coalesce(changes: Iterable[Change]) -> dict[type[Any], TypeBatch]:
    """The batch by type, in no particular order of types. Values keep their order."""
    batch: dict[type[Any], TypeBatch] = {}
    for change in changes:
        entity = change.entity
        kind = type(entity)
        of_type = batch.get(kind)
        if of_type is None:
            of_type = batch[kind] = TypeBatch()
        key = KEYS[kind](entity)
        if type(change) is Insert:
            of_type.inserts[key] = entity
        elif type(change) is Delete:
            of_type.updates.pop(key, None)
            if of_type.inserts.pop(key, None) is None or key in of_type.deletes:
                of_type.deletes[key] = entity
        elif key in of_type.inserts:
            of_type.inserts[key] = entity
        else:
            of_type.updates[key] = entity
    return batch
