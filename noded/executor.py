"""From orders to supervised processes: what this node runs, from the order's arrival until it may
be forgotten.

An attempt goes PREPARING (only with code or install steps) → RUNNING → STOPPING (if told to) →
ended. An order without
code and steps is spawned in the turn of the loop in which it arrives. Everything here happens on
the event loop; only
copying trees and removing directories go to threads. An attempt that is known is never started
again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from noded.attempt_dir import AttemptDir
from noded.builds import BuildRequest, Builds
from noded.checkpoints import LiveOutput
from noded.environments import KEY_NOTE, USER_NOTE, Environment
from noded.errors import StartFailed
from noded.model import AttemptPhase, Report
from noded.preparation import Launch, Preparation
from noded.reconcile import Observed, StopOrder
from noded.revisions import RevisionCache
from noded.telemetry.model import LiveAttempt
from noded.uids import Identity
from riseml.v1 import daemon_pb2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a launched attempt. `reason` is empty for a plain exit."""

    attempt_id: str
    start_time: float | None
    end_time: float | None
    log_bytes: int
    results_bytes: int
    exit_code: int | None = None
    exit_signal: int = 0
    reason: str = ""
    message: str = ""
    phase: AttemptPhase = AttemptPhase.EXITED


@dataclass(frozen=True, slots=True)
class Found:
    """An attempt that was launched before this daemon started."""

    attempt_id: str
    pid: int
    start_time: float | None
    gpus: tuple[tuple[str, int], ...]
    notes: dict[str, str]
    output: str = ""
    """Where it writes what it makes; empty for a build."""


class Processes(Protocol):
    """Shims and attempt directories, as the executor sees them. It hears of starts and ends by
    callbacks."""

    def make_directory(self, attempt_id: str, identity: Identity) -> AttemptDir:
        """The attempt's directory, with an empty working directory. Raises StartFailed."""
        ...

    def start(self, launch: Launch) -> None:
        """Records the intent and spawns. Raises StartFailed; then nothing runs."""
        ...

    def stop(self, attempt_id: str, grace_milliseconds: int | None, reason: str) -> None: ...

    def end_without_process(self, attempt_id: str) -> None:
        """Nothing will run: its (empty) log is complete."""
        ...

    def discard_directory(self, attempt_id: str) -> None:
        """Its directory goes, sooner or later; nothing of it is needed any more."""
        ...

    def is_shipped(self, attempt_id: str) -> bool:
        """Whether all of its output is where it should be, or nobody wants it."""
        ...


@dataclass(slots=True)
class _Attempt:
    report: Report
    gpus: tuple[tuple[str, int], ...] = ()
    pid: int = 0
    output: str = ""
    preparing: asyncio.Task[None] | None = None
    launched: bool = False
    stop: StopOrder | None = None
    forgotten: bool = False
    is_build: bool = False
    environment: Environment | None = None


