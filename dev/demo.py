"""`make demo`: what a newcomer would do, done by the installed `riseml` program, and checked.

Starts a cluster on this machine in a fresh folder, trains `examples/digits` in view, shows where
the model lies, starts a second run and kills it, prints the table, stops the cluster, and looks
whether anything of it was left. The exit status is 0 only if all of that held; else the last lines
name the step that did not.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "digits"
PROGRAM = Path(sys.executable).parent / "riseml"
MODEL = "model.joblib"
CONFIGURATION = "riseml-configuration.yml"
ADMIN = "admin"
PROJECT = "digits"

UP_SECONDS = 60.0
TRAIN_SECONDS = 900.0  # the first run fetches scikit-learn
STATE_SECONDS = 120.0
COMMAND_SECONDS = 60.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.2

Found = TypeVar("Found")


class StepFailed(Exception):
    """A step of the demo did not hold; the message says which and what was seen."""


def say(text: str) -> None:
    """The demo's own voice, apart from what `riseml` prints."""
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def until(what: str, seconds: float, look: Callable[[], Found | None]) -> Found:
    """Looks until there is something. Raises StepFailed when ``seconds`` are over."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise StepFailed(f"{what}: not within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


class Cluster:
    """`riseml up` in a folder of its own, with a CLI login of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        # The login of the person who runs the demo stays as it is.
        self.environ = {**os.environ, "RISEML_CONFIG_DIR": str(folder / "config")}
        for name in ("RISEML_SERVER", "RISEML_API_KEY", "RISEML_HOME"):
            self.environ.pop(name, None)
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()
        self._family: list[psutil.Process] = []

    def start(self) -> None:
        """Returns when `riseml up` says that it is up. Raises StepFailed."""
        command = [str(PROGRAM), "up", "--port", "0", "--home", str(self.home)]
        show(command)
        self._process = subprocess.Popen(
            command,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the demo alone, which then stops it in order
        )
        threading.Thread(target=self._relay, daemon=True).start()
        process = self._process

        def up() -> bool | None:
            if self._ready.is_set():
                return True
            if process.poll() is not None:
                raise StepFailed(f"riseml up ended with status {process.returncode}")
            return None

        until("riseml up is ready", UP_SECONDS, up)
        self._family = psutil.Process(process.pid).children(recursive=True)

    def _relay(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            print(f"  up | {line}", end="", flush=True)
            if line.startswith("Ctrl-C stops the cluster"):
                self._ready.set()

    def run(self, *words: str, seconds: float = COMMAND_SECONDS) -> None:
        """One `riseml` command that prints to this terminal. Raises StepFailed unless it is 0."""
        command = [str(PROGRAM), *words]
        show(command)
        try:
            status = subprocess.run(
                command, cwd=EXAMPLE, env=self.environ, timeout=seconds, check=False
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise StepFailed(f"riseml {words[0]}: no end after {seconds:.0f} s") from error
        if status != 0:
            raise StepFailed(f"riseml {shlex.join(words)} ended with status {status}")

    def ask(self, *words: str) -> Any:
        """What a command answers with `--format json`. Raises StepFailed."""
        answer = subprocess.run(
            [str(PROGRAM), *words, "--format", "json"],
            cwd=EXAMPLE,
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if answer.returncode != 0:
            raise StepFailed(f"riseml {shlex.join(words)} ended with status {answer.returncode}")
        try:
            return json.loads(answer.stdout)
        except ValueError as error:
            raise StepFailed(
                f"riseml {shlex.join(words)} --format json printed no JSON: {answer.stdout!r}"
            ) from error

    def state(self, id: str) -> str:
        """Such as ``RUNNING``."""
        return str(self.ask("status", id)["state"]).removeprefix("STATE_")

    def wait_for(self, id: str, wanted: str) -> None:
        """Raises StepFailed when it does not get there in time."""
        until(
            f"{id} is {wanted}", STATE_SECONDS, lambda: True if self.state(id) == wanted else None
        )

    def stop(self) -> None:
        """SIGINT, as Ctrl-C would; then nothing of it may be left. Raises StepFailed."""
        process = self._process
        if process is None:
            return
        self._process = None
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            self._family += [member for member in family if member not in self._family]
            process.send_signal(signal.SIGINT)
        try:
            status = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            raise StepFailed(f"riseml up did not stop within {STOP_SECONDS:.0f} s") from error
        finally:
            left = self._left()
            for member in left:
                member.kill()
        if left:
            raise StepFailed(f"processes were left behind: {', '.join(map(described, left))}")
        if status not in (0, 128 + signal.SIGINT):
            raise StepFailed(f"riseml up ended with status {status}")

    def _left(self) -> list[psutil.Process]:
        """The cluster's own processes, and shims or jobs that work in its home."""
        _, alive = psutil.wait_procs(self._family, timeout=5)
        for member in psutil.process_iter():
            try:
                words = member.cmdline()
                folder = member.cwd()
            except psutil.Error:
                continue
            inside = any(str(self.home) in text for text in (*words, folder))
            if inside and member.pid != os.getpid() and member not in alive:
                alive.append(member)
        return alive


def show(command: list[str]) -> None:
    """The command as one would type it."""
    print(f"$ {shlex.join(['riseml', *command[1:]])}", flush=True)


def described(process: psutil.Process) -> str:
    """Process id and command, as far as they can still be read."""
    try:
        return f"{process.pid} ({shlex.join(process.cmdline()[:6])})"
    except psutil.Error:
        return str(process.pid)


def newest(cluster: Cluster) -> str:
    """The id of the experiment that was made last."""
    experiments = cluster.ask("status", "-a")
    if not experiments:
        raise StepFailed("riseml status -a shows no experiment")
    return str(max(experiments, key=lambda experiment: int(experiment["number"]))["id"])


def expect_state(cluster: Cluster, id: str, wanted: str) -> None:
    """Raises StepFailed."""
    state = cluster.state(id)
    if state != wanted:
        raise StepFailed(f"{id} is {state}, not {wanted}")


def demonstrate(cluster: Cluster) -> None:
    """All steps while the cluster is up. Raises StepFailed."""
    say("Start a cluster: a control plane and the daemon of this machine")
    cluster.start()
    cluster.run("system", "info")

    say("Train a classifier of handwritten digits, and watch")
    cluster.run("train", seconds=TRAIN_SECONDS)
    first = newest(cluster)
    expect_state(cluster, first, "FINISHED")

    say("Here is what it made")
    number = first.removeprefix(f"{ADMIN}.")
    output = cluster.home / "output" / ADMIN / PROJECT / number
    for name in (MODEL, CONFIGURATION):
        path = output / name
        if not path.is_file() or path.stat().st_size == 0:
            raise StepFailed(f"{path} is not there, or empty")
        print(f"  {path}  {path.stat().st_size:,} bytes")
    print((output / CONFIGURATION).read_text("utf-8"), flush=True)

    say("Train once more, in the background, and kill it")
    cluster.run("train", "--detach")
    second = newest(cluster)
    if second == first:
        raise StepFailed(f"the second run is the first one, {first}")
    cluster.wait_for(second, "RUNNING")
    cluster.run("kill", second)
    cluster.wait_for(second, "KILLED")

    say("What there is now")
    cluster.run("status", "-a")
    expect_state(cluster, first, "FINISHED")


def main() -> int:
    """Runs the demo; 0 only if every step held."""
    if not PROGRAM.exists():
        print(f"{PROGRAM} is not there: run `make venv`", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="riseml-demo-"))
    # A daemon that runs as root runs jobs under other uids: they must be able to pass through.
    folder.chmod(0o711)
    cluster = Cluster(folder)
    failures: list[str] = []
    interrupted = False
    began = time.monotonic()
    try:
        demonstrate(cluster)
    except StepFailed as error:
        failures.append(str(error))
    except KeyboardInterrupt:
        interrupted = True
    say("Stop the cluster")
    try:
        cluster.stop()
    except StepFailed as error:
        failures.append(str(error))
    if interrupted:
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    if failures:
        for failure in failures:
            print(f"demo FAILED: {failure}", file=sys.stderr)
        print(f"Its folder was kept: {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    say(f"All steps held, in {time.monotonic() - began:.0f} s; nothing was left behind.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
