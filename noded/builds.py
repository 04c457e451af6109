"""Builds of environments: one at a time for each environment, whoever waits for it.

The first order that needs an environment starts its build, as an attempt that ships its output;
orders that need the
same one meanwhile wait for that build. Where it exists already, the order's build attempt says so
in one line.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from noded.attempt_dir import AttemptDir
from noded.environments import (
    KEY_NOTE,
    USER_NOTE,
    Environment,
    Environments,
    build_script,
    environment_variables,
    find_python,
)
from noded.errors import BuildFailed, StartFailed
from noded.model import Report
from noded.preparation import Launch, Preparation
from noded.reconcile import StopOrder
from noded.revisions import RevisionCache
from noded.trees import TreeFile
from noded.uids import Identity
from riseml.v1 import daemon_pb2

log = logging.getLogger(__name__)

STEPS_NOTE: Final = "build_steps"


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """An order that needs an environment, and the tree that its steps run in."""

    order: daemon_pb2.AttemptOrder
    tree: tuple[TreeFile, ...]
    identity: Identity


class BuildRunner(Protocol):
    """Runs builds as attempts."""

    def make_directory(self, attempt_id: str, identity: Identity) -> AttemptDir: ...

    def start_build(self, launch: Launch) -> None: ...

    def fail_build(self, attempt_id: str, message: str) -> None: ...

    def stop(self, order: StopOrder) -> None: ...

    def report_of(self, attempt_id: str) -> Report | None: ...


@dataclass(slots=True)
class _Running:
    environment: Environment
    build_attempt_id: str
    steps: Sequence[str]
    done: asyncio.Future[str]
    """Empty when it went through, else what went wrong."""
    waiting: int = 0


class Builds:
    """The builds of one node."""

    def __init__(
        self,
        environments: Environments,
        preparation: Preparation,
        revisions: RevisionCache,
        last_lines: Callable[[str], str],
    ) -> None:
        self._environments = environments
        self._preparation = preparation
        self._revisions = revisions
        self._last_lines = last_lines
        self._running: dict[Path, _Running] = {}
        self._by_attempt: dict[str, _Running] = {}

    async def ensure(self, request: BuildRequest, runner: BuildRunner) -> Environment:
        """The environment, once it is there. Raises BuildFailed."""
        order = request.order
        build_id = order.environment.build_attempt_id
        if not build_id:
            raise BuildFailed("the order has install steps but names no build attempt")
        try:
            environment = self._describe(request)
        except StartFailed as error:
            runner.fail_build(build_id, str(error))
            raise
        while True:
            running = self._running.get(environment.path)
            if running is None:
                built_time = self._environments.built_time(environment)
                if built_time is not None:
                    self._say_cached(request, environment, built_time, runner)
                    return environment
                earlier = runner.report_of(build_id)
                if earlier is not None and earlier.phase.ended:
                    raise BuildFailed(earlier.message or "the environment could not be built")
                running = await self._begin(request, environment, runner)
            problem = await self._wait(running, runner)
            if problem and running.build_attempt_id == build_id:
                raise BuildFailed(problem)

    def variables(self, environment: Environment, identity: Identity) -> dict[str, str]:
        """The variables that select it."""
        return dict(environment_variables(environment, self._preparation.path(identity)))

    def named(self, user_name: str, key: str) -> Environment:
        """An environment by its key."""
        return self._environments.named(user_name, key)

    async def collect(self, in_use: Iterable[Environment]) -> None:
        """Removes environments that are too old or too much, but none of these or being built."""
        kept = [*in_use, *(r.environment for r in self._running.values())]
        for environment in await asyncio.to_thread(self._environments.collect, kept):
            log.info("removed environment %s of %s", environment.key, environment.user_name)

    def _describe(self, request: BuildRequest) -> Environment:
        python = find_python(
            self._preparation.python,
            request.identity,
            self._preparation.path(request.identity),
        )
        order = request.order
        return self._environments.describe(
            order.user_name, order.environment.install, python, request.tree, self._revisions.read
        )

    async def _begin(
        self, request: BuildRequest, environment: Environment, runner: BuildRunner
    ) -> _Running:
        order = request.order
        build_id = order.environment.build_attempt_id
        steps = list(order.environment.install)
        running = _Running(environment, build_id, steps, asyncio.get_running_loop().create_future())
        # Whoever comes and goes meanwhile must not stop what is only being started.
        running.waiting += 1
        self._running[environment.path] = running
        self._by_attempt[build_id] = running
        try:
            directory = runner.make_directory(build_id, request.identity)
            await asyncio.to_thread(self._environments.prepare, environment, request.identity)
            if request.tree:
                await asyncio.to_thread(
                    self._revisions.copy,
                    request.tree,
                    Path(directory.work_directory),
                    request.identity,
                )
            path = self._preparation.path(request.identity)
            notes = {
                USER_NOTE: order.user_name,
                KEY_NOTE: environment.key,
                STEPS_NOTE: json.dumps(steps),
            }
            launch = self._preparation.build_launch(
                order,
                directory,
                build_script(environment, steps),
                environment_variables(environment, path),
                notes,
            )
            runner.start_build(launch)
        except BaseException as error:
            self._finish(running, f"the build could not be started: {error}")
            if isinstance(error, OSError):
                runner.fail_build(build_id, f"the build could not be started: {error}")
                raise BuildFailed(f"the build could not be started: {error}") from error
            if isinstance(error, StartFailed):
                runner.fail_build(build_id, str(error))
            raise
        finally:
            running.waiting -= 1
        return running

    async def _wait(self, running: _Running, runner: BuildRunner) -> str:
        running.waiting += 1
        try:
            return await asyncio.shield(running.done)
        finally:
            running.waiting -= 1
            if not running.waiting and not running.done.done():
                # Everybody who wanted it was stopped.
                runner.stop(StopOrder(running.build_attempt_id, "not_needed", 0))

    def _say_cached(
        self,
        request: BuildRequest,
        environment: Environment,
        built_time: float,
        runner: BuildRunner,
    ) -> None:
        order = request.order
        build_id = order.environment.build_attempt_id
        if runner.report_of(build_id) is not None:
            return
        when = datetime.fromtimestamp(built_time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        launch = self._preparation.build_launch(
            order, runner.make_directory(build_id, request.identity), "", {}, {}
        )
        line = f"environment {environment.key} is cached, built {when}"
        runner.start_build(self._preparation.note_launch(launch, line))

    def adopt(self, attempt_id: str, notes: Mapping[str, str]) -> bool:
        """Whether an attempt that an earlier daemon launched is a build; if so it is waited for
        again."""
        if STEPS_NOTE not in notes:
            return False
        environment = self._environments.named(notes[USER_NOTE], notes[KEY_NOTE])
        steps = json.loads(notes[STEPS_NOTE])
        done = asyncio.get_running_loop().create_future()
        running = _Running(environment, attempt_id, steps, done)
        self._running[environment.path] = running
        self._by_attempt[attempt_id] = running
        return True

    def on_ended(self, report: Report) -> Report:
        """A build's attempt ended: completes its environment, or says in the report why it could
        not."""
        running = self._by_attempt.get(report.attempt_id)
        if running is None:
            return report
        if report.exit_code == 0 and not report.exit_signal:
            try:
                self._environments.complete(running.environment, running.steps)
            except OSError as error:
                problem = f"the environment could not be marked complete: {error}"
                self._finish(running, problem)
                return replace(report, reason="BUILD_FAILED", message=problem)
            self._finish(running, "")
            return report
        problem = self._describe_failure(report)
        self._finish(running, problem)
        return replace(report, reason=report.reason or "BUILD_FAILED", message=problem)

    def _describe_failure(self, report: Report) -> str:
        if report.exit_signal:
            how = f"was ended by signal {report.exit_signal}"
        else:
            how = f"failed with exit code {report.exit_code}"
        if report.reason:
            how += f" ({report.reason})"
        if report.message:
            how += f": {report.message}"
        lines = self._last_lines(report.attempt_id)
        # The first line says it all: what has room for one line shows no more.
        return f"the build of the environment {how}" + (f"\n{lines}" if lines else "")

    def _finish(self, running: _Running, problem: str) -> None:
        self._running.pop(running.environment.path, None)
        self._by_attempt.pop(running.build_attempt_id, None)
        if not running.done.done():
            running.done.set_result(problem)
