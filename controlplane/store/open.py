"""From a URL to a store: `memory:`, `sqlite:///path/to/file` or `postgresql://user@host/database`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from controlplane.domain.errors import InvalidRequest
from controlplane.store.protocol import Store


def open_store(url: str, *, before_commit: Callable[[], None] | None = None) -> Store:
    """Opens the store, making and migrating its tables where needed.

    After `sqlite://` comes the path: `sqlite:///var/db` is `/var/db`. It may end in
    `?size_limit_bytes=N`: what would make the file larger is refused as on a full disk (running
    experiments can still end, for their rows are there). `before_commit` is for tests, see
    `SqlStore`. Raises InvalidRequest for another URL, StoreUnavailable when the database cannot
    be opened, FailedPrecondition when it was made by a newer version.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        from controlplane.store.memory import MemoryStore

        return MemoryStore()
    if parts.scheme == "sqlite" and not parts.netloc and parts.path not in ("", "/"):
        limit = _size_limit_bytes(url, parts.query)
        return _open_sqlite(Path(unquote(parts.path)), limit, before_commit)
    if parts.scheme in ("postgresql", "postgres"):
        return _open_postgresql(url, before_commit)
    raise InvalidRequest(
        f"{url!r} names no database; write sqlite:///absolute/path or postgresql://user@host/name.",
        reason="INVALID_STORE_URL",
    )


def _import_peewee_alone() -> None:
    """peewee loads every driver that is installed. psycopg takes 16 MB of memory, which a control
    plane on SQLite need not pay for, so it is hidden while peewee loads.
    """
    if "peewee" in sys.modules or "psycopg" in sys.modules:
        return
    hidden: dict[str, Any] = {"psycopg": None}
    sys.modules.update(hidden)
    try:
        importlib.import_module("peewee")
    finally:
        del sys.modules["psycopg"]


def _size_limit_bytes(url: str, query: str) -> int | None:
    if not query:
        return None
    name, _, value = query.partition("=")
    if name == "size_limit_bytes" and value.isascii() and value.isdigit() and int(value) > 0:
        return int(value)
    raise InvalidRequest(
        f"{url!r}: of a SQLite database only ?size_limit_bytes=N can be set; "
        "write a ? in its path as %3F.",
        reason="INVALID_STORE_URL",
    )


def _open_sqlite(
    path: Path, size_limit_bytes: int | None, before_commit: Callable[[], None] | None
) -> Store:
    _import_peewee_alone()
    from controlplane.store.connection import SqliteConnection
    from controlplane.store.sql_store import SqlStore, nothing

    return SqlStore(
        SqliteConnection(path, writer=True, size_limit_bytes=size_limit_bytes),
        SqliteConnection(path, writer=False),
        before_commit=before_commit or nothing,
    )


def _open_postgresql(url: str, before_commit: Callable[[], None] | None) -> Store:
    from controlplane.store.connection import PostgresqlConnection
    from controlplane.store.sql_store import SqlStore, nothing

    full = "postgresql://" + url.partition("://")[2]
    return SqlStore(
        PostgresqlConnection(full, writer=True),
        PostgresqlConnection(full, writer=False),
        before_commit=before_commit or nothing,
    )
