"""The whole daemon in this process, with real shims, against a control plane of a few lines."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from functools import partial

import pytest

from noded.errors import ConfigError, SessionRefused
from riseml.v1 import daemon_pb2, daemon_service_pb2, job_pb2
from tests.integration.noded.conftest import USER, MakeOrder, RunningDaemon, eventually, text_of
from tests.integration.noded.fake_control_plane import FakeControlPlane

RESULTS = daemon_pb2.LOG_KIND_RESULTS


async def test_a_plain_order_runs_and_its_output_arrives(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    order = make_order(
        1,
        "echo to stdout; echo to stderr >&2",
        "echo lr=$LR in $OUTPUT_DIR > $OUTPUT_DIR/note",
        parameters={"lr": "0.1"},
    )
    control_plane.order(order)
    report = await control_plane.ended(order.attempt_id)
    assert report.exit_code == 0 and report.reason == "" and report.exit_signal == 0
    assert report.start_time.seconds and report.end_time.seconds
    assert text_of(await control_plane.log_of(order.attempt_id)) == "to stdout\nto stderr\n"
    output = daemon.home / "output" / USER / "digits" / "1"
    assert (output / "note").read_text() == f"lr=0.1 in {output}\n"
    assert "lr: 0.1" in (output / "riseml-configuration.yml").read_text()
    assert report.final_log_offset > 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
async def test_jobs_run_as_their_user_and_see_nothing_of_others(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    mine = make_order(1, "id -u; id -G; echo secret > work-file; echo o > $OUTPUT_DIR/o; pwd")
    control_plane.order(mine)
    uid, groups, work = text_of(await control_plane.log_of(mine.attempt_id)).split()
    assert int(uid) >= 200_000 and groups == uid
    other = make_order(2, f"id -u; ls {work} || ls {daemon.home}/output/{USER} || true")
    other.user_name, other.output_path = "bob", "bob/digits/2"
    control_plane.order(other)
    text = text_of(await control_plane.log_of(other.attempt_id))
    assert text.split()[0] not in (uid, "0")
    assert text.count("Permission denied") + text.count("No such file") == 2


async def test_results_are_reported_without_any_set_up(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    order = make_order(1, 'python -c "import riseml; riseml.report_result(accuracy=0.5)"')
    control_plane.order(order)
    report = await control_plane.ended(order.attempt_id)
    assert report.exit_code == 0, text_of(await control_plane.log_of(order.attempt_id))
    assert b'"accuracy":0.5' in await control_plane.log_of(order.attempt_id, RESULTS)


async def test_the_first_command_that_fails_ends_the_job(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    order = make_order(1, "echo one", "sh -c 'exit 7' && true", "echo three")
    control_plane.order(order)
    assert (await control_plane.ended(order.attempt_id)).exit_code == 7
    assert text_of(await control_plane.log_of(order.attempt_id)) == "one\n"


async def test_a_kill_ends_it_with_the_reason(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    order = make_order(1, "sleep 600")
    control_plane.order(order)
    await control_plane.reported(order.attempt_id, job_pb2.ATTEMPT_STATE_RUNNING)
    control_plane.kill(order.attempt_id, "killed")
    report = await control_plane.ended(order.attempt_id)
    assert report.reason == "killed" and report.exit_signal == 15
    states = [r.state for r in control_plane.reports if r.attempt_id == order.attempt_id]
    assert job_pb2.ATTEMPT_STATE_STOPPING in states


async def test_secrets_are_masked_in_what_is_shipped(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    order = make_order(1, "echo key=$KEY end", env={"KEY": "hunter2222"}, secret_env_names=["KEY"])
    control_plane.order(order)
    assert text_of(await control_plane.log_of(order.attempt_id)) == "key=********** end\n"


async def test_secrets_are_masked_in_results_too(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    order = make_order(
        1, "echo $KEY >> $RISEML_RESULTS", env={"KEY": "hunter2222"}, secret_env_names=["KEY"]
    )
    control_plane.order(order)
    assert await control_plane.log_of(order.attempt_id, RESULTS) == b"**********\n"


async def test_a_forgotten_attempt_leaves_nothing_once_it_is_shipped(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    order = make_order(1, "echo hello")
    control_plane.order(order)
    assert text_of(await control_plane.log_of(order.attempt_id)) == "hello\n"
    attempts, removed = daemon.node / "attempts", daemon.node / "removed"
    await eventually(lambda: not list(attempts.iterdir()) and not list(removed.iterdir()))


async def test_an_attempt_that_nobody_acknowledged_is_said_again(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    control_plane.forgets_at_once = False
    await daemon.connected()
    order = make_order(1, "exit 3")
    control_plane.order(order)
    await control_plane.ended(order.attempt_id)
    await daemon.stop()
    control_plane.reports.clear()
    await daemon.connected()
    report = await control_plane.ended(order.attempt_id)
    assert report.exit_code == 3
    assert control_plane.hellos[-1].epoch == control_plane.hellos[0].epoch + 1
    assert (daemon.node / "attempts" / order.attempt_id).exists()


async def test_a_job_outlives_its_daemon_and_all_of_its_output_arrives(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    gate = daemon.home / "gate"
    order = make_order(
        1, f"echo before; until [ -e {gate} ]; do sleep 0.02; done; echo after; exit 5"
    )
    control_plane.order(order)
    await control_plane.until(lambda: b"before" in control_plane.archive(order.attempt_id, 1).data)
    await daemon.stop()
    gate.touch()
    await daemon.connected()
    assert (await control_plane.ended(order.attempt_id)).exit_code == 5
    assert text_of(await control_plane.log_of(order.attempt_id)) == "before\nafter\n"


async def test_a_daemon_that_comes_back_leaves_what_runs_alone(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    count = daemon.home / "output" / USER / "digits" / "1" / "count"
    order = make_order(1, "echo x >> $OUTPUT_DIR/count; sleep 600")
    control_plane.order(order)
    await control_plane.reported(order.attempt_id, job_pb2.ATTEMPT_STATE_RUNNING)
    await daemon.stop()
    await daemon.connected()
    assert [r.attempt_id for r in control_plane.hellos[-1].attempts] == [order.attempt_id]
    control_plane.kill(order.attempt_id, grace_ms=0)
    assert (await control_plane.ended(order.attempt_id)).exit_signal in (9, 15)
    assert count.read_text() == "x\n"


async def test_what_is_not_desired_any_more_is_stopped_on_reconnect(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    order = make_order(1, "sleep 600")
    control_plane.order(order)
    await control_plane.reported(order.attempt_id, job_pb2.ATTEMPT_STATE_RUNNING)
    await control_plane.stop()
    control_plane.desired.clear()
    await control_plane.start(control_plane.port)
    assert (await control_plane.ended(order.attempt_id)).reason == "not_desired"


async def test_an_order_that_was_missed_is_in_the_welcome(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    order = make_order(1, "echo hi")
    control_plane.desired[order.attempt_id] = order
    await daemon.connected()
    assert (await control_plane.ended(order.attempt_id)).exit_code == 0


async def test_a_stop_of_what_never_came_is_answered(
    control_plane: FakeControlPlane, daemon: RunningDaemon
) -> None:
    await daemon.connected()
    control_plane.kill("ana.9.train.1-1")
    report = await control_plane.ended("ana.9.train.1-1")
    assert report.reason == "killed" and "had not started" in report.message


async def test_another_cluster_is_refused_and_nothing_is_touched(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    order = make_order(1, "sleep 600")
    control_plane.order(order)
    await control_plane.reported(order.attempt_id, job_pb2.ATTEMPT_STATE_RUNNING)
    await daemon.stop()
    wanted, control_plane.desired = control_plane.desired, {}
    control_plane.cluster_id = "cluster-2"
    await daemon.start()
    assert daemon.outcome is not None
    with pytest.raises(ExceptionGroup) as raised:
        await daemon.outcome
    assert raised.group_contains(SessionRefused, match="belongs to cluster cluster-1")
    await daemon.stop()
    control_plane.cluster_id, control_plane.desired = "cluster-1", wanted
    await daemon.connected()
    assert control_plane.final(order.attempt_id) is None


async def test_a_wrong_token_is_said_plainly(
    control_plane: FakeControlPlane, daemon: RunningDaemon
) -> None:
    (daemon.home / "token").write_text('{"node_name": "n1", "token": "wrong"}')
    await daemon.start()
    assert daemon.outcome is not None
    with pytest.raises(ExceptionGroup) as raised:
        await daemon.outcome
    assert raised.group_contains(SessionRefused, match="token is refused .who are you.")


async def test_two_daemons_of_one_node_do_not_meet(
    control_plane: FakeControlPlane, daemon: RunningDaemon
) -> None:
    await daemon.connected()
    second = RunningDaemon(control_plane, daemon.home)
    with pytest.raises(ConfigError, match="another daemon of this node"):
        await second.start()


async def test_a_silent_control_plane_is_left_and_found_again(
    control_plane: FakeControlPlane, daemon: RunningDaemon
) -> None:
    await daemon.connected()
    control_plane.answers_heartbeats = False
    await control_plane.until(lambda: len(control_plane.hellos) >= 2, 30)
    first, second = control_plane.hellos[:2]
    assert first.inventory == second.inventory


async def test_contact_is_recorded_with_each_acknowledged_heartbeat(
    control_plane: FakeControlPlane, daemon: RunningDaemon
) -> None:
    await daemon.connected()
    contact = daemon.node / "contact"
    await eventually(lambda: bool(contact.read_text()))
    first = int(contact.read_text())
    heartbeats = control_plane.heartbeats
    await control_plane.until(lambda: control_plane.heartbeats > heartbeats + 2)
    assert int(contact.read_text()) > first


async def test_telemetry_and_simulated_gpus_are_told(
    control_plane: FakeControlPlane, daemon: RunningDaemon
) -> None:
    await daemon.connected("--simulate-gpus", "2xH100")
    inventory = control_plane.hellos[0].inventory
    assert [g.model for g in inventory.gpus] == ["H100", "H100"]
    assert all(g.simulated for g in inventory.gpus)
    assert inventory.cpu_milli >= 1000 and inventory.memory_bytes > 0 and inventory.boot_id
    assert inventory.capabilities.isolates_users == (os.getuid() == 0)
    await control_plane.until(lambda: control_plane.samples > 0)


async def test_files_of_outputs_are_served(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    order = make_order(1, "mkdir $OUTPUT_DIR/d; echo model > $OUTPUT_DIR/d/m")
    control_plane.order(order)
    await control_plane.ended(order.attempt_id)

    async def ask(number: int, **operation: object) -> daemon_service_pb2.ServeStorageRequest:
        control_plane.storage_requests.put_nowait(
            daemon_service_pb2.ServeStorageResponse(operation_id=number, **operation)  # type: ignore[arg-type]
        )
        await control_plane.until(lambda: number in control_plane.storage_answers)
        return control_plane.storage_answers[number]

    tree = f"{USER}/digits/1"
    listing = await ask(
        1, path=tree, user_name=USER, list=daemon_service_pb2.ListOperation(recursive=True)
    )
    assert [f.path for f in listing.files] == [
        f"{tree}/d",
        f"{tree}/d/m",
        f"{tree}/riseml-configuration.yml",
    ]
    read = daemon_service_pb2.ReadOperation(offset=1, length_bytes=3)
    content = await ask(2, path=f"{tree}/d/m", user_name=USER, read=read)
    assert content.data == b"ode" and content.size_bytes == 6
    stranger = await ask(3, path=f"{tree}/d/m", user_name="bob", read=read)
    assert stranger.error.code == "PERMISSION_DENIED"
    missing = await ask(4, path=f"{tree}/x", user_name=USER, read=read)
    assert missing.error.code == "NOT_FOUND"
    removed = await ask(
        5, path=tree, user_name=USER, remove=daemon_service_pb2.RemoveOperation(recursive=True)
    )
    assert removed.removed_count == 4
    assert await asyncio.to_thread((daemon.home / "output" / tree).exists) is False


async def test_an_attempt_id_that_is_no_name_is_refused(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    order = make_order(1, "true")
    order.attempt_id = "../../escape"
    control_plane.order(order)
    assert (await control_plane.ended("../../escape")).reason == "EXEC_FAILED"
    outside = make_order(2, "true", output_path="bob/digits/2")
    control_plane.order(outside)
    assert (await control_plane.ended(outside.attempt_id)).reason == "EXEC_FAILED"


async def test_a_port_that_another_program_holds_is_named_before_the_gang_fails_on_it(
    control_plane: FakeControlPlane, daemon: RunningDaemon, make_order: MakeOrder
) -> None:
    await daemon.connected()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        peers = [
            daemon_pb2.Peer(job_type="train", job_number=n, rank=n - 1, host="h", port=taken)
            for n in (1, 2)
        ]
        order = make_order(1, "true", framework="pytorch", peers=peers)
        control_plane.order(order)
        report = await control_plane.ended(order.attempt_id)
    assert report.reason == "PORT_TAKEN" and f"port {taken} of this node" in report.message


async def test_sessions_that_break_leave_no_task_behind(
    control_plane: FakeControlPlane, daemon: RunningDaemon
) -> None:
    faults: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: faults.append(context["message"])
    )
    await daemon.connected()
    port = control_plane.port
    for again in range(1, 5):
        await eventually(partial(control_plane.has_served_storage, again))
        await control_plane.stop()
        await control_plane.start(port)
    await eventually(partial(control_plane.has_served_storage, 5))
    # A task that nobody holds any more says so when it is collected.
    gc.collect()
    await asyncio.sleep(0)
    assert faults == []
