"""How a job ends under the real shim, and what it may see and do."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from noded.attempt_dir import AttemptState
from noded.cgroups import CgroupsV1, Limits, Support, detect
from noded.launch import Started
from noded.shim.status import ShimState
from tests.integration.shim_node import (
    Node,
    exists,
    log_of,
    needs_shim,
    output_of,
    read,
    running_node,
    until,
)

pytestmark = needs_shim


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path / "attempts") as node:
        yield node


async def test_exit_code_output_and_times_are_exact(node: Node) -> None:
    before = time.time_ns()
    directory = node.shell("echo out; echo err >&2; exit 3")
    started, ended = await node.started(), await node.ended()
    assert (ended.state, ended.reason) == (AttemptState.EXITED, "")
    status = ended.status
    assert status is not None and (status.exit_code, status.exit_signal) == (3, 0)
    assert before <= started.exec_ns <= status.end_ns <= time.time_ns()
    assert output_of(directory) == {"stdout": b"out\n", "stderr": b"err\n"}
    assert ended.log_bytes == len(log_of(directory))
    assert directory.read_status() == status


async def test_a_signal_that_ends_the_job_is_named(node: Node) -> None:
    node.shell("kill -SEGV $$")
    status = (await node.ended()).status
    assert status is not None and (status.exit_code, status.exit_signal) == (0, signal.SIGSEGV)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("/nowhere/at/all",), "could not execute /nowhere/at/all: No such file or directory"),
        (("no-such-program",), "could not execute no-such-program: No such file or directory"),
        (("/etc/passwd",), "could not execute /etc/passwd: Permission denied"),
        (("/tmp",), "could not execute /tmp: Permission denied"),
    ],
)
async def test_a_failed_exec_says_exactly_why(
    node: Node, argv: tuple[str, ...], message: str
) -> None:
    node.start(*argv)
    ended = await node.ended()
    assert ended.status is not None and ended.status.state is ShimState.NOT_STARTED
    assert (ended.reason, ended.message) == ("exec_failed", message)
    assert not any(isinstance(event, Started) for event in node.events)


async def test_a_missing_working_directory_is_named(node: Node) -> None:
    node.start("true", cwd="/nowhere/at/all")
    ended = await node.ended()
    assert ended.reason == "start_failed"
    assert ended.message == "could not enter its working directory: No such file or directory"


async def test_a_job_sees_a_clean_world(node: Node) -> None:
    """Nothing of the daemon's leaks: descriptors, signals, terminal, variables."""
    script = (
        "import os, signal, sys\n"
        "fds = sorted(int(f) for f in os.listdir('/proc/self/fd'))\n"
        "status = dict(l.split(':', 1) for l in open('/proc/self/status'))\n"
        "print(fds[:3], [f for f in fds if f > 2 and os.path.exists(f'/proc/self/fd/{f}')])\n"
        "print(status['SigBlk'].strip(), status['NoNewPrivs'].strip())\n"
        "print(os.getsid(0) == os.getpid() == os.getpgrp(), os.readlink('/proc/self/fd/0'))\n"
        "print(sorted(k for k in os.environ if k != 'LC_CTYPE'))\n"
    )
    directory = node.start(sys.executable, "-I", "-c", script, env={"A": "1"})
    await node.ended()
    assert output_of(directory)["stdout"].decode().splitlines() == [
        "[0, 1, 2] []",
        "0000000000000000 1",
        "True /dev/null",
        "['A', 'RISEML_ATTEMPT_DIR', 'RISEML_ATTEMPT_ID']",
    ]


async def test_ignored_signals_of_the_daemon_are_not_handed_on(node: Node) -> None:
    directory = node.start("grep", "SigIgn", "/proc/self/status")  # Python ignores SIGPIPE
    await node.ended()
    ignored = int(output_of(directory)["stdout"].split()[1], 16)
    assert ignored & 0x7FFFFFFF == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
