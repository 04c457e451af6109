"""One connection to SQLite or PostgreSQL: how it is opened, and what its failures mean.

A connection is used by one thread at a time (the store holds a lock around it). After a failure it
is dropped and opened anew at its next use, so a fault that went away leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import peewee

from controlplane.domain.errors import StoreUnavailable
from controlplane.store.migrations import POSTGRESQL, SQLITE, Dialect

# How long another process may hold the database before a commit fails.
BUSY_TIMEOUT_MILLISECONDS: Final = 5000
# The write-ahead log is cut down to this after a checkpoint.
WAL_LIMIT_BYTES: Final = 64 << 20
# Only one control plane may write: its name among PostgreSQL's advisory locks.
WRITER_LOCK: Final = 0x5249_5345_4D4C


class Connection(ABC):
    """What the store needs of a database."""

    kind: str
    dialect: Dialect
    # What a `?` is called here.
    mark: str
    # The root of what the driver raises (peewee wraps it only where it runs the statement itself).
    driver_error: type[Exception]
    # A constraint does not hold.
    conflict_error: type[Exception]

    def __init__(self, database: peewee.Database, *, writer: bool) -> None:
        # Any: peewee's methods carry no types.
        self.database: Any = database
        self.writer = writer

    def open(self) -> None:
        """Connects and sets the connection up, unless it is open."""
        if not self.database.is_closed():
            return
        self.database.connect()
        try:
            self._set_up()
        except BaseException:
            self.drop()
            raise

    @abstractmethod
    def _set_up(self) -> None: ...

    @abstractmethod
    def fault(self, error: Exception) -> StoreUnavailable:
        """What a failure of this database means to the reader."""

    @contextlib.contextmanager
    def reading(self) -> Iterator[peewee.Database]:
        """A transaction that sees one state of the database and changes nothing."""
        self.open()
        self.database.execute_sql(self._begin_reading)
        try:
            yield self.database
        finally:
            self.database.rollback()

    _begin_reading: str
    begin_writing: str

    def execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Runs a statement with `?` marks for every row; returns how many rows it touched."""
        # Closed even after an error: a statement that an exception's traceback keeps alive would
        # keep the file open.
        with contextlib.closing(self.database.cursor()) as cursor:
            cursor.executemany(statement.replace("?", self.mark), rows)
            return int(cursor.rowcount)

    def execute(self, statement: str, values: Iterable[Any] = ()) -> int:
        """Runs one statement; returns how many rows it touched."""
        with contextlib.closing(self.database.cursor()) as cursor:
            cursor.execute(statement.replace("?", self.mark), tuple(values))
            return int(cursor.rowcount)

    def drop(self) -> None:
        """Closes what is left of the connection; an open transaction is rolled back.

        A connection that cannot even be closed counts as closed: peewee forgets it before it tries.
        """
        with contextlib.suppress(Exception):
            self.database.close()


