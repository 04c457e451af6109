"""The directory of one attempt: what was intended, what became of it, its output.

    attempts/<attempt id>/    0711: the job's user passes through, but lists nothing
        spec                  the order and our record of intent; its flock is the shim's
        status                by the shim: running, then exited or not_started
        stop                  how and why it is to be stopped
        log/<offset>.log      by the shim: CRI lines; a segment is named by its first byte's offset
        log.acked, results.acked   how far the control plane has it
        results.jsonl         by the job
        work/                 the job's working directory

Nothing here is told from pids alone. A shim holds the flock on `spec` for as long as it lives, so
"locked" means alive, after any restart or reboot and whatever a pid was given to since.
"""

from __future__ import annotations

import enum
import fcntl
import os
import shutil
from dataclasses import dataclass
from typing import Final

from noded.errors import NoSpaceLeft, StartFailed
from noded.files import LOCAL_FILES, Files
from noded.shim.spec import Intent, Spec, SpecTorn, decode_intent
from noded.shim.status import ShimStatus, latest_status

BOOT_ID_NOTE: Final = "boot_id"
_MAX_STATUS_BYTES: Final = 1 << 20
_NO_SPACE: Final = frozenset({28, 122})  # ENOSPC, EDQUOT


class AttemptExists(StartFailed):
    """This attempt was started here before; it is never run twice."""

    reason = "ALREADY_STARTED"


class AttemptState(enum.Enum):
    """What a look at the directory tells; the last three stay true."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    EXITED = "EXITED"
    NEVER_STARTED = "NEVER_STARTED"
    VANISHED = "VANISHED"


@dataclass(frozen=True, slots=True)
class Observation:
    """`status` is the last that the shim wrote, None where it wrote none."""

    state: AttemptState
    status: ShimStatus | None = None
    message: str = ""


def boot_id() -> str:
    """Changes with every boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


class AttemptDir:
    """One attempt's directory; the object holds nothing but the path."""

    __slots__ = ("_files", "path")

    def __init__(self, path: str, files: Files = LOCAL_FILES) -> None:
        self.path = path
        self._files = files

    @property
    def attempt_id(self) -> str:
        return os.path.basename(self.path)

    @property
    def log_directory(self) -> str:
        return self.path + "/log"

    @property
    def results_path(self) -> str:
        return self.path + "/results.jsonl"

    @property
    def work_directory(self) -> str:
        return self.path + "/work"

    def make(self, uid: int | None = None, gid: int | None = None) -> None:
        """Makes the empty directories; what exists stays. Raises NoSpaceLeft or StartFailed."""
        try:
            if self._make(self.path, 0o711):
                os.chmod(self.path, 0o711)
            self._make(self.log_directory, 0o700)
            if self._make(self.work_directory, 0o700) and uid is not None:
                os.chown(self.work_directory, uid, uid if gid is None else gid)
            if not os.path.exists(self.results_path):
                self._files.write_new(self.results_path, b"")
                if uid is not None:
                    os.chown(self.results_path, uid, uid if gid is None else gid)
        except OSError as error:
            raise disk_refused(self.path, error) from error

    def _make(self, path: str, mode: int) -> bool:
        try:
            self._files.make_directory(path, mode)
        except FileExistsError:
            return False
        return True

    def intend(self, spec: Spec) -> None:
        """Writes the spec; from here on the attempt counts as intended. Raises AttemptExists,
        NoSpaceLeft, StartFailed or SpecInvalid.

        It is not synced: the record has to outlive the daemon, not the machine. After a power cut
        nothing runs, whatever the record says, and the boot id tells so.
        """
        data = spec.encode()
        if os.path.exists(self.path + "/status"):
            raise AttemptExists(f"{self.attempt_id}: was started here before")
        try:
            self._files.write_new(self.path + "/spec", data)
        except FileExistsError:
            raise AttemptExists(f"{self.attempt_id}: is being started") from None
        except OSError as error:
            raise disk_refused(self.path, error) from error

    def order_stop(self, grace_ms: int | None, reason: str) -> None:
        """What the shim finds when the signal comes. Grace None: the spec's. Raises OSError."""
        one_line = " ".join(reason.split())[:60] or "stopped"
        text = f"{-1 if grace_ms is None else grace_ms} {one_line}\n"
        self._files.write_atomic(self.path + "/stop", text.encode(), durable=False)

    def read_intent(self) -> Intent | None:
        """None where nothing (whole) was intended."""
        try:
            with open(self.path + "/spec", "rb") as file:
                return decode_intent(file.read())
        except (FileNotFoundError, SpecTorn):
            return None

    def read_status(self) -> ShimStatus | None:
        """None where the shim has written none yet."""
        try:
            fd = os.open(self.path + "/status", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return latest_status(os.read(fd, _MAX_STATUS_BYTES))
        finally:
            os.close(fd)

    def observe(self, current_boot_id: str) -> Observation:
        """Where the attempt stands. What was intended but never started is made unable to start
        later, so a shim that is only just coming up finds its spec gone and ends."""
        status = self.read_status()
        if status is not None and status.ended:
            return Observation(AttemptState.EXITED, status)
        try:
            fd = os.open(self.path + "/spec", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return Observation(AttemptState.NEVER_STARTED, message="no order was recorded for it")
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                state = AttemptState.STARTING if status is None else AttemptState.RUNNING
                return Observation(state, status)
            return self._without_shim(current_boot_id)
        finally:
            os.close(fd)

    def _without_shim(self, current_boot_id: str) -> Observation:
        status = self.read_status()  # again: it may have ended between our two looks
        if status is not None and status.ended:
            return Observation(AttemptState.EXITED, status)
        if status is None and not self._log_was_opened():
            os.rename(self.path + "/spec", self.path + "/spec.void")
            return Observation(AttemptState.NEVER_STARTED, message="it was ordered but not started")
        intent = self.read_intent()
        earlier = intent.notes.get(BOOT_ID_NOTE, "") if intent is not None else ""
        if earlier and earlier != current_boot_id:
            message = "the node was restarted while it ran"
        else:
            message = "its supervising process was killed while it ran; how it ended is not known"
        return Observation(AttemptState.VANISHED, status, message)

    def _log_was_opened(self) -> bool:
        try:
            return bool(os.listdir(self.log_directory))
        except FileNotFoundError:
            return False

    def log_size(self) -> int:
        """Length of the log in bytes over all segments, those included that were removed."""
        from_name = 0
        try:
            names = [name for name in os.listdir(self.log_directory) if name.endswith(".log")]
        except FileNotFoundError:
            return 0
        if names:
            last = max(names)
            from_name = int(last[:-4]) + os.stat(f"{self.log_directory}/{last}").st_size
        return from_name

    def results_size(self) -> int:
        try:
            return os.stat(self.results_path).st_size
        except FileNotFoundError:
            return 0

    def remove(self) -> None:
        """Deletes everything. Raises OSError."""
        shutil.rmtree(self.path)


def disk_refused(path: str, error: OSError) -> StartFailed:
    """The right error for what the disk said."""
    if error.errno in _NO_SPACE:
        return NoSpaceLeft(f"{path}: no space left on the node's disk; free some and try again")
    return StartFailed(f"{path}: {error.strerror or error}")


def list_attempts(root: str, files: Files = LOCAL_FILES) -> list[AttemptDir]:
    """All attempts that have a directory here, by name."""
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []
    return [AttemptDir(f"{root}/{name}", files) for name in names]
