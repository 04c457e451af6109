"""The daemon comes and goes, and shims die: jobs are found again or their end is told."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from noded.attempt_dir import AttemptDir, AttemptState
from noded.errors import StartFailed
from tests.integration.shim_node import (
    Node,
    alive,
    log_of,
    needs_shim,
    output_of,
    read,
    touch,
    until,
    written,
)

pytestmark = needs_shim


ROOT = Path(__file__).parents[2]

SPAWNER = """
import asyncio, sys
from pathlib import Path
from noded.launch import LaunchRequest, Started
from noded.supervisor import Supervisor

async def main():
    told = asyncio.Event()
    supervisor = Supervisor(Path(sys.argv[1]), lambda event: told.set())
    request = LaunchRequest("ana.1.train.1-1", ("sh", "-c", sys.argv[2]), {"PATH": "/usr/bin:/bin"})
    supervisor.start(request)
    if sys.argv[3] == "started":
        await told.wait()
    print("up", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def killed_daemon(root: Path, script: str, *, when: str = "started") -> None:
    """Starts an attempt from another process, in the foreground as of `riseml up`, and kills it."""
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SPAWNER, str(root), script, when,
        cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert daemon.stdout is not None
    assert await daemon.stdout.readline() == b"up\n"
    os.killpg(daemon.pid, signal.SIGINT)
    os.killpg(daemon.pid, signal.SIGKILL)
    await daemon.wait()


@pytest.mark.parametrize("use_pidfd", [True, False])
@pytest.mark.parametrize("when", ["started", "at once"])
async def test_a_job_outlives_its_daemon_and_is_found_again(
    tmp_path: Path, use_pidfd: bool, when: str
) -> None:
    root = tmp_path / "attempts"
    script = "for i in 1 2 3; do echo $i; sleep 0.1; done; while [ ! -e go ]; do sleep 0.01; done"
    await killed_daemon(root, script + "; exit 9", when=when)
    node = Node(root, use_pidfd=use_pidfd)
    (adopted,) = node.supervisor.adopt()
    if adopted.observation.state is AttemptState.NEVER_STARTED:
        assert when == "at once"  # killed before the shim was up: it may be started anew
        await node.supervisor.close()
        return
    assert adopted.observation.state in (AttemptState.STARTING, AttemptState.RUNNING)
    assert node.supervisor.adopt() == []
    touch(adopted.directory.work_directory, "go")
    ended = await node.ended()
    assert (ended.state, ended.log_bytes) == (
        AttemptState.EXITED,
        len(log_of(adopted.directory)),
    )
    assert ended.status is not None and ended.status.exit_code == 9
    assert output_of(adopted.directory)["stdout"] == b"1\n2\n3\n"
    await until(lambda: not node.supervisor.running, "nothing watched")
    await node.supervisor.close()


async def test_an_end_while_nobody_looked_is_told_at_adoption(tmp_path: Path) -> None:
    root = tmp_path / "attempts"
    await killed_daemon(root, "exit 4")
    directory = AttemptDir(str(root / "ana.1.train.1-1"))
    await until(lambda: (s := directory.read_status()) is not None and s.ended, "its end")
    node = Node(root)
    (adopted,) = node.supervisor.adopt()
    assert adopted.observation.state is AttemptState.EXITED
    assert adopted.observation.status is not None
    assert adopted.observation.status.exit_code == 4
    with pytest.raises(StartFailed, match="started"):
        node.start("true")
    await node.supervisor.close()


async def test_an_adopted_job_can_be_stopped(tmp_path: Path) -> None:
    root = tmp_path / "attempts"
    await killed_daemon(root, "trap 'exit 6' TERM; while :; do sleep 0.01; done")
    node = Node(root)
    node.supervisor.adopt()
    node.supervisor.stop("ana.1.train.1-1", None, "killed")
    ended = await node.ended()
    assert (ended.reason, ended.state) == ("killed", AttemptState.EXITED)
    await until(lambda: not node.supervisor.running, "nothing watched")
    await node.supervisor.close()


@pytest.mark.parametrize("adopted", [False, True])
async def test_what_a_killed_shim_leaves_is_ended_and_told(tmp_path: Path, adopted: bool) -> None:
    root = tmp_path / "attempts"
    script = "(setsid sleep 600 & echo $! > pid); echo hi; sleep 600"
    node = Node(root)
    if adopted:
        await killed_daemon(root, script)
        node.supervisor.adopt()
        directory = AttemptDir(str(root / "ana.1.train.1-1"))
    else:
        directory = node.shell(script)
        await node.started()
    pid_file = directory.work_directory + "/pid"
    await until(lambda: written(pid_file), "the orphan's pid")
    await until(lambda: output_of(directory)["stdout"] == b"hi\n", "hi")
    running = node.supervisor.running["ana.1.train.1-1"]
    os.kill(running.shim_pid, signal.SIGKILL)
    ended = await node.ended()
    assert (ended.state, ended.reason) == (AttemptState.VANISHED, "shim_lost")
    assert ended.log_bytes == len(log_of(directory))
    assert not alive(int(read(pid_file)))
    assert ended.status is not None and not alive(ended.status.pid)
    await node.supervisor.close()


async def test_a_missing_shim_is_a_clear_error(tmp_path: Path) -> None:
    node = Node(tmp_path / "attempts", program=tmp_path / "gone")
    with pytest.raises(StartFailed, match="reinstall"):
        node.start("true")
    assert node.supervisor.running == {}
    await node.supervisor.close()
