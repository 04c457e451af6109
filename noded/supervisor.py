"""Starts, stops and watches attempts, each under a shim that outlives this process.

The shims tell of starts and ends through one pipe that all of them share. Of a shim that dies
without a last word the server tells which forked it, or its pidfd where it was spawned from here or
by an earlier run of noded. All lead to the same place, `_settle`, and an attempt's end is told
exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noded.attempt_dir import (
    BOOT_ID_NOTE,
    AttemptDir,
    AttemptState,
    Observation,
    boot_id,
    list_attempts,
)
from noded.cgroups import Cgroups
from noded.errors import StartFailed
from noded.files import LOCAL_FILES, Files
from noded.launch import Adopted, Ended, Event, LaunchRequest, Started
from noded.leftovers import DIRECTORY_VARIABLE, end_leftovers
from noded.shim import SHIM_PROGRAM
from noded.shim.spec import CgroupFiles, Spec
from noded.shim.status import ShimState, ShimStatus, StatusStream
from noded.shim_server import ShimServer, spawn_shim

_NOTIFY_PIPE_BYTES: Final = 1 << 20
_POLL_SECONDS: Final = 0.1
_SHIM_REFUSED: Final = 3


@dataclass(slots=True)
class Running:
    """An attempt that is watched."""

    directory: AttemptDir
    cgroup_procs: tuple[str, ...]
    shim_pid: int = 0
    own_child: bool = False
    served: bool = False
    """Its shim is the server's child, which would tell of its death."""
    lost_order: bool = False
    """The server was killed with the order perhaps unread."""
    pidfd: int = -1
    status: ShimStatus | None = None
    stop_reason: str = ""
    ended: bool = False
    exit_code: int = 0


