"""Stopping jobs under the real shim: grace, force, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from noded.launch import Ended
from tests.integration.shim_node import (
    Node,
    alive,
    needs_shim,
    output_of,
    read,
    running_node,
    touch,
    until,
    written,
)

pytestmark = needs_shim


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path / "attempts") as node:
        yield node


async def test_grace_is_given_and_the_reason_kept(node: Node) -> None:
    directory = node.shell("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done")
    await until(lambda: b"ready" in output_of(directory)["stdout"], "ready")
    assert node.supervisor.stop("ana.1.train.1-1", 5_000, "preempted")
    ended = await node.ended()
    assert ended.reason == "preempted"
    assert ended.status is not None and ended.status.exit_code == 7
    assert output_of(directory)["stdout"] == b"ready\nbye\n"


async def test_who_ignores_sigterm_is_killed_after_the_grace(node: Node) -> None:
    directory = node.shell("trap '' TERM; echo ready; while :; do sleep 0.01; done")
    await until(lambda: b"ready" in output_of(directory)["stdout"], "ready")
    asked = time.monotonic()
    node.supervisor.stop("ana.1.train.1-1", 300, "killed")
    ended = await node.ended()
    assert time.monotonic() - asked >= 0.3
    assert ended.status is not None and ended.status.exit_signal == signal.SIGKILL


async def test_a_second_stop_can_only_come_sooner(node: Node) -> None:
    directory = node.shell("trap '' TERM; echo ready; while :; do sleep 0.01; done")
    await until(lambda: b"ready" in output_of(directory)["stdout"], "ready")
    node.supervisor.stop("ana.1.train.1-1", 60_000, "preempted")
    node.supervisor.stop("ana.1.train.1-1", 0, "killed")
    assert (await node.ended()).reason == "preempted"


async def test_a_stop_right_after_the_start_is_not_lost(node: Node) -> None:
    for number in range(20):
        attempt_id = f"ana.{number}.train.1-1"
        node.start("sleep", "60", attempt_id=attempt_id)
        node.supervisor.stop(attempt_id, None, "killed")
        ended = await node.ended(attempt_id)
        assert ended.reason == "killed"


async def test_a_stopped_process_still_gets_its_sigterm(node: Node) -> None:
    node.shell("kill -STOP $$")
    started = await node.started()
    await until(lambda: " T " in Path(f"/proc/{started.pid}/stat").read_text(), "stopped")
    node.supervisor.stop("ana.1.train.1-1", 10_000, "killed")
    status = (await node.ended()).status
    assert status is not None and status.exit_signal == signal.SIGTERM


async def test_daemons_that_a_job_leaves_do_not_outlive_it(node: Node) -> None:
    directory = node.shell(
        "(setsid sh -c 'trap \"\" TERM HUP; echo $$ > deaf; exec >/dev/null 2>&1; sleep 600' &)\n"
        "(setsid sh -c 'echo $$ > kind; sleep 600' &)\n"
        "while [ ! -s deaf ] || [ ! -s kind ]; do sleep 0.01; done",
    )
    ended = await node.ended()
    assert ended.status is not None and ended.status.exit_code == 0
    for name in ("deaf", "kind"):
        assert not alive(int(read(directory.work_directory, name)))


def environ_of(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "environ").read_bytes()
    except OSError:
        return b""


async def test_a_fork_storm_is_ended(node: Node) -> None:
    storm = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "print('ready', flush=True)\n"
        "end = time.monotonic() + 30\n"
        "while time.monotonic() < end:\n"
        "    if os.fork():\n"
        "        time.sleep(0.005)\n"  # the older one ends: there is never one to hold on to
        "        if os.getpid() != os.getsid(0): os._exit(0)\n"
        "    elif os.fork() == 0:\n"
        "        os.setsid()\n"
        "        time.sleep(30)\n"
    )
    directory = node.start(sys.executable, "-I", "-c", storm)
    await until(lambda: b"ready" in output_of(directory)["stdout"], "ready")
    node.supervisor.stop("ana.1.train.1-1", 50, "killed")
    await node.ended()
    mark = f"RISEML_ATTEMPT_DIR={directory.path}".encode()
    assert [pid for pid in os.listdir("/proc") if pid.isdigit() and mark in environ_of(pid)] == []


async def test_a_stranger_who_holds_the_pipe_does_not_hold_up_the_end(
    node: Node, tmp_path: Path
) -> None:
    directory = node.shell("echo $$ > pid; while [ ! -e go ]; do sleep 0.01; done; echo bye")
    pid_file = directory.work_directory + "/pid"
    await until(lambda: written(pid_file), "its pid")
    held = os.open(f"/proc/{int(read(pid_file))}/fd/1", os.O_WRONLY)
    touch(directory.work_directory, "go")
    ended = await node.ended()
    os.close(held)
    assert output_of(directory)["stdout"] == b"bye\n"
    assert ended.status is not None and ended.status.exit_code == 0


async def test_without_contact_a_job_is_stopped_by_its_shim(node: Node) -> None:
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    node.supervisor.contact(now)
    node.start("sleep", "60", contact_timeout_ms=400)
    node.start("sleep", "60", attempt_id="ana.2.train.1-1")
    await node.started()
    contact_until = time.monotonic() + 0.8
    while time.monotonic() < contact_until:
        node.supervisor.contact(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        await asyncio.sleep(0.05)
    assert not any(isinstance(event, Ended) for event in node.events)
    ended = await node.ended()
    assert ended.reason == "no_contact"
    assert "ana.2.train.1-1" in node.supervisor.running