class SqliteConnection(Connection):
    """SQLite in WAL mode. `synchronous=FULL`: a commit survives a loss of power."""

    kind = "sqlite"
    dialect = SQLITE
    mark = "?"
    _begin_reading = "BEGIN"
    begin_writing = "BEGIN IMMEDIATE"
    driver_error = sqlite3.Error
    conflict_error = sqlite3.IntegrityError

    def __init__(self, path: Path, *, writer: bool, size_limit_bytes: int | None = None) -> None:
        make: Any = peewee.SqliteDatabase
        database = make(
            f"file:{quote(str(path))}",
            uri=True,
            thread_safe=False,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_MILLISECONDS / 1000,
        )
        super().__init__(database, writer=writer)
        self.path = path
        self.size_limit_bytes = size_limit_bytes

    def _set_up(self) -> None:
        run = self.database.execute_sql
        if self.writer:
            run("PRAGMA journal_mode = WAL")
            run("PRAGMA synchronous = FULL")
            run(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
            run("PRAGMA foreign_keys = ON")
            self.limit_size(self.size_limit_bytes)
        else:
            run("PRAGMA query_only = ON")

    def limit_size(self, size_limit_bytes: int | None) -> None:
        """Lets the file grow to this size at most; None: as large as SQLite can.

        A smaller limit than the present size stops growth at once.
        """
        self.size_limit_bytes = size_limit_bytes
        (page_bytes,) = self.database.execute_sql("PRAGMA page_size").fetchone()
        pages = 0xFFFF_FFFE if size_limit_bytes is None else max(1, size_limit_bytes // page_bytes)
        self.database.execute_sql(f"PRAGMA max_page_count = {pages}")

    def fault(self, error: Exception) -> StoreUnavailable:
        text = _innermost(error)
        where = str(self.path)
        if "is full" in text or _errno(error) == errno.ENOSPC:
            reason, advice = "STORE_FULL", "free some space on its disk, then try again"
        elif "locked" in text or "busy" in text:
            reason, advice = "STORE_LOCKED", "close the other program that holds it, then try again"
        elif "malformed" in text or "not a database" in text:
            reason, advice = "STORE_DAMAGED", "stop the control plane and restore a backup"
        elif "readonly" in text or "unable to open" in text:
            reason, advice = "STORE_NOT_WRITABLE", "check that its folder exists and is writable"
        else:
            reason, advice = "STORE_IO_ERROR", "check its disk, then try again"
        return StoreUnavailable(
            f"The database {where} failed ({text}). Nothing was changed; {advice}.",
            reason=reason,
            metadata={"database": where, "error": text},
        )


class PostgresqlConnection(Connection):
    """PostgreSQL through psycopg 3. The writer holds an advisory lock: there is one at a time."""

    kind = "postgresql"
    dialect = POSTGRESQL
    mark = "%s"
    # How long to wait for the lock: the server may not have noticed that its last holder is gone.
    lock_seconds = 5.0
    _begin_reading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    begin_writing = "BEGIN"

    def __init__(self, url: str, *, writer: bool) -> None:
        import psycopg

        self.driver_error = psycopg.Error
        self.conflict_error = psycopg.IntegrityError
        make: Any = peewee.PostgresqlDatabase
        database = make(
            url,
            prefer_psycopg3=True,
            thread_safe=False,
            connect_timeout=5,
            application_name="riseml writer" if writer else "riseml reader",
        )
        super().__init__(database, writer=writer)

    def _set_up(self) -> None:
        if not self.writer:
            return
        self.database.execute_sql("SET synchronous_commit = on")
        deadline = time.monotonic() + self.lock_seconds
        while True:
            (held,) = self.database.execute_sql(
                "SELECT pg_try_advisory_lock(%s)", (WRITER_LOCK,)
            ).fetchone()
            if held:
                return
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    "Another control plane writes to this PostgreSQL database. Stop it first, or "
                    "give this one a database of its own.",
                    reason="STORE_LOCKED",
                )
            time.sleep(0.05)

    def fault(self, error: Exception) -> StoreUnavailable:
        text = _innermost(error)
        if "No space left" in text or "could not extend" in text:
            reason, advice = "STORE_FULL", "free some space on the database server, then try again"
        elif "connect" in text:
            reason, advice = "STORE_UNREACHABLE", "check that the database server runs, then retry"
        else:
            reason, advice = "STORE_IO_ERROR", "look into the database server's log, then try again"
        return StoreUnavailable(
            f"PostgreSQL failed ({text}). Nothing was changed; {advice}.",
            reason=reason,
            metadata={"error": text},
        )


def _innermost(error: BaseException) -> str:
    """The first line of what the driver said; peewee wraps it."""
    cause = error.__cause__ or error.__context__
    source = cause if isinstance(error, peewee.PeeweeException) and cause is not None else error
    lines = str(source).strip().splitlines()
    return lines[0] if lines else type(source).__name__


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None
