"""From an order to what a shim is to execute: directories, variables, command. Synchronous and
quick, so that an order
without code and without install steps starts in the same turn of the event loop in which it
arrived."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from noded.attempt_dir import AttemptDir, disk_refused
from noded.errors import NoSpaceLeft, PortTaken, StartFailed, UserNotServed, WrongUser
from noded.job_environment import (
    JobBase,
    configuration_text,
    hostfile_of,
    order_variables,
)
from noded.skeletons import Skeletons
from noded.uids import Identities, Identity, acting_as
from riseml.files.area import FileArea
from riseml.files.errors import FileAreaError, NoSpace
from riseml.spec.errors import InvalidName
from riseml.spec.ids import check_user_name
from riseml.spec.job_text import join_commands
from riseml.v1 import daemon_pb2

CONFIGURATION_NAME: Final = "riseml-configuration.yml"
TEMPORARY: Final = "tmp"


@dataclass(frozen=True, slots=True)
class Launch:
    """What a shim is to run, and for whom."""

    attempt_id: str
    argv: tuple[str, ...]
    variables: Mapping[str, str]
    identity: Identity
    secret_names: tuple[str, ...] = ()
    """Variables whose values are masked in what is shipped."""
    cpu_milli: int = 0
    memory_bytes: int = 0
    gpus: tuple[tuple[str, int], ...] = ()
    """UUIDs and thousandths."""
    output: str = ""
    """Where the job writes what it makes; empty for a build."""
    grace_milliseconds: int = 30_000
    contact_timeout_milliseconds: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)
    """Kept with the attempt, for the daemon that adopts it."""


class Preparation:
    """Makes launches of one node."""

    def __init__(
        self,
        base: JobBase,
        identities: Identities,
        output_root: Path,
        data_root: Path,
        skeletons: Skeletons,
    ) -> None:
        self._base = base
        self._identities = identities
        self._outputs = FileArea(output_root)
        self._data_root = data_root
        self._skeletons = skeletons
        self._ready_users: set[str] = set()

    def identity(self, user_name: str) -> Identity:
        """Who runs this user's jobs. Raises UserNotServed."""
        try:
            check_user_name(user_name)
            return self._identities.of(user_name)
        except (WrongUser, InvalidName) as error:
            raise UserNotServed(str(error)) from error

    def path(self, identity: Identity) -> str:
        """PATH of this identity's jobs."""
        return self._base.path(identity)

    @property
    def python(self) -> str:
        """The configured interpreter, or empty."""
        return self._base.python

    def launch(
        self,
        order: daemon_pb2.AttemptOrder,
        directory: AttemptDir,
        added: Mapping[str, str],
        notes: Mapping[str, str],
    ) -> Launch:
        """The job's own launch; `directory` is the attempt's and exists, with `work` where code
        was put.

        `added` are an environment's variables. Raises StartFailed.
        """
        identity = self.identity(order.user_name)
        _check_port(order)
        try:
            self._make_home(order.user_name, identity)
            output = self._make_output(order, identity)
            temporary = self._make_temporary(directory, identity)
            hostfile = self._write_hostfile(order, directory)
        except OSError as error:
            raise disk_refused(str(error.filename), error) from error
        base = self._base.variables(order.user_name, identity, temporary)
        variables = {
            **base,
            **added,
            **order_variables(
                order, str(output), str(self._data_root), directory.results_path, hostfile
            ),
        }
        python_path = order.env.get("PYTHONPATH", "")
        if python_path:
            variables["PYTHONPATH"] = f"{python_path}:{base['PYTHONPATH']}"
        return Launch(
            attempt_id=order.attempt_id,
            argv=("/bin/sh", "-e", "-c", join_commands(order.run)),
            variables=variables,
            identity=identity,
            secret_names=tuple(order.secret_env_names),
            cpu_milli=order.cpu_milli,
            memory_bytes=order.memory_bytes,
            gpus=tuple((g.gpu_uuid, g.milli) for g in order.gpus),
            output=str(output),
            grace_milliseconds=order.grace_period_milliseconds,
            contact_timeout_milliseconds=order.contact_timeout_milliseconds,
            notes=notes,
        )

    def build_launch(
        self,
        order: daemon_pb2.AttemptOrder,
        directory: AttemptDir,
        script: str,
        added: Mapping[str, str],
        notes: Mapping[str, str],
    ) -> Launch:
        """The launch of a build for this order: the same user, no GPUs, no output. Raises
        StartFailed."""
        identity = self.identity(order.user_name)
        try:
            self._make_home(order.user_name, identity)
            temporary = self._make_temporary(directory, identity)
        except OSError as error:
            raise disk_refused(str(error.filename), error) from error
        base = self._base.variables(order.user_name, identity, temporary)
        return Launch(
            attempt_id=order.environment.build_attempt_id,
            argv=("/bin/sh", "-e", "-c", script),
            variables={**base, **order.env, **added, "CUDA_VISIBLE_DEVICES": ""},
            identity=identity,
            secret_names=tuple(order.secret_env_names),
            grace_milliseconds=min(order.grace_period_milliseconds, 5000),
            notes=notes,
        )

    def note_launch(self, launch: Launch, line: str) -> Launch:
        """A launch in the same place that only prints a line."""
        return replace(launch, argv=("/bin/sh", "-c", 'printf "%s\\n" "$1"', "sh", line))

    def _make_home(self, user_name: str, identity: Identity) -> None:
        if user_name in self._ready_users:
            return
        home = self._base.home_of(user_name)
        home.mkdir(mode=0o700, exist_ok=True)
        if identity.separate:
            os.chown(home, identity.uid, identity.gid)
        tree = self._outputs.root / user_name
        try:
            tree.mkdir(mode=0o700)
        except FileExistsError:
            self._check_owner(tree, identity)
        else:
            if identity.separate:
                os.chown(tree, identity.uid, identity.gid)
        self._ready_users.add(user_name)

    def _check_owner(self, tree: Path, identity: Identity) -> None:
        owner = os.lstat(tree).st_uid
        if owner != identity.uid:
            raise StartFailed(
                f"{tree} belongs to uid {owner}, but this user's jobs run as {identity.uid} here: "
                f"an admin must `chown -R {identity.uid} {tree}`, or share the uid map among nodes"
            )

    def _make_output(self, order: daemon_pb2.AttemptOrder, identity: Identity) -> Path:
        path = order.output_path
        if path.partition("/")[0] != order.user_name:
            raise StartFailed(f"the output path {path!r} is not in {order.user_name!r}'s tree")
        parent, _, name = path.rpartition("/")

        def fill(prepared: str) -> None:
            with open(f"{prepared}/{CONFIGURATION_NAME}", "wb") as file:
                file.write(configuration_text(order).encode())

        try:
            with acting_as(identity):
                above = self._outputs.make_directories(parent)
            try:
                if not _exists(name, above):
                    with _made_by_another_daemon():
                        if self._skeletons.take(name, identity, above, fill):
                            return self._outputs.root / path
            finally:
                os.close(above)
            with acting_as(identity):
                fd = self._outputs.make_directories(path)
                try:
                    _write_file(CONFIGURATION_NAME, configuration_text(order), fd)
                finally:
                    os.close(fd)
        except NoSpace as error:
            raise NoSpaceLeft(str(error)) from error
        except FileAreaError as error:
            raise StartFailed(f"the output directory cannot be made: {error}") from error
        return self._outputs.root / path

    def _make_temporary(self, directory: AttemptDir, identity: Identity) -> str:
        path = f"{directory.path}/{TEMPORARY}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
            if identity.separate:
                os.chown(path, identity.uid, identity.gid)
        return path

    def _write_hostfile(self, order: daemon_pb2.AttemptOrder, directory: AttemptDir) -> str:
        text = hostfile_of(order)
        if not text:
            return ""
        path = f"{directory.path}/hostfile"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o644)
        return path


def _check_port(order: daemon_pb2.AttemptOrder) -> None:
    """Raises PortTaken, where the job would only fail to listen, or meet a stranger.

    Members other than the first listen on theirs in TensorFlow alone.
    """
    own = (order.job_type, order.job_number)
    port = next((p.port for p in order.peers if (p.job_type, p.job_number) == own), 0)
    if not port or (order.rank > 0 and order.framework != "tensorflow"):
        return
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            raise PortTaken(
                f"port {port} of this node, where the gang was to meet, is taken by another "
                f"program ({error.strerror}): stop that, or give the daemon other ports "
                "(`first_port` and `last_port` of its configuration)"
            ) from error


def _exists(name: str, dir_fd: int) -> bool:
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _made_by_another_daemon() -> Iterator[None]:
    """Members of a gang share their output directory: who comes second uses it as it is."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _write_file(name: str, text: str, dir_fd: int) -> None:
    """Writes a file in an open directory; a link of that name is replaced, not followed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, 0o644, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        os.unlink(name, dir_fd=dir_fd)
        fd = os.open(name, flags | os.O_EXCL, 0o644, dir_fd=dir_fd)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