async def test_a_job_is_its_user_and_nobody_else() -> None:
    base = tempfile.mkdtemp()  # pytest's own folder is closed to other users
    os.chmod(base, 0o755)
    try:
        node = Node(Path(base, "attempts"))
        directory = node.shell(
            "id -u; id -g; id -G; umask; touch mine; cat ../spec; ls ..; ls ../log; ulimit -n",
            uid=23_456, gid=23_457, groups=(23_458,), umask=0o027,
            rlimits=((resource.RLIMIT_NOFILE, 128, 128),),
        )  # fmt: skip
        await node.ended()
        output = output_of(directory)
        assert output["stdout"].split() == [b"23456", b"23457", b"23457", b"23458", b"0027", b"128"]
        assert output["stderr"].count(b"Permission denied") == 3
        assert os.stat(directory.work_directory + "/mine").st_uid == 23_456
        await until(lambda: not node.supervisor.running, "the shim gone")
        await node.supervisor.close()
    finally:
        shutil.rmtree(base)


async def test_a_refused_limit_ends_the_job_and_is_named(tmp_path: Path) -> None:
    groups = CgroupsV1({"memory": tmp_path / "base"}, Support(1, {}))  # no such file is there
    node = Node(tmp_path / "attempts", cgroups=groups)
    node.start("sleep", "600", limits=Limits(memory_bytes=1 << 30))
    ended = await node.ended()
    assert ended.reason == "start_failed"
    file = f"{tmp_path}/base/ana.1.train.1-1/memory.limit_in_bytes"
    assert ended.message == (
        f"could not enter its control group: {file}"[:185] + ": No such file or directory"
    )
    assert not exists(str(tmp_path / "base/ana.1.train.1-1"))
    await until(lambda: not node.supervisor.running, "the shim gone")
    await node.supervisor.close()


async def test_what_a_killed_shim_left_of_its_groups_goes_too(tmp_path: Path) -> None:
    groups = detect(f"test-{os.getpid()}")
    node = Node(tmp_path / "attempts", cgroups=groups)
    limits = Limits(cpu_milli=500, memory_bytes=64 << 20, max_processes=100)
    directory = node.start("sleep", "600", limits=limits)
    started = await node.started()
    intent = directory.read_intent()
    assert intent is not None
    pid = str(started.pid)
    await until(lambda: all(pid in read(p).split() for p in intent.cgroup_procs if exists(p))
                and all(exists(p) for p in intent.cgroup_procs), "it is in its groups")  # fmt: skip
    os.kill(node.supervisor.running["ana.1.train.1-1"].shim_pid, signal.SIGKILL)
    assert (await node.ended()).state is AttemptState.VANISHED
    await until(lambda: not node.supervisor.running, "the shim gone")
    assert not any(exists(os.path.dirname(procs)) for procs in intent.cgroup_procs)
    await node.supervisor.close()


async def test_limits_hold_where_the_system_permits_them(tmp_path: Path) -> None:
    name = f"test-{os.getpid()}"
    groups = detect(name)
    node = Node(tmp_path / "attempts", cgroups=groups)
    bases: list[str] = []
    try:
        if "memory" not in groups.support.controllers:
            pytest.skip(groups.support.describe())
        directory = node.start(
            sys.executable, "-I", "-c", "b'x' * (300 << 20)",
            limits=Limits(cpu_milli=500, memory_bytes=64 << 20, max_processes=100),
        )  # fmt: skip
        intent = directory.read_intent()
        assert intent is not None
        bases = [os.path.dirname(os.path.dirname(procs)) for procs in intent.cgroup_procs]
        ended = await node.ended()
        assert ended.status is not None and ended.status.oom_kills >= 1
        assert ended.status.exit_signal == signal.SIGKILL
        await until(lambda: not node.supervisor.running, "the shim gone")
        assert not any(exists(procs) for procs in intent.cgroup_procs)
    finally:
        await node.supervisor.close()
    assert not any(exists(base) for base in bases), "the daemon leaves no groups of its own"
