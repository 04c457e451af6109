"""The tables as peewee's query builder sees them, and the statements that write them.

The tables are made by `migrations.py`. Rows are tuples: nothing here makes an object per row.
`experiments.seq` counts insertions: newest first is highest first, whatever the clock did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import peewee

from controlplane.domain.model import (
    ApiKey,
    Attempt,
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
from controlplane.store import codec
from controlplane.store.codec import RowCodec


@dataclass(frozen=True, slots=True)
class EntityTable:
    """Where the objects of one type are kept; statements have `?` for each value."""

    name: str
    codec: RowCodec[Any]
    insert: str
    update: str
    delete: str
    rows: peewee.Table

    def selected(self) -> list[peewee.Column]:
        """The columns in the order that the codec reads."""
        return [getattr(self.rows.c, name) for name in self.codec.columns]


def _entity_table(name: str, row_codec: RowCodec[Any]) -> EntityTable:
    where = " AND ".join(f"{column} = ?" for column in row_codec.key)
    assigned = ", ".join(f"{column} = ?" for column in row_codec.mutable)
    marks = ", ".join("?" * len(row_codec.columns))
    return EntityTable(
        name=name,
        codec=row_codec,
        insert=f"INSERT INTO {name} ({', '.join(row_codec.columns)}) VALUES ({marks})",
        update=f"UPDATE {name} SET {assigned} WHERE {where}",
        delete=f"DELETE FROM {name} WHERE {where}",
        rows=peewee.Table(name),
    )


USERS: Final = _entity_table("users", codec.USER)
API_KEYS: Final = _entity_table("api_keys", codec.API_KEY)
NODE_TOKENS: Final = _entity_table("node_tokens", codec.NODE_TOKEN)
NODES: Final = _entity_table("nodes", codec.NODE)
QUEUES: Final = _entity_table("queues", codec.QUEUE)
USE_RECORDS: Final = _entity_table("use_records", codec.USE_RECORD)
PROJECTS: Final = _entity_table("projects", codec.PROJECT)
REVISIONS: Final = _entity_table("revisions", codec.REVISION)
EXPERIMENTS: Final = _entity_table("experiments", codec.EXPERIMENT)
JOBS: Final = _entity_table("jobs", codec.JOB)
ATTEMPTS: Final = _entity_table("attempts", codec.ATTEMPT)

# In the order in which rows are inserted; deletes go the other way.
BY_TYPE: Final[dict[type[Any], EntityTable]] = {
    User: USERS,
    ApiKey: API_KEYS,
    NodeToken: NODE_TOKENS,
    Node: NODES,
    Queue: QUEUES,
    UseRecord: USE_RECORDS,
    Project: PROJECTS,
    Revision: REVISIONS,
    Experiment: EXPERIMENTS,
    Job: JOBS,
    Attempt: ATTEMPTS,
}

# One row for each experiment that is no child, written once.
SPECS: Final = peewee.Table("specs")
INSERT_SPEC: Final = "INSERT INTO specs (experiment_id, body) VALUES (?, ?)"

# The highest experiment number that each user ever had: numbers are never given twice, not even
# after the newest experiment was deleted.
LAST_NUMBERS: Final = peewee.Table("last_numbers")
RAISE_LAST_NUMBER: Final = (
    "INSERT INTO last_numbers (user_name, number) VALUES (?, ?) "
    "ON CONFLICT (user_name) DO UPDATE SET number = excluded.number "
    "WHERE excluded.number > last_numbers.number"
)

# A single row.
CLUSTER: Final = peewee.Table("cluster")
INSERT_CLUSTER: Final = "INSERT INTO cluster (cluster_id, change_number) VALUES (?, 0)"
RAISE_CHANGE_NUMBER: Final = "UPDATE cluster SET change_number = ? WHERE change_number < ?"
