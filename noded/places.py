"""Where things of one node lie, who may enter, and what is remembered between starts of the daemon.

HOME/node/<name>/
    lock                  held by the running daemon
    epoch, cluster_id     how often the daemon started; whose attempts these are
    contact               when the control plane last knew of us (CLOCK_BOOTTIME, nanoseconds)
    uids.json             which uid is whose
    attempts/<id>/        0711, see attempt_dir
    revisions/            0700: code by content
    envs/<user>/<key>/    environments
    homes/<user>/         homes of users' jobs: caches of pip and others
    sdk/, bin/, pip.conf  what jobs are given
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from noded.errors import ConfigError
from noded.uids import check_reachable, write_durably


class Places:
    """The directories of one node, made and locked for this process."""

    def __init__(self, home: Path, node: Path, output_root: Path, data_root: Path) -> None:
        self.home = home
        self.node = node
        self.output_root = output_root
        self.data_root = data_root
        self._lock = -1

    @property
    def attempts(self) -> Path:
        return self.node / "attempts"

    @property
    def revisions(self) -> Path:
        return self.node / "revisions"

    @property
    def environments(self) -> Path:
        return self.node / "envs"

    @property
    def uids(self) -> Path:
        return self.node / "uids.json"

    def open(self, separate_users: bool) -> None:
        """Makes what is missing and takes the lock. Raises ConfigError.

        With `separate_users` jobs run under other uids, which must be able to pass through.
        """
        passable = 0o711 if separate_users else 0o700
        try:
            for directory in (self.home, self.home / "node", self.node):
                _make(directory, passable)
            self._take_lock()
            for directory in (self.attempts, self.environments, self.node / "homes"):
                _make(directory, passable)
            _make(self.revisions, 0o700)
            _make(self.output_root, passable)
            _make(self.data_root, 0o755)
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}") from error
        if separate_users:
            for directory in (self.node, self.output_root, self.data_root):
                check_reachable(directory)

    def _take_lock(self) -> None:
        path = self.node / "lock"
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise ConfigError(
                f"another daemon of this node is running ({path} is locked); stop it first, or "
                "give this one another --name or --home"
            ) from None

    def close(self) -> None:
        """Lets go of the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def next_epoch(self) -> int:
        """Higher at every start, durably; also after this directory was lost and begun anew."""
        path = self.node / "epoch"
        try:
            epoch = int(path.read_text()) + 1
        except FileNotFoundError:
            epoch = int(time.time())
        except ValueError as error:
            raise ConfigError(f"{path}: holds no number: {error}") from error
        write_durably(path, f"{epoch}\n".encode())
        return epoch


class RememberedCluster:
    """The cluster that this node's attempts belong to, kept in a file."""

    def __init__(self, places: Places) -> None:
        self._path = places.node / "cluster_id"
        try:
            self.cluster_id = self._path.read_text().strip()
        except FileNotFoundError:
            self.cluster_id = ""

    def remember(self, cluster_id: str) -> None:
        write_durably(self._path, f"{cluster_id}\n".encode())
        self.cluster_id = cluster_id


def _make(directory: Path, mode: int) -> None:
    """Makes a directory with exactly this mode; one that exists stays as it is."""
    if not directory.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        os.chmod(directory, mode)
