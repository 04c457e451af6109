"""Joins the executor with the supervisor's shims and with what ships their output."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

from noded.attempt_dir import AttemptDir, AttemptState, disk_refused
from noded.cgroups import Cgroups, Limits
from noded.errors import StartFailed
from noded.executor import Ending, Found
from noded.launch import Ended, Event, LaunchRequest, Started
from noded.model import AttemptPhase
from noded.preparation import Launch
from noded.shim.spec import Intent
from noded.shim.status import ShimState
from noded.skeletons import Skeletons, attempt_skeleton
from noded.supervisor import Supervisor
from noded.uids import Identity

log = logging.getLogger(__name__)

GPUS_NOTE: Final = "gpus"
OUTPUT_NOTE: Final = "output"
SECRETS_NOTE: Final = "secrets"
REMOVED: Final = "removed"
_REMOVE_SECONDS: Final = 0.1
_REMOVED_AT_ONCE: Final = 64
MAX_PROCESSES: Final = 32_768

_REASONS: Final = {
    "exec_failed": "EXEC_FAILED",
    "start_failed": "EXEC_FAILED",
    "log_failed": "NO_SPACE",
    "no_contact": "NO_CONTACT",
    "shim_lost": "SHIM_LOST",
}


class Output(Protocol):
    """Ships what attempts write."""

    def follow(self, directory: AttemptDir, secrets: tuple[str, ...]) -> None:
        """From now on, from where the control plane has it."""
        ...

    def complete(self, attempt_id: str, log_bytes: int, results_bytes: int) -> None:
        """Nothing is written any more; these are the final lengths."""
        ...

    def is_shipped(self, attempt_id: str) -> bool: ...

    def drop(self, attempt_id: str) -> None:
        """Its files are about to go."""
        ...


class ShimProcesses:
    """Shims under one supervisor, their directories and their output."""

    def __init__(self, root: Path, output: Output, cgroups: Cgroups) -> None:
        # An attempt that is to start waits for no disk: making and removing is this thread's.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="directories")
        self._skeletons = Skeletons(root.parent / "prepared", attempt_skeleton, self._thread)
        self._removed = root.parent / REMOVED
        self._removed.mkdir(mode=0o700, exist_ok=True)
        self._counter = 0
        self._to_remove: deque[str] = deque()
        self._loop = asyncio.get_running_loop()
        self._output = output
        self._supervisor = Supervisor(root, self._on_event, cgroups=cgroups)
        self._on_started: Callable[[str, int, float], None] = lambda *_: None
        self._on_ended: Callable[[Ending], None] = lambda _: None

    def listen(
        self,
        on_started: Callable[[str, int, float], None],
        on_ended: Callable[[Ending], None],
    ) -> None:
        """Who hears of starts and ends."""
        self._on_started = on_started
        self._on_ended = on_ended

    def contact(self, boot_time_ns: int) -> None:
        """The control plane knew of us at that time (CLOCK_BOOTTIME)."""
        self._supervisor.contact(boot_time_ns)

    def make_directory(self, attempt_id: str, identity: Identity) -> AttemptDir:
        directory = self._supervisor.directory(attempt_id)
        try:
            if os.path.exists(directory.path) or self._skeletons.take(directory.path, identity):
                return directory
        except OSError as error:
            raise disk_refused(directory.path, error) from error
        directory.make(*_owner(identity))
        return directory

    def start(self, launch: Launch) -> None:
        uid, gid = _owner(launch.identity)
        running = self._supervisor.start(
            LaunchRequest(
                attempt_id=launch.attempt_id,
                argv=launch.argv,
                env=launch.variables,
                grace_ms=launch.grace_milliseconds,
                uid=uid,
                gid=gid,
                limits=Limits(launch.cpu_milli, launch.memory_bytes, MAX_PROCESSES),
                contact_timeout_ms=launch.contact_timeout_milliseconds,
                notes={
                    **launch.notes,
                    GPUS_NOTE: json.dumps(launch.gpus),
                    OUTPUT_NOTE: launch.output,
                    SECRETS_NOTE: json.dumps(launch.secret_names),
                },
            )
        )
        secrets = _secrets(launch.variables, launch.secret_names)
        self._output.follow(running.directory, secrets)

    def stop(self, attempt_id: str, grace_milliseconds: int | None, reason: str) -> None:
        try:
            self._supervisor.stop(attempt_id, grace_milliseconds, reason)
        except OSError as error:
            log.error("%s is stopped with its own grace: %s", attempt_id, error)

    def end_without_process(self, attempt_id: str) -> None:
        try:
            directory = self._supervisor.directory(attempt_id)
        except StartFailed:
            return
        self._output.follow(directory, ())
        self._output.complete(attempt_id, directory.log_size(), directory.results_size())

    def is_shipped(self, attempt_id: str) -> bool:
        return self._output.is_shipped(attempt_id)

    def discard_directory(self, attempt_id: str) -> None:
        self._output.drop(attempt_id)
        with contextlib.suppress(FileNotFoundError, StartFailed):
            directory = self._supervisor.directory(attempt_id)
            # Away at once: a crash in the middle leaves nothing that looks like an attempt.
            self._counter += 1
            removed = f"{self._removed}/{os.getpid()}-{self._counter}"
            os.rename(directory.path, removed)
            if not self._to_remove:
                self._loop.call_later(_REMOVE_SECONDS, self._remove_some)
            self._to_remove.append(removed)

    def adopt(self) -> tuple[list[Found], list[Ending]]:
        """What an earlier daemon left: all that was started, and the ends that nobody has heard of.

        What was never started goes: it is started anew if it is still wanted. Ends of killed shims
        follow as events.
        """
        self._to_remove.extend(str(leftover) for leftover in self._removed.iterdir())
        self._remove_some()
        found, endings = [], []
        for adopted in self._supervisor.adopt():
            directory, intent, seen = adopted.directory, adopted.intent, adopted.observation
            attempt_id = directory.attempt_id
            if seen.state is AttemptState.NEVER_STARTED or intent is None:
                self.discard_directory(attempt_id)
                continue
            status = seen.status
            started = status is not None and status.state is not ShimState.NOT_STARTED
            found.append(
                Found(
                    attempt_id,
                    status.pid if status is not None else 0,
                    status.exec_ns / 1e9 if status is not None and started else None,
                    tuple((u, m) for u, m in json.loads(intent.notes.get(GPUS_NOTE, "[]"))),
                    dict(intent.notes),
                    intent.notes.get(OUTPUT_NOTE, ""),
                )
            )
            self._output.follow(directory, _secrets_of(intent))
            if seen.state is AttemptState.EXITED:
                ended = Ended(
                    attempt_id,
                    seen.state,
                    status,
                    status.reason if status is not None else "",
                    status.message if status is not None else "",
                    status.log_bytes if status is not None else directory.log_size(),
                    directory.results_size(),
                )
                self._output.complete(attempt_id, ended.log_bytes, ended.results_bytes)
                endings.append(ending_of(ended))
        return found, endings

    def _remove_some(self) -> None:
        """Not one by one, which would cost a wake of the thread for each; not all at once, which
        would keep those waiting who need new directories."""
        some = [
            self._to_remove.popleft() for _ in range(min(_REMOVED_AT_ONCE, len(self._to_remove)))
        ]
        with contextlib.suppress(RuntimeError):  # closing: the next daemon removes them
            self._thread.submit(_remove_trees, some)
        if self._to_remove:
            self._loop.call_later(_REMOVE_SECONDS, self._remove_some)

    async def close(self) -> None:
        """Lets go of the shims; jobs go on."""
        await self._supervisor.close()
        while self._to_remove:
            self._thread.submit(_remove_tree, self._to_remove.popleft())
        await asyncio.to_thread(self._thread.shutdown)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Started):
            self._on_started(event.attempt_id, event.pid, event.exec_ns / 1e9)
            return
        self._output.complete(event.attempt_id, event.log_bytes, event.results_bytes)
        self._on_ended(ending_of(event))


def ending_of(event: Ended) -> Ending:
    """The end in the words of reports. Pure."""
    status = event.status
    started = status is not None and status.state is not ShimState.NOT_STARTED
    exited = event.state is AttemptState.EXITED and started
    signal_number = status.exit_signal if status is not None and exited else 0
    code = status.exit_code if status is not None and exited and not signal_number else None
    reason = _REASONS.get(event.reason, event.reason)
    message = event.message
    killed = signal_number == signal.SIGKILL or code == 128 + signal.SIGKILL
    if status is not None and status.oom_kills and (killed or code):
        reason = "OOM_KILLED"
        message = "it used more memory than `mem` allows; ask for more in riseml.yml"
    elif reason == "NO_CONTACT":
        message = "stopped by its node, which had lost contact with the control plane for too long"
    if status is not None and status.lost_bytes:
        lost = f"{status.lost_bytes} bytes of its output were lost, the node's disk was full"
        message = f"{message}; {lost}" if message else lost
    return Ending(
        attempt_id=event.attempt_id,
        start_time=status.exec_ns / 1e9 if status is not None and started else None,
        end_time=status.end_ns / 1e9 if status is not None and status.end_ns else None,
        log_bytes=event.log_bytes,
        results_bytes=event.results_bytes,
        exit_code=code,
        exit_signal=signal_number,
        reason=reason,
        message=message,
        phase=AttemptPhase.LOST if event.state is AttemptState.VANISHED else AttemptPhase.EXITED,
    )


def _owner(identity: Identity) -> tuple[int | None, int | None]:
    return (identity.uid, identity.gid) if identity.separate else (None, None)


def _secrets(variables: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(variables[name] for name in names if variables.get(name))


def _secrets_of(intent: Intent) -> tuple[str, ...]:
    return _secrets(intent.env, tuple(json.loads(intent.notes.get(SECRETS_NOTE, "[]"))))


def _remove_trees(paths: Sequence[str]) -> None:
    for path in paths:
        _remove_tree(path)


def _remove_tree(path: str) -> None:
    """Also what a job made unreadable for its own user, where the daemon is that user."""

    def unlock(function: object, failed: str, _: object) -> None:
        with contextlib.suppress(OSError):
            os.chmod(os.path.dirname(failed), 0o700)
            os.chmod(failed, 0o700)
            if os.path.isdir(failed):
                shutil.rmtree(failed, ignore_errors=True)
            else:
                os.unlink(failed)

    shutil.rmtree(path, onerror=unlock)
    with contextlib.suppress(OSError):
        shutil.rmtree(path)
