"""A PostgreSQL server for tests, from the machine's own binaries, on a Unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

START_SECONDS = 30.0


def find_binaries() -> Path | None:
    """The folder of a complete PostgreSQL: on PATH, or where Debian puts it (newest version)."""
    debian = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: [int(part) for part in folder.parent.name.split(".") if part.isdigit()],
        reverse=True,
    )
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else []
    for folder in (*folders, *debian):
        if os.access(folder / "initdb", os.X_OK) and os.access(folder / "postgres", os.X_OK):
            return folder
    return None


def server_user() -> pwd.struct_passwd | None:
    """PostgreSQL refuses to run as root: then it runs as another user. None: as we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("this machine has neither a user postgres nor a user nobody")


@contextmanager
def running_server(binaries: Path) -> Iterator[str]:
    """Runs a server; gives the URL of its databases with `{}` for a database's name."""
    folder = Path(tempfile.mkdtemp(prefix="riseml-pg-"))
    user = server_user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    # As that user, and in none of root's groups.
    options: dict[str, Any] = {}
    if user is not None:
        options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data, log = folder / "data", folder / "log"
    initdb = [
        str(binaries / "initdb"),
        *("-D", str(data), "-U", "riseml", "-A", "trust", "-E", "UTF8", "--no-locale"),
        "--no-sync",
    ]
    try:
        subprocess.run(
            initdb, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60, **options
        )
        command = [
            *(str(binaries / "postgres"), "-D", str(data), "-k", str(folder)),
            *("-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off"),
            *("-c", "shared_buffers=16MB", "-c", "max_connections=20"),
        ]
        with log.open("wb") as output:
            server = subprocess.Popen(
                command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, **options
            )
        try:
            url = f"postgresql:///{{}}?host={folder}&user=riseml"
            _await_server(url.format("postgres"), server, log)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _await_server(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.02)
