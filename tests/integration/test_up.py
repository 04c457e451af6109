"""`riseml up` as a newcomer uses it: start, log in by itself, stop, and start again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 40.0
TICKING = (
    "project: tick\ntrain:\n  run: for i in 1 2 3 4 5 6 7 8 9; do echo tick $i; sleep 0.4; done\n"
)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def home() -> Iterator[Path]:
    """Where jobs of other uids get through, as pytest's own folders do not let them."""
    made = Path(tempfile.mkdtemp(prefix="riseml-up-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def environ(tmp_path: Path, home: Path) -> dict[str, str]:
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return keep | {
        "PYTHONPATH": str(ROOT),
        "RISEML_CONFIG_DIR": str(tmp_path / "config"),
        "RISEML_CACHE_DIR": str(tmp_path / "cache"),
        "RISEML_HOME": str(home),
    }


class Up:
    """One `riseml up` with what it prints."""

    def __init__(self, environ: dict[str, str], output: Path, *options: str) -> None:
        self._output = output
        with output.open("wb") as opened:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "shell", "up", "--port", "0", *options],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=opened,
                stderr=opened,
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    def wait_until_said(self, text: str) -> None:
        wait_for(
            lambda: text in self.said or self.process.poll() is not None,
            f"no {text!r}: {self.said}",
        )
        assert text in self.said, self.said

    def stop(self, number: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)


@pytest.fixture
def start(environ: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Up]]:
    begun: list[Up] = []

    def begin(*options: str) -> Up:
        begun.append(Up(environ, tmp_path / f"up-{len(begun)}.txt", *options))
        return begun[-1]

    yield begin
    for up in begun:
        with contextlib.suppress(subprocess.TimeoutExpired):
            up.stop()
        up.process.kill()


def riseml(environ: dict[str, str], *words: str, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "shell", *words],
        env=environ,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_first_start_shows_the_key_once_and_logs_the_cli_in(
    start: Callable[..., Up], environ: dict[str, str], home: Path, tmp_path: Path
) -> None:
    up = start("--simulate-gpus", "2xH100")
    up.wait_until_said("Ctrl-C stops the cluster")
    key = (home / "control" / "admin-key").read_text().strip()
    assert key in up.said and str(home) in up.said and "2 x H100 (simulated)" in up.said
    credentials = tmp_path / "config" / "credentials.json"
    assert credentials.stat().st_mode & 0o777 == 0o600
    assert (home / "control").stat().st_mode & 0o777 == 0o700
    assert json.loads(riseml(environ, "whoami", "--format", "json"))["name"] == "admin"

    second = start()
    assert second.process.wait(DEADLINE_SECONDS) == 1
    assert f"pid {up.process.pid}" in second.said

    assert up.stop() == 0
    again = start()
    again.wait_until_said("Ctrl-C stops the cluster")
    assert key not in again.said
    assert json.loads(riseml(environ, "whoami", "--format", "json"))["name"] == "admin"


def test_running_job_outlives_the_cluster_and_is_picked_up(
    start: Callable[..., Up], environ: dict[str, str], home: Path, tmp_path: Path
) -> None:
    project = tmp_path / "tick"
    project.mkdir()
    (project / "riseml.yml").write_text(TICKING)
    up = start()
    up.wait_until_said("Ctrl-C stops the cluster")
    id = riseml(environ, "train", "-d", folder=project).strip()
    wait_for(lambda: "tick 1" in riseml(environ, "logs", id), "the job does not print")
    assert up.stop(signal.SIGTERM) == 0
    assert "1 running experiment goes on" in up.said
    start().wait_until_said("Ctrl-C stops the cluster")
    lines = riseml(environ, "logs", id, "-f", "--raw").splitlines()
    assert lines == [f"tick {number}" for number in range(1, 10)]
    assert (
        json.loads(riseml(environ, "status", id, "--format", "json"))["state"] == "STATE_FINISHED"
    )


def test_killed_parts_come_back(
    start: Callable[..., Up], environ: dict[str, str], home: Path, tmp_path: Path
) -> None:
    up = start()
    up.wait_until_said("Ctrl-C stops the cluster")
    for part in json.loads((home / "up.json").read_text()):
        os.kill(part["pid"], signal.SIGKILL)
        up.wait_until_said(f"The {part['name']} died (SIGKILL)")
        up.wait_until_said(f"The {part['name']} was started again.")
    wait_for(lambda: "READY" in riseml(environ, "node", "list"), "the node does not come back")
    up.process.kill()
    up.process.wait()
    after = start()
    after.wait_until_said("Ctrl-C stops the cluster")
    assert "left behind" in after.said


def test_taken_port_is_told_with_the_reason(start: Callable[..., Up]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        up = start("--port", str(taken.getsockname()[1]))
        assert up.process.wait(DEADLINE_SECONDS) == 1
    assert "another program listens there" in up.said and "Traceback" not in up.said
