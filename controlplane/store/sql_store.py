"""The store on SQLite or PostgreSQL: a connection that writes and one that reads, and neither waits
for the other.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import peewee

from controlplane.domain.changes import Change
from controlplane.domain.errors import StoreUnavailable
from controlplane.domain.model import Attempt, Experiment, Job, Project, Revision
from controlplane.domain.states import State
from controlplane.store import sql_reads
from controlplane.store.batch import TypeBatch, coalesce
from controlplane.store.codec import spec_text
from controlplane.store.connection import Connection
from controlplane.store.migrations import migrate
from controlplane.store.protocol import ExperimentPage, ExperimentQuery, LiveState, StoreConflict
from controlplane.store.tables import (
    BY_TYPE,
    CLUSTER,
    INSERT_CLUSTER,
    INSERT_SPEC,
    RAISE_CHANGE_NUMBER,
    RAISE_LAST_NUMBER,
    EntityTable,
)


def nothing() -> None:
    """The hook that does nothing."""


class SqlStore:
    """See `protocol.Store`. `before_commit` runs before each COMMIT: an OSError from it is a fault
    of the disk, which is how tests make one.
    """

    def __init__(
        self,
        writer: Connection,
        reader: Connection,
        *,
        before_commit: Callable[[], None] = nothing,
    ) -> None:
        self.kind = writer.kind
        self.writer = writer
        self._reader = reader
        self._before_commit = before_commit
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        try:
            writer.open()
            migrate(writer.database, writer.dialect)
            self._cluster_id = self._open_cluster()
        except (peewee.PeeweeException, OSError) as error:
            self.close()
            raise writer.fault(error) from error
        except BaseException:
            self.close()
            raise

    def _open_cluster(self) -> str:
        database = self.writer.database
        with database.atomic():
            found = list(CLUSTER.select(CLUSTER.c.cluster_id).tuples().execute(database))
            if found:
                return str(found[0][0])
            made = str(uuid.uuid4())
            self.writer.execute(INSERT_CLUSTER, (made,))
            return made

    def cluster_id(self) -> str:
        return self._cluster_id

    def close(self) -> None:
        """Closes both connections. Waits for a commit or a read that is under way."""
        with self._write_lock:
            self.writer.drop()
        with self._read_lock:
            self._reader.drop()

    # --- writing

    def commit(self, changes: Sequence[Change], change_number: int) -> None:
        batch = coalesce(changes)
        with self._write_lock:
            committing = False
            try:
                self.writer.open()
                self.writer.execute(self.writer.begin_writing)
                self._write(batch, change_number)
                self._before_commit()
                committing = True
                self.writer.execute("COMMIT")
            except StoreUnavailable:
                self._roll_back()
                raise
            except Exception as error:
                self._roll_back()
                known = (OSError, peewee.PeeweeException, self.writer.driver_error)
                if not isinstance(error, known):
                    raise
                if committing and self._was_committed(change_number):
                    return
                if isinstance(error, self.writer.conflict_error):
                    raise StoreConflict(
                        f"A change does not fit what is stored ({error}). Nothing was changed; "
                        "this is a fault of the control plane: please report it."
                    ) from error
                raise self.writer.fault(error) from error

    def _write(self, batch: dict[type[Any], TypeBatch], change_number: int) -> None:
        writer = self.writer
        if writer.execute(RAISE_CHANGE_NUMBER, (change_number, change_number)) != 1:
            raise StoreConflict(
                f"Change {change_number} is not newer than what is stored: another control plane "
                "writes to this database. Nothing was changed; stop one of them."
            )
        for kind in reversed(BY_TYPE):
            if kind in batch and batch[kind].deletes:
                table = BY_TYPE[kind]
                keys = [table.codec.key_of(entity) for entity in batch[kind].deletes.values()]
                writer.execute_many(table.delete, keys)
        for kind, table in BY_TYPE.items():
            if kind in batch:
                self._write_type(table, batch[kind])

    def _write_type(self, table: EntityTable, of_type: TypeBatch) -> None:
        writer = self.writer
        if of_type.inserts:
            entities = list(of_type.inserts.values())
            writer.execute_many(table.insert, list(map(table.codec.to_row, entities)))
            if isinstance(entities[0], Experiment):
                self._write_new(entities)
        if of_type.updates:
            rows = [table.codec.to_update(entity) for entity in of_type.updates.values()]
            touched = writer.execute_many(table.update, rows)
            if touched != len(rows):
                raise StoreConflict(
                    f"{len(rows) - touched} of {len(rows)} changed rows of {table.name} are not "
                    "stored. Nothing was changed; this is a fault of the control plane."
                )

    def _write_new(self, experiments: Sequence[Any]) -> None:
        """What is written once for an experiment: its spec (a child has its set's) and number."""
        own = [experiment for experiment in experiments if experiment.set_id is None]
        if not own:
            return
        specs = [(experiment.id, spec_text(experiment.spec)) for experiment in own]
        self.writer.execute_many(INSERT_SPEC, specs)
        numbers: dict[str, int] = {}
        for experiment in own:
            user = experiment.user_name
            numbers[user] = max(experiment.number, numbers.get(user, 0))
        self.writer.execute_many(RAISE_LAST_NUMBER, list(numbers.items()))

    def _roll_back(self) -> None:
        """Ends the transaction; a connection that cannot even do that is opened anew later."""
        try:
            if not self.writer.database.is_closed():
                self.writer.database.rollback()
        except Exception:
            self.writer.drop()

    def _was_committed(self, change_number: int) -> bool:
        """Whether a COMMIT whose answer was an error took place after all."""
        self.writer.drop()
        try:
            self.writer.open()
            query = CLUSTER.select(CLUSTER.c.change_number).tuples()
            ((stored,),) = query.execute(self.writer.database)
        except Exception:
            self.writer.drop()
            return False
        return bool(stored == change_number)

    # --- reading

    @contextlib.contextmanager
    def _reading(self) -> Iterator[peewee.Database]:
        with self._read_lock:
            try:
                with self._reader.reading() as database:
                    yield database
            except (peewee.PeeweeException, self._reader.driver_error, OSError) as error:
                self._reader.drop()
                raise self._reader.fault(error) from error

    def load(self, now: float) -> LiveState:
        with self._reading() as database:
            return sql_reads.live_state(database, now)

    def experiment(self, experiment_id: str) -> Experiment | None:
        with self._reading() as database:
            return sql_reads.experiment(database, experiment_id)

    def experiments(self, query: ExperimentQuery) -> ExperimentPage:
        with self._reading() as database:
            return sql_reads.experiment_page(database, query)

    def children_by_state(self, set_ids: Sequence[str]) -> dict[str, dict[State, int]]:
        with self._reading() as database:
            return sql_reads.children_by_state(database, set_ids)

    def experiment_by_request(self, user_name: str, request_id: str) -> Experiment | None:
        with self._reading() as database:
            return sql_reads.experiment_by_request(database, user_name, request_id)

    def jobs(self, experiment_ids: Sequence[str]) -> list[Job]:
        with self._reading() as database:
            return sql_reads.jobs(database, experiment_ids)

    def attempts(self, experiment_ids: Sequence[str]) -> list[Attempt]:
        with self._reading() as database:
            return sql_reads.attempts(database, experiment_ids)

    def attempt(self, attempt_id: str) -> Attempt | None:
        with self._reading() as database:
            return sql_reads.attempt(database, attempt_id)

    def projects(self, user_name: str | None, after: tuple[str, str], limit: int) -> list[Project]:
        with self._reading() as database:
            return sql_reads.projects(database, user_name, after, limit)

    def project(self, user_name: str, name: str) -> Project | None:
        with self._reading() as database:
            return sql_reads.project(database, user_name, name)

    def revision(self, user_name: str, revision_id: str) -> Revision | None:
        with self._reading() as database:
            return sql_reads.revision(database, user_name, revision_id)

    def ended_between(self, after: float, until: float, limit: int) -> list[Experiment]:
        with self._reading() as database:
            return sql_reads.ended_between(database, after, until, limit)
