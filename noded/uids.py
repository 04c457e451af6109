"""Whose uid: which user of the operating system runs the jobs of which RiseML user.

A daemon that runs as root gives every RiseML user a uid (and gid) of its own and remembers it in a
file for ever,
so that files stay with their owner. One that is not root serves a single RiseML user, under its
own uid.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from noded.errors import ConfigError, WrongUser

DEFAULT_BASE: Final = 200_000
RANGE: Final = 60_000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a job is for the operating system. `separate`: another user than the daemon."""

    uid: int
    gid: int
    separate: bool


class Identities(Protocol):
    """From RiseML users to identities."""

    @property
    def only_user(self) -> str:
        """The single RiseML user served; empty when users are kept apart."""
        ...

    def of(self, user_name: str) -> Identity:
        """Raises WrongUser for a user who is not served here."""
        ...


class SingleUser:
    """All jobs run as the daemon itself, and only one RiseML user may have jobs."""

    def __init__(self, user_name: str) -> None:
        self._user_name = user_name

    @property
    def only_user(self) -> str:
        return self._user_name

    def of(self, user_name: str) -> Identity:
        if user_name != self._user_name:
            raise WrongUser(
                f"this node serves only {self._user_name!r}, because its daemon does not run as "
                f"root; {user_name!r} needs a node whose daemon does"
            )
        return Identity(os.getuid(), os.getgid(), separate=False)


class UidMap:
    """A uid for every RiseML user, kept in a JSON file. Several daemons may share the file."""

    def __init__(self, path: Path, base: int = DEFAULT_BASE) -> None:
        if base < 1000:
            raise ConfigError(
                f"uid_base {base}: must be 1000 or more, jobs never run as a system user"
            )
        self._path = path
        self._base = base
        self._known: dict[str, int] = {}

    @property
    def only_user(self) -> str:
        return ""

    def of(self, user_name: str) -> Identity:
        uid = self._known.get(user_name)
        if uid is None:
            uid = self._look_up(user_name)
        return Identity(uid, uid, separate=True)

    def _look_up(self, user_name: str) -> int:
        with _locked(self._path.with_name(self._path.name + ".lock")):
            self._known = self._read()
            uid = self._known.get(user_name)
            if uid is None:
                uid = max([self._base - 1, *self._known.values()]) + 1
                if uid >= self._base + RANGE:
                    raise WrongUser(f"no uid is left for {user_name!r} from {self._base} on")
                self._known[user_name] = uid
                write_durably(self._path, json.dumps(self._known, indent=1).encode())
        return uid

    def _read(self) -> dict[str, int]:
        try:
            content = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ConfigError(
                f"{self._path}: is damaged ({error}); restore it, it says whose files are whose"
            ) from error
        known = {}
        for name, uid in content.items():
            if not isinstance(uid, int) or uid < 1000:
                raise ConfigError(f"{self._path}: {name} has uid {uid!r}; refused")
            known[str(name)] = uid
        return known


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces a small file so that after a crash it is the old one or the new one, whole."""
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


_libc: Final = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def acting_as(identity: Identity) -> Iterator[None]:
    """File operations of this thread happen as `identity`: the kernel checks and owns accordingly.

    Only the calling thread changes (setfsuid(2)); do not await inside.
    """
    if not identity.separate:
        yield
        return
    _libc.setfsgid(identity.gid)
    _libc.setfsuid(identity.uid)
    try:
        # The calls don't say whether they worked; asking with an invalid id tells the present one.
        if _libc.setfsuid(-1) != identity.uid:
            raise PermissionError(f"cannot act as uid {identity.uid}")
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(0)


def can_reach(path: Path, identity: Identity) -> bool:
    """Whether `identity` can enter every directory above `path` and execute (or enter) `path`
    itself.

    By permission bits alone, links resolved: an answer without becoming that user.
    """
    for form in {Path(os.path.abspath(path)), Path(os.path.realpath(path))}:
        for part in (form, *form.parents):
            try:
                status = os.stat(part)
            except OSError:
                return False
            if not _executable_by(status, identity):
                return False
    return True


def _executable_by(status: os.stat_result, identity: Identity) -> bool:
    if identity.uid == 0:
        return bool(status.st_mode & 0o111) or stat.S_ISDIR(status.st_mode)
    if status.st_uid == identity.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    groups = {identity.gid} if identity.separate else {identity.gid, *os.getgroups()}
    if status.st_gid in groups:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def check_reachable(home: Path) -> None:
    """Raises ConfigError unless other users can get to what lies below `home` (each parent needs
    o+x)."""
    for part in reversed((home, *home.parents)):
        mode = os.stat(part).st_mode
        if not mode & stat.S_IXOTH:
            raise ConfigError(
                f"jobs run under uids of their own and cannot get through {part} "
                f"(mode {stat.S_IMODE(mode):04o}): run `chmod o+x {part}`, or choose another "
                f"directory with --home, such as /var/lib/riseml"
            )
