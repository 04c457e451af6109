"""Shims are forked by a server of a few pages, whose own end harms no job."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from noded.attempt_dir import AttemptState
from tests.integration.shim_node import (
    Node,
    alive,
    log_of,
    needs_shim,
    output_of,
    running_node,
    touch,
    until,
)
from tests.integration.test_shim_adoption import ROOT, SPAWNER

pytestmark = needs_shim

WAITS = "echo on; while [ ! -e go ]; do sleep 0.01; done; exit 9"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path / "attempts") as node:
        yield node


def parent_of(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[1])


def words_of(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def children_of(pid: int) -> list[int]:
    text = "".join(file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(word) for word in text.split()]


def server_of(shim_pid: int) -> int:
    server = parent_of(shim_pid)
    assert server in children_of(os.getpid())
    return server


def servers() -> list[int]:
    """Of this process."""
    return [pid for pid in children_of(os.getpid()) if b"--serve" in words_of(pid) and alive(pid)]


async def the_server() -> int:
    """Its words show only a moment after it was spawned."""
    await until(lambda: len(servers()) == 1, "the server")
    return servers()[0]


async def test_a_list_of_processes_tells_which_attempt_a_shim_is_for(node: Node) -> None:
    directory = node.shell(WAITS)
    await node.started()
    shim_pid = node.supervisor.running["ana.1.train.1-1"].shim_pid
    words = words_of(shim_pid)
    assert words[:2] == [b"riseml-shim", os.fsencode(directory.path)]
    touch(directory.work_directory, "go")
    await node.ended()


async def test_jobs_outlive_their_server_and_their_ends_are_told(node: Node) -> None:
    directory = node.shell(WAITS)
    await node.started()
    os.kill(server_of(node.supervisor.running["ana.1.train.1-1"].shim_pid), signal.SIGKILL)
    second = node.shell("exit 4", attempt_id="ana.2.train.1-1")
    ended = await node.ended("ana.2.train.1-1")
    assert ended.status is not None and ended.status.exit_code == 4
    assert output_of(second)["stdout"] == b""
    touch(directory.work_directory, "go")
    ended = await node.ended()
    assert ended.status is not None and ended.status.exit_code == 9
    assert ended.log_bytes == len(log_of(directory))
    assert output_of(directory)["stdout"] == b"on\n"


async def test_a_shim_that_is_killed_after_its_server_is_told_as_lost(node: Node) -> None:
    node.shell(WAITS)
    started = await node.started()
    shim_pid = node.supervisor.running["ana.1.train.1-1"].shim_pid
    os.kill(server_of(shim_pid), signal.SIGKILL)
    os.kill(shim_pid, signal.SIGKILL)
    ended = await node.ended()
    assert (ended.state, ended.reason) == (AttemptState.VANISHED, "shim_lost")
    assert not alive(started.pid)


async def test_orders_that_a_killed_server_had_not_read_are_carried_out(node: Node) -> None:
    server = await the_server()
    os.kill(server, signal.SIGSTOP)
    names = [f"ana.{number}.train.1-1" for number in range(1, 6)]
    directories = [node.shell("echo once; exit 5", attempt_id=name) for name in names]
    os.kill(server, signal.SIGKILL)
    for name, directory in zip(names, directories, strict=True):
        ended = await node.ended(name)
        assert ended.status is not None and ended.status.exit_code == 5
        assert output_of(directory)["stdout"] == b"once\n"
        assert len([e for e in node.events if e.attempt_id == name]) == 2


@pytest.mark.parametrize("grace_ms", [None, 0])
async def test_a_stop_before_the_shim_was_forked_is_not_lost(
    node: Node, grace_ms: int | None
) -> None:
    server = await the_server()
    os.kill(server, signal.SIGSTOP)
    node.start("sleep", "600")
    node.supervisor.stop("ana.1.train.1-1", grace_ms, "changed my mind")
    os.kill(server, signal.SIGCONT)
    ended = await node.ended()
    assert (ended.state, ended.reason) == (AttemptState.EXITED, "changed my mind")


async def test_a_shim_that_refuses_its_attempt_is_told(node: Node) -> None:
    server = await the_server()
    os.kill(server, signal.SIGSTOP)
    directory = node.shell("true")
    os.unlink(directory.path + "/spec")
    os.kill(server, signal.SIGCONT)
    ended = await node.ended()
    assert (ended.state, ended.reason) == (AttemptState.NEVER_STARTED, "start_failed")


async def test_more_orders_than_the_server_can_queue_are_started_all_the_same(node: Node) -> None:
    server = await the_server()
    os.kill(server, signal.SIGSTOP)
    names = [f"ana.{number}.train.1-1" for number in range(1, 700)]
    for name in names:
        node.start("true", attempt_id=name)
    os.kill(server, signal.SIGCONT)
    for name in names:
        ended = await node.ended(name)
        assert ended.status is not None and ended.status.exit_code == 0


async def test_a_server_ends_with_its_daemon_and_no_job_does(tmp_path: Path) -> None:
    root = tmp_path / "attempts"
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SPAWNER, str(root), WAITS, "started",
        cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert daemon.stdout is not None
    assert await daemon.stdout.readline() == b"up\n"
    (server,) = children_of(daemon.pid)
    (shim,) = children_of(server)
    daemon.kill()
    await daemon.wait()
    await until(lambda: not alive(server), "the server's end")
    assert alive(shim)
    node = Node(root)
    (adopted,) = node.supervisor.adopt()
    touch(adopted.directory.work_directory, "go")
    ended = await node.ended()
    assert ended.status is not None and ended.status.exit_code == 9
    await until(lambda: not alive(shim), "the shim's end")
    await node.supervisor.close()
    assert servers() == []