class Executor:
    """All attempts of this node."""

    def __init__(
        self,
        processes: Processes,
        preparation: Preparation,
        revisions: RevisionCache,
        builds: Builds,
        report: Callable[[Report], None],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._processes = processes
        self._preparation = preparation
        self._revisions = revisions
        self._builds = builds
        self._report = report
        self._wall_clock = wall_clock
        self._attempts: dict[str, _Attempt] = {}

    # ---- what the session orders ----

    def start(self, order: daemon_pb2.AttemptOrder) -> None:
        """Starts an attempt unless it is known already. Failing to start is reported, never
        raised."""
        attempt_id = order.attempt_id
        known = self._attempts.get(attempt_id)
        if known is not None:
            self._report(known.report)
            return
        attempt = _Attempt(
            Report(attempt_id, AttemptPhase.PREPARING),
            gpus=tuple((g.gpu_uuid, g.milli) for g in order.gpus),
        )
        self._attempts[attempt_id] = attempt
        if order.revision_id or order.environment.install:
            self._report(attempt.report)
            attempt.preparing = asyncio.create_task(
                self._prepare(order, attempt), name=f"prepare {attempt_id}"
            )
            return
        try:
            identity = self._preparation.identity(order.user_name)
            directory = self._processes.make_directory(attempt_id, identity)
            self._launch(self._preparation.launch(order, directory, {}, {}), attempt)
        except StartFailed as error:
            self._fail(attempt, error.reason, str(error))
        except Exception as error:
            log.exception("starting %s failed", attempt_id)
            self._fail(attempt, StartFailed.reason, f"starting it failed: {error}")

    def stop(self, order: StopOrder) -> None:
        """Stops an attempt: what prepares is given up, what runs gets SIGTERM and its grace."""
        attempt = self._attempts.get(order.attempt_id)
        if attempt is None:
            self.report_never_started(order)
            return
        if attempt.report.phase.ended:
            self._report(attempt.report)
            return
        attempt.stop = order
        if not attempt.launched:
            if attempt.preparing is not None:
                attempt.preparing.cancel()
            self._fail(attempt, order.reason, "stopped before it had started")
            return
        self._processes.stop(order.attempt_id, order.grace_milliseconds, order.reason)
        self._change(
            attempt, replace(attempt.report, phase=AttemptPhase.STOPPING, reason=order.reason)
        )

    def report_never_started(self, order: StopOrder) -> None:
        """Says of an attempt that is unknown here that it ended; nothing is kept of it."""
        self._report(
            Report(
                order.attempt_id,
                AttemptPhase.EXITED,
                reason=order.reason,
                message="it had not started on this node",
                end_time=self._wall_clock(),
            )
        )

    def forget(self, attempt_id: str) -> None:
        """Its end is recorded: it goes once its output is shipped."""
        attempt = self._attempts.get(attempt_id)
        if attempt is not None:
            attempt.forgotten = True
            self.collect(attempt_id)

    # ---- what others ask ----

    def reports(self) -> list[Report]:
        """All that is known here, for Hello."""
        return [a.report for a in self._attempts.values()]

    def observed(self) -> dict[str, Observed]:
        """The same for reconciling."""
        return {
            i: Observed(i, ended=a.report.phase.ended, stopping=a.stop is not None)
            for i, a in self._attempts.items()
        }

    def live(self) -> list[LiveAttempt]:
        """What runs, for telemetry."""
        return [
            LiveAttempt(i, a.pid, dict(a.gpus))
            for i, a in self._attempts.items()
            if a.launched and not a.report.phase.ended
        ]

    def outputs(self) -> list[LiveOutput]:
        """Where what runs may write checkpoints."""
        return [
            LiveOutput(i, a.output, a.report.start_time)
            for i, a in self._attempts.items()
            if a.output and a.report.start_time is not None and not a.report.phase.ended
        ]

    def environments_in_use(self) -> list[Environment]:
        """Those of attempts that have not ended."""
        return [
            a.environment
            for a in self._attempts.values()
            if a.environment is not None and not a.report.phase.ended
        ]

    # ---- what processes tell ----

    def adopt(self, found: Iterable[Found]) -> None:
        """Takes over what an earlier daemon launched; for those that ended, `on_ended` follows."""
        for each in found:
            attempt = _Attempt(
                Report(each.attempt_id, AttemptPhase.RUNNING, start_time=each.start_time),
                gpus=each.gpus,
                pid=each.pid,
                output=each.output,
                launched=True,
            )
            self._attempts[each.attempt_id] = attempt
            attempt.is_build = self._builds.adopt(each.attempt_id, each.notes)
            if USER_NOTE in each.notes:
                attempt.environment = self._builds.named(
                    each.notes[USER_NOTE], each.notes[KEY_NOTE]
                )

    def on_started(self, attempt_id: str, pid: int, start_time: float) -> None:
        """The attempt's own process runs."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None or attempt.report.phase.ended:
            return
        attempt.pid = pid
        phase = AttemptPhase.RUNNING if attempt.stop is None else AttemptPhase.STOPPING
        self._change(attempt, replace(attempt.report, phase=phase, start_time=start_time))

    def on_ended(self, ending: Ending) -> None:
        """Nothing of the attempt runs any more; its log has its final length."""
        attempt = self._attempts.get(ending.attempt_id)
        if attempt is None or attempt.report.phase.ended:
            return
        reason = ending.reason or (attempt.stop.reason if attempt.stop is not None else "")
        report = Report(
            ending.attempt_id,
            ending.phase,
            reason=reason,
            message=ending.message,
            exit_code=ending.exit_code,
            exit_signal=ending.exit_signal,
            start_time=ending.start_time or attempt.report.start_time,
            end_time=ending.end_time or self._wall_clock(),
            final_log_offset=ending.log_bytes,
            final_results_offset=ending.results_bytes,
        )
        if attempt.is_build:
            report = self._builds.on_ended(report)
        self._change(attempt, report)
        self.collect(ending.attempt_id)

    def collect(self, attempt_id: str) -> None:
        """Lets an attempt go if its end is recorded and its output shipped."""
        attempt = self._attempts.get(attempt_id)
        if (
            attempt is not None
            and attempt.forgotten
            and attempt.report.phase.ended
            and self._processes.is_shipped(attempt_id)
        ):
            del self._attempts[attempt_id]
            self._processes.discard_directory(attempt_id)

    # ---- starting ----

    async def _prepare(self, order: daemon_pb2.AttemptOrder, attempt: _Attempt) -> None:
        try:
            await self._prepare_and_launch(order, attempt)
        except StartFailed as error:
            self._fail(attempt, error.reason, str(error))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.exception("preparing %s failed", order.attempt_id)
            self._fail(attempt, StartFailed.reason, f"preparing it failed: {error}")

    async def _prepare_and_launch(self, order: daemon_pb2.AttemptOrder, attempt: _Attempt) -> None:
        identity = self._preparation.identity(order.user_name)
        environment: Environment | None = None
        directory = self._processes.make_directory(order.attempt_id, identity)
        if order.revision_id:
            async with self._revisions.hold(order.revision_id, order.attempt_id) as tree:
                if order.environment.install:
                    environment = await self._builds.ensure(
                        BuildRequest(order, tree, identity), self
                    )
                await asyncio.to_thread(
                    self._revisions.copy, tree, Path(directory.work_directory), identity
                )
        elif order.environment.install:
            environment = await self._builds.ensure(BuildRequest(order, (), identity), self)
        added: dict[str, str] = {}
        notes: dict[str, str] = {}
        if environment is not None:
            attempt.environment = environment
            added = self._builds.variables(environment, identity)
            notes = {USER_NOTE: environment.user_name, KEY_NOTE: environment.key}
        self._launch(self._preparation.launch(order, directory, added, notes), attempt)
        attempt.preparing = None

    def start_build(self, launch: Launch) -> None:
        """Starts a build as an attempt of its own. Raises StartFailed when it cannot."""
        attempt = _Attempt(Report(launch.attempt_id, AttemptPhase.PREPARING), is_build=True)
        self._attempts[launch.attempt_id] = attempt
        try:
            self._launch(launch, attempt)
        except StartFailed as error:
            self._fail(attempt, error.reason, str(error))
            raise

    def fail_build(self, attempt_id: str, message: str) -> None:
        """Reports a build that could not even be tried."""
        if attempt_id not in self._attempts:
            attempt = _Attempt(Report(attempt_id, AttemptPhase.PREPARING), is_build=True)
            self._attempts[attempt_id] = attempt
            self._fail(attempt, "BUILD_FAILED", message)

    def report_of(self, attempt_id: str) -> Report | None:
        """How an attempt stands, if it is known."""
        attempt = self._attempts.get(attempt_id)
        return attempt.report if attempt is not None else None

    def make_directory(self, attempt_id: str, identity: Identity) -> AttemptDir:
        """The directory of a build that is about to be started."""
        return self._processes.make_directory(attempt_id, identity)

    def _launch(self, launch: Launch, attempt: _Attempt) -> None:
        self._processes.start(launch)
        attempt.launched = True
        attempt.output = launch.output

    def _fail(self, attempt: _Attempt, reason: str, message: str) -> None:
        """Ends an attempt of which no process was started."""
        if attempt.report.phase.ended:
            return
        self._processes.end_without_process(attempt.report.attempt_id)
        self._change(
            attempt,
            replace(
                attempt.report,
                phase=AttemptPhase.EXITED,
                reason=reason,
                message=message,
                end_time=self._wall_clock(),
            ),
        )

    def _change(self, attempt: _Attempt, report: Report) -> None:
        attempt.report = report
        self._report(report)