class Supervisor:
    """Everything happens in the loop's thread; `on_event` is called there and must not raise."""

    def __init__(
        self,
        root: Path,
        on_event: Callable[[Event], None],
        *,
        cgroups: Cgroups | None = None,
        files: Files = LOCAL_FILES,
        program: Path = SHIM_PROGRAM,
        use_pidfd: bool = True,
    ) -> None:
        """`root` holds the attempts' directories and is made where it is missing."""
        self._root = str(root.absolute())
        self._contact_path = str(root.absolute().parent / "contact")
        self._on_event = on_event
        self._cgroups = cgroups
        self._files = files
        self._program = str(program)
        self._use_pidfd = use_pidfd and hasattr(os, "pidfd_open")
        self._boot_id = boot_id()
        self._running: dict[str, Running] = {}
        self._notes = StatusStream()
        self._ending: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        os.makedirs(self._root, 0o711, exist_ok=True)
        self._contact_fd = os.open(self._contact_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._read_end, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with contextlib.suppress(PermissionError):  # above the quota of pipe pages of our user
            fcntl.fcntl(self._read_end, fcntl.F_SETPIPE_SZ, _NOTIFY_PIPE_BYTES)
        self._loop.add_reader(self._read_end, self._read_notes)
        self._server = ShimServer(
            self._program, self._write_end, self._server_told_death, self._server_lost
        )

    # ---- what others call ----

    def directory(self, attempt_id: str) -> AttemptDir:
        """Raises StartFailed for an id that cannot name a directory."""
        if not attempt_id or "/" in attempt_id or attempt_id.startswith("."):
            raise StartFailed(f"{attempt_id!r}: not an attempt id")
        return AttemptDir(f"{self._root}/{attempt_id}", self._files)

    @property
    def running(self) -> Mapping[str, Running]:
        """What has not ended, or has only just."""
        return self._running

    def contact(self, boot_time_ns: int) -> None:
        """The control plane was heard at that time of CLOCK_BOOTTIME: tells the shims, each of
        which stops its job after too long without."""
        with contextlib.suppress(OSError):  # a full disk: the shims then know only older contact
            os.pwrite(self._contact_fd, b"%020d\n" % boot_time_ns, 0)

    def start(self, request: LaunchRequest) -> Running:
        """Records the intent and starts the shim; `Started` or `Ended` follows.

        Raises:
            StartFailed: nothing was started (NoSpaceLeft, AttemptExists, SpecInvalid, ...).
        """
        directory = self.directory(request.attempt_id)
        directory.make(request.uid, request.gid)
        group = CgroupFiles()
        if self._cgroups is not None and request.limits is not None:
            group = self._cgroups.plan(request.attempt_id, request.limits)
        directory.intend(self._spec(request, directory, group))
        served = self._server.order(directory.path)
        pid = 0 if served else spawn_shim(self._program, directory.path, self._write_end)
        running = Running(directory, group.procs, shim_pid=pid, own_child=not served, served=served)
        self._running[request.attempt_id] = running
        if not served:
            self._watch(running)
        return running

    def adopt(self) -> list[Adopted]:
        """Looks at everything under the root. What lives is watched from here on; of the rest only
        the answer tells, except that what a killed shim left is killed and then told as `Ended`."""
        adopted = []
        for directory in list_attempts(self._root, self._files):
            if directory.attempt_id in self._running:
                continue
            intent = directory.read_intent()
            seen = directory.observe(self._boot_id)
            adopted.append(Adopted(directory, intent, seen))
            if seen.state in (AttemptState.EXITED, AttemptState.NEVER_STARTED):
                if self._cgroups is not None and intent is not None:
                    self._cgroups.remove(intent.cgroup_procs)
                continue
            running = Running(directory, intent.cgroup_procs if intent is not None else ())
            running.status = seen.status
            self._running[directory.attempt_id] = running
            if seen.status is not None:
                running.shim_pid = seen.status.shim_pid
            if seen.state is AttemptState.VANISHED:
                self._settle(running)
            else:
                self._watch(running)
        return adopted

    def stop(self, attempt_id: str, grace_ms: int | None, reason: str) -> bool:
        """Grace None: as the request said; 0: at once. Said again, it can only come sooner. False:
        no such attempt runs. Raises OSError where the disk refuses even that (the signal is sent
        all the same, with the request's grace)."""
        running = self._running.get(attempt_id)
        if running is None or running.ended:
            return False
        running.stop_reason = running.stop_reason or reason
        try:
            running.directory.order_stop(grace_ms, running.stop_reason)
        finally:
            self._signal(running, signal.SIGUSR1 if grace_ms == 0 else signal.SIGTERM)
        return True

    async def close(self) -> None:
        """Stops watching. What runs goes on running, for the next daemon to adopt."""
        for running in list(self._running.values()):
            self._unwatch(running)
        self._running.clear()
        await self._server.close()
        self._loop.remove_reader(self._read_end)
        for fd in (self._read_end, self._write_end, self._contact_fd):
            os.close(fd)
        if self._ending:
            await asyncio.gather(*self._ending, return_exceptions=True)
        if self._cgroups is not None:
            self._cgroups.close()

    # ---- starting ----

    def _spec(self, request: LaunchRequest, directory: AttemptDir, group: CgroupFiles) -> Spec:
        env = {
            **request.env,
            "RISEML_ATTEMPT_ID": request.attempt_id,
            DIRECTORY_VARIABLE: directory.path,
        }
        return Spec(
            attempt_id=request.attempt_id,
            argv=request.argv,
            env=env,
            cwd=request.cwd or directory.work_directory,
            grace_ms=request.grace_ms,
            uid=request.uid,
            gid=request.gid,
            groups=request.groups,
            umask=request.umask,
            nice=request.nice,
            oom_score_adj=request.oom_score_adj,
            log_segment_bytes=request.log_segment_bytes,
            log_max_segments=request.log_max_segments,
            cgroup=group,
            contact_file=self._contact_path,
            contact_timeout_ms=request.contact_timeout_ms,
            rlimits=request.rlimits,
            notes={**request.notes, BOOT_ID_NOTE: self._boot_id},
        )

    # ---- watching ----

    def _watch(self, running: Running) -> None:
        if self._use_pidfd and running.shim_pid:
            try:
                running.pidfd = os.pidfd_open(running.shim_pid)
            except ProcessLookupError:
                self._loop.call_soon(self._shim_died, running)
                return
            except OSError:
                running.pidfd = -1
            else:
                if running.own_child or self._is_shim(running):
                    self._loop.add_reader(running.pidfd, self._shim_died, running)
                    return
                os.close(running.pidfd)
                running.pidfd = -1
        self._loop.call_later(_POLL_SECONDS, self._poll, running)

    def _is_shim(self, running: Running) -> bool:
        """Asked after the pidfd was opened, so the answer is about that very process."""
        status = running.status
        try:
            with open(f"/proc/{running.shim_pid}/stat", "rb") as file:
                ticks = int(file.read().rpartition(b")")[2].split()[19])
        except (OSError, IndexError, ValueError):
            return False
        return status is not None and ticks == status.shim_start_ticks

    def _poll(self, running: Running) -> None:
        """Where no pidfd is to be had, and for a shim that has not said its pid yet."""
        if self._running.get(running.directory.attempt_id) is not running:
            return
        if running.own_child:
            self._reap(running)
        seen = running.directory.observe(self._boot_id)
        if seen.state not in (AttemptState.STARTING, AttemptState.RUNNING):
            if seen.state is AttemptState.NEVER_STARTED and running.lost_order:
                self._order_again(running)
            else:
                self._settle(running)
            return
        if seen.status is not None and running.status is None:
            running.shim_pid = seen.status.shim_pid
            self._take(seen.status)
        self._watch(running)

    def _shim_died(self, running: Running) -> None:
        if running.own_child:
            self._reap(running)
        self._unwatch(running)
        self._settle(running)

    def _server_told_death(self, path: str, exit_code: int) -> None:
        running = self._running.get(os.path.basename(path))
        if running is not None and running.served:
            running.exit_code = exit_code
            self._settle(running)

    def _server_lost(self) -> None:
        """Its shims live: they are watched one by one. Whether it read its last orders shows."""
        self._read_notes()
        for running in list(self._running.values()):
            if running.served:
                running.served = False
                running.lost_order = running.status is None
                self._watch(running)

    def _order_again(self, running: Running) -> None:
        """Nobody had taken the order, and now nobody could: our look has put the spec aside."""
        running.lost_order = False
        path = running.directory.path
        try:
            os.rename(path + "/spec.void", path + "/spec")
            running.shim_pid = spawn_shim(self._program, path, self._write_end)
        except (OSError, StartFailed):
            self._settle(running)
        else:
            running.own_child = True
            self._watch(running)

    def _reap(self, running: Running) -> None:
        with contextlib.suppress(ChildProcessError):
            pid, wait_status = os.waitpid(running.shim_pid, os.WNOHANG)
            if pid:
                running.exit_code = os.waitstatus_to_exitcode(wait_status)

    def _unwatch(self, running: Running) -> None:
        if running.pidfd >= 0:
            self._loop.remove_reader(running.pidfd)
            os.close(running.pidfd)
            running.pidfd = -1

    def _signal(self, running: Running, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if running.pidfd >= 0:
                signal.pidfd_send_signal(running.pidfd, number)
            elif running.own_child:
                os.kill(running.shim_pid, number)
            elif running.shim_pid:
                self._signal_stranger(running, number)

    def _signal_stranger(self, running: Running, number: signal.Signals) -> None:
        """One that we did not spawn, so its pid may by now be another's."""
        try:
            pidfd = os.pidfd_open(running.shim_pid) if self._use_pidfd else -1
        except ProcessLookupError:
            return
        except OSError:  # none to be had
            pidfd = -1
        try:
            if not self._is_shim(running):
                return
            if pidfd >= 0:
                signal.pidfd_send_signal(pidfd, number)
            else:
                os.kill(running.shim_pid, number)
        finally:
            if pidfd >= 0:
                os.close(pidfd)

    # ---- events ----

    def _read_notes(self) -> None:
        try:
            data = os.read(self._read_end, _NOTIFY_PIPE_BYTES)
        except BlockingIOError:
            return
        for status in self._notes.feed(data):
            self._take(status)

    def _take(self, status: ShimStatus) -> None:
        running = self._running.get(status.attempt_id)
        if running is None or running.ended:
            return
        first = running.status is None
        running.status = status
        if not running.own_child:
            running.shim_pid = status.shim_pid
        if first and status.state is not ShimState.NOT_STARTED:
            self._on_event(Started(status.attempt_id, status.pid, status.exec_ns))
            if running.stop_reason and not running.own_child:
                self._signal(running, signal.SIGTERM)
        if status.ended:
            self._end(running, Observation(AttemptState.EXITED, status))

    def _settle(self, running: Running) -> None:
        """The shim is gone: what the directory says is the end."""
        if not running.ended:
            self._read_notes()  # its last words may still be in the pipe
        if self._told(running):
            self._drop(running)
            return
        seen = running.directory.observe(self._boot_id)
        if seen.state is AttemptState.VANISHED:
            running.ended = True
            task = self._loop.create_task(self._clear_away(running, seen))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        elif seen.state in (AttemptState.EXITED, AttemptState.NEVER_STARTED):
            if seen.status is not None and running.status is None:
                running.status = seen.status
                if seen.status.state is ShimState.EXITED:
                    self._on_event(
                        Started(seen.status.attempt_id, seen.status.pid, seen.status.exec_ns)
                    )
            self._end(running, seen)
        else:
            self._loop.call_later(_POLL_SECONDS, self._settle, running)

    def _told(self, running: Running) -> bool:
        return running.ended

    async def _clear_away(self, running: Running, seen: Observation) -> None:
        await asyncio.to_thread(end_leftovers, running.directory.path, running.cgroup_procs)
        running.ended = False
        self._end(running, seen)

    def _end(self, running: Running, seen: Observation) -> None:
        if running.ended:
            return
        running.ended = True
        status, directory = seen.status, running.directory
        reason, message = "", seen.message
        if seen.state is AttemptState.VANISHED:
            reason = "shim_lost"
        elif seen.state is AttemptState.NEVER_STARTED:
            reason = running.stop_reason or "start_failed"
            if running.exit_code not in (0, _SHIM_REFUSED) and not running.stop_reason:
                message = f"the supervising process ended with {running.exit_code} before the start"
        elif status is not None:
            reason, message = status.reason, status.message
        exact = status is not None and status.ended
        if exact:
            running.cgroup_procs = ()  # its shim has removed them
        event = Ended(
            attempt_id=directory.attempt_id,
            state=seen.state,
            status=status,
            reason=reason,
            message=message,
            log_bytes=status.log_bytes if status is not None and exact else directory.log_size(),
            results_bytes=directory.results_size(),
        )
        if running.pidfd < 0:
            self._drop(running)
        self._on_event(event)

    def _drop(self, running: Running) -> None:
        """Its shim is gone and its end is told."""
        if self._running.get(running.directory.attempt_id) is running:
            del self._running[running.directory.attempt_id]
        if self._cgroups is not None and running.cgroup_procs:
            self._cgroups.remove(running.cgroup_procs)
        running.cgroup_procs = ()
