"""Orders with code and with install steps, with real shims and real environments."""

from __future__ import annotations

import os
import stat

import pytest

from riseml.v1 import daemon_pb2, job_pb2
from tests.integration.noded.conftest import USER, MakeOrder, RunningDaemon, eventually, text_of
from tests.integration.noded.fake_control_plane import FakeControlPlane

CODE = {
    "train.py": b"print(open('data/x').read(), end='')\n",
    "data/x": b"content of x\n",
    "run.sh": b"#!/bin/sh\necho from run.sh\n",
    "empty": b"",
}


def building(number: int, *steps: str) -> daemon_pb2.EnvironmentOrder:
    return daemon_pb2.EnvironmentOrder(install=steps, build_attempt_id=f"{USER}.{number}.build.1-1")


async def test_code_is_fetched_once_and_copied_for_each_attempt(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    control_plane.revisions["r1"] = CODE
    await daemon.connected()
    first = make_order(
        1, "./run.sh; python train.py; echo changed > data/x; rm run.sh", revision_id="r1"
    )
    control_plane.order(first)
    assert text_of(await control_plane.log_of(first.attempt_id)) == "from run.sh\ncontent of x\n"
    sent = control_plane.blobs_sent
    assert sent == len(CODE)
    second = make_order(2, "./run.sh; cat data/x; stat -c %a .", revision_id="r1")
    control_plane.order(second)
    text = text_of(await control_plane.log_of(second.attempt_id))
    assert text == "from run.sh\ncontent of x\n700\n"
    assert control_plane.blobs_sent == sent
    control_plane.revisions["r2"] = {**CODE, "new": b"new"}
    third = make_order(3, "cat new data/x", revision_id="r2")
    control_plane.order(third)
    assert text_of(await control_plane.log_of(third.attempt_id)) == "newcontent of x\n"
    assert control_plane.blobs_sent == sent + 1
    states = [r.state for r in control_plane.reports if r.attempt_id == first.attempt_id]
    assert states[0] == job_pb2.ATTEMPT_STATE_PREPARING


@pytest.mark.parametrize("path", ["../escape", "/etc/escape", "a/../../escape", "a//b", ""])
async def test_a_manifest_that_leaves_its_tree_is_refused(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder, path: str
) -> None:
    control_plane.revisions["r1"] = {path: b"x"}
    await daemon.connected()
    order = make_order(1, "true", revision_id="r1")
    control_plane.order(order)
    report = await control_plane.ended(order.attempt_id)
    assert report.reason == "CODE_FETCH_FAILED", report.message


async def test_a_file_that_is_also_a_directory_is_refused(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    control_plane.revisions["r1"] = {"a": b"x", "a/b": b"y"}
    await daemon.connected()
    order = make_order(1, "true", revision_id="r1")
    control_plane.order(order)
    assert (await control_plane.ended(order.attempt_id)).reason == "CODE_FETCH_FAILED"


async def test_install_steps_make_an_environment_once(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    control_plane.revisions["r1"] = {**CODE, "requirements.txt": b"# none\n"}
    await daemon.connected()
    steps = ("pip install -r requirements.txt", "echo made > $VIRTUAL_ENV/made; echo built it")
    command = "cat $VIRTUAL_ENV/made; python -c 'import sys; print(sys.prefix)'"
    first = make_order(1, command, revision_id="r1", environment=building(1, *steps))
    control_plane.order(first)
    text = text_of(await control_plane.log_of(first.attempt_id))
    assert text.startswith("made\n") and f"/envs/{USER}/" in text
    build = await control_plane.ended("ana.1.build.1-1")
    assert build.exit_code == 0 and build.reason == ""
    log = text_of(await control_plane.log_of("ana.1.build.1-1"))
    assert "$ pip install -r requirements.txt" in log and "built it" in log

    second = make_order(2, command, revision_id="r1", environment=building(2, *steps))
    control_plane.order(second)
    assert text_of(await control_plane.log_of(second.attempt_id)) == text
    cached = text_of(await control_plane.log_of("ana.2.build.1-1"))
    assert " is cached, built " in cached and cached.count("\n") == 1
    assert (await control_plane.ended("ana.2.build.1-1")).exit_code == 0


async def test_a_build_that_fails_says_why_with_its_last_lines(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected("--python", _quick_python(daemon))
    order = make_order(
        1, "true", environment=building(1, "echo no such package >&2; exit 9", "echo never")
    )
    control_plane.order(order)
    report = await control_plane.ended(order.attempt_id)
    assert report.reason == "BUILD_FAILED" and not report.HasField("exit_code")
    assert "exit code 9" in report.message and "no such package" in report.message
    build = await control_plane.ended("ana.1.build.1-1")
    assert build.exit_code == 9 and build.reason == "BUILD_FAILED"
    assert not list((daemon.node / "envs" / USER).glob("*.complete"))


async def test_orders_with_the_same_steps_wait_for_one_build(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected("--python", _quick_python(daemon))
    gate = daemon.home / "gate"
    step = f"echo x >> {daemon.home}/output/{USER}/builds; until [ -e {gate} ]; do sleep 0.02; done"
    orders = [make_order(i, "echo ran", environment=building(i, step)) for i in (1, 2, 3)]
    for order in orders:
        control_plane.order(order)
    await control_plane.reported("ana.1.build.1-1", job_pb2.ATTEMPT_STATE_RUNNING)
    gate.touch()
    for order in orders:
        assert (await control_plane.ended(order.attempt_id)).exit_code == 0
    assert (daemon.home / "output" / USER / "builds").read_text() == "x\n"
    for number in (2, 3):
        assert " is cached" in text_of(await control_plane.log_of(f"ana.{number}.build.1-1"))


async def test_stopping_the_only_one_who_waits_stops_the_build(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected("--python", _quick_python(daemon))
    order = make_order(1, "true", environment=building(1, "sleep 600"))
    control_plane.order(order)
    await control_plane.reported("ana.1.build.1-1", job_pb2.ATTEMPT_STATE_RUNNING)
    control_plane.kill(order.attempt_id, "killed")
    assert (await control_plane.ended(order.attempt_id)).reason == "killed"
    assert (await control_plane.ended("ana.1.build.1-1")).exit_signal in (9, 15)


async def test_a_build_outlives_its_daemon(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    python = _quick_python(daemon)
    await daemon.connected("--python", python)
    gate = daemon.home / "gate"
    step = f"echo x >> {daemon.home}/output/{USER}/builds; until [ -e {gate} ]; do sleep 0.02; done"
    order = make_order(1, "echo ran", environment=building(1, step))
    control_plane.order(order)
    await control_plane.reported("ana.1.build.1-1", job_pb2.ATTEMPT_STATE_RUNNING)
    await daemon.stop()
    await daemon.connected("--python", python)
    gate.touch()
    assert (await control_plane.ended(order.attempt_id)).exit_code == 0
    assert (daemon.home / "output" / USER / "builds").read_text() == "x\n"
    assert (await control_plane.ended("ana.1.build.1-1")).exit_code == 0


async def test_no_python_is_a_build_failure_not_a_hang(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected("--python", "/nonexistent/python3")
    order = make_order(1, "true", environment=building(1, "true"))
    control_plane.order(order)
    report = await control_plane.ended(order.attempt_id)
    assert report.reason == "BUILD_FAILED" and "/nonexistent/python3" in report.message
    assert (await control_plane.ended("ana.1.build.1-1")).reason == "BUILD_FAILED"


async def test_a_stop_while_code_is_on_its_way_leaves_nothing(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    control_plane.revisions["r1"] = CODE
    await daemon.connected()
    order = make_order(1, "true", revision_id="r1")
    control_plane.order(order)
    control_plane.kill(order.attempt_id, "killed")
    report = await control_plane.ended(order.attempt_id)
    assert report.reason in ("killed", "")
    await eventually(lambda: not list((daemon.node / "attempts").iterdir()))


def _quick_python(daemon: RunningDaemon) -> str:
    """Something that answers `-m venv DIR` at once: most tests here are not about venv."""
    path = daemon.home / "quick-python"
    path.write_text('#!/bin/sh\nmkdir -p "$3/bin"\n')
    os.chmod(path, stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    return str(path)
