"""What the launcher does in the cluster, and what it tells, step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from controlplane.domain import reasons
from controlplane.domain.effects import (
    EndSession,
    ForgetAttempt,
    SessionOpened,
    StopAttempt,
)
from controlplane.domain.events import (
    AttemptReported,
    NodeConnected,
    NodeDisconnected,
    NodeInventoryChanged,
)
from controlplane.domain.model import AttemptReport
from controlplane.domain.states import AttemptState
from controlplane.launch.kubernetes.http_api import KubernetesApi
from tests.unit.kubernetes.fake_api import FakeApi, FakeLog
from tests.unit.kubernetes.launching import (
    NAMESPACE,
    NODE,
    Launching,
    exited,
    gang,
    launching,
    node,
    order,
    running,
)

ATTEMPT = "ana.17.train.1-1"
POD = "ana-17-train-1-1"
EXPERIMENT = "ana.17"


@pytest.fixture
async def work(server: FakeApi, api: KubernetesApi) -> AsyncIterator[Launching]:
    server.put("nodes", node())
    async with launching(server, api) as made:
        await made.serve()
        yield made


def states(work: Launching, attempt_id: str = ATTEMPT) -> list[AttemptState]:
    return [report.state for report in work.reactor.reports(attempt_id)]


def message(work: Launching) -> str:
    """Of the last report."""
    reports = work.reactor.reports(ATTEMPT)
    return reports[-1].message if reports else ""


# --------------------------------------------------------------------------- a life in full
async def test_from_the_order_to_the_last_trace(work: Launching) -> None:
    log = work.server.logs[POD, "job"] = FakeLog()
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    owner = work.server.objects["configmaps", NAMESPACE, "riseml-ana-17"]
    pod = work.server.pod(POD)
    assert pod["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
    assert pod["spec"]["nodeName"] == NODE
    work.server.set_status(POD, running())
    await work.until(lambda: AttemptState.RUNNING in states(work))
    log.write(1_795_464_005 * 10**9, b"epoch 1")
    log.end()
    work.server.set_status(POD, exited(0))
    await work.until(lambda: any(r.final_log_offset > 0 for r in work.reactor.reports(ATTEMPT)))
    last = work.reactor.reports(ATTEMPT)[-1]
    assert (last.state, last.exit_code) == (AttemptState.EXITED, 0)
    assert last.final_log_offset == len(b"2026-11-23T20:00:05.000000000Z stdout F epoch 1\n")
    assert work.pods(), "its end is not recorded yet"
    work.facts.over.add(EXPERIMENT)
    work.launcher.dispatch(ForgetAttempt(NODE, ATTEMPT))
    await work.until(lambda: not work.pods())
    await work.until(lambda: ("configmaps", NAMESPACE, "riseml-ana-17") not in work.server.objects)


async def test_an_end_is_told_with_the_length_of_its_log(work: Launching) -> None:
    log = work.server.logs[POD, "job"] = FakeLog()
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    work.server.set_status(POD, running())
    await work.until(lambda: AttemptState.RUNNING in states(work))
    work.server.set_status(POD, exited(0))
    await work.until(lambda: log.streams)
    assert AttemptState.EXITED not in states(work)
    log.end()
    await work.until(lambda: AttemptState.EXITED in states(work))
    assert work.reactor.reports(ATTEMPT)[-1].final_log_offset == 0


async def test_a_log_that_does_not_come_holds_the_end_up_for_a_while(work: Launching) -> None:
    work.server.logs[POD, "job"] = FakeLog()
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    work.server.set_status(POD, running())
    await work.until(lambda: AttemptState.RUNNING in states(work))
    began = work.clock.now

    def second_later() -> bool:
        work.clock.now += 1
        work.server.set_status(POD, {**exited(0), "podIP": f"10.0.0.{work.clock.now}"})
        return AttemptState.EXITED in states(work)

    await work.until(second_later)
    assert work.clock.now - began >= 10
    assert work.reactor.reports(ATTEMPT)[-1].final_log_offset == -1
    assert work.pods(), "its log may still come"


async def test_everything_is_told_once(work: Launching) -> None:
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    work.server.set_status(POD, running())
    await work.until(lambda: AttemptState.RUNNING in states(work))
    for number in range(3):
        work.server.set_status(POD, {**running(), "podIP": f"10.0.0.{number}"})
    work.server.set_status(POD, exited(3, message="no idea"))
    await work.until(lambda: AttemptState.EXITED in states(work))
    reports = work.reactor.reports(ATTEMPT)
    assert len(reports) == len(set(reports))
    assert next(r.message for r in reports if r.state is AttemptState.EXITED) == "no idea"


# ------------------------------------------------------------------------------------- gangs
async def test_no_member_of_a_gang_is_bound_before_all_are_there(work: Launching) -> None:
    first, second = gang()
    work.start(first)
    # Nothing is made of half a gang: the next order is looked at after it.
    work.start(order("ana.18.train.1-1"))
    await work.until(lambda: work.bound() == {"ana-18-train-1-1"})
    assert set(work.pods()) == {"ana-18-train-1-1"}
    work.start(second)
    await work.until(lambda: len(work.bound()) == 3)
    verbs = [request.verb for request in work.server.requests if "worker" in request.path]
    creates = [r for r in work.server.asked("create") if r.path.endswith("/pods")]
    assert len(creates) == 3 and verbs == ["bind", "bind"]
    assert work.server.objects["services", NAMESPACE, "ana-17"]["spec"]["clusterIP"] == "None"


async def test_a_gang_waits_as_a_whole_for_quota(work: Launching) -> None:
    denied = work.server.fail(
        "create", 403, reason="Forbidden", message="exceeded quota: gpus", skip=3
    )
    work.start(*gang())
    await work.until(lambda: states(work, "ana.17.worker.1-1") == [AttemptState.PREPARING])
    assert "exceeded quota" in work.reactor.reports("ana.17.worker.2-1")[-1].message
    assert denied not in work.server.faults
    assert not work.bound(), "the first one has to wait with the second"
    await work.until(lambda: len(work.bound()) == 2)


async def test_what_admission_refuses_fails_with_its_words(work: Launching) -> None:
    work.server.fail(
        "create", 403, reason="Forbidden", message='violates PodSecurity "restricted"', skip=3
    )
    work.start(*gang())
    await work.until(lambda: AttemptState.EXITED in states(work, "ana.17.worker.2-1"))
    report = work.reactor.reports("ana.17.worker.1-1")[-1]
    assert (report.reason, report.exit_code) == (reasons.POD_REFUSED, None)
    assert "violates PodSecurity" in report.message
    await work.until(lambda: not work.pods())


async def test_an_order_without_an_image_is_explained(server: FakeApi, api: KubernetesApi) -> None:
    server.put("nodes", node())
    async with launching(server, api, default_image="") as work:
        await work.serve()
        work.start(order(framework="pytorch"))
        await work.until(lambda: states(work) == [AttemptState.EXITED])
        assert "framework pytorch" in work.reactor.reports(ATTEMPT)[-1].message


# ---------------------------------------------------------------------- crashes and lost answers
async def test_a_pod_whose_creation_was_not_answered_is_not_made_twice(work: Launching) -> None:
    work.server.fail("create", reset=True, acted=True, skip=1)
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    assert len(work.pods()) == 1


async def test_after_a_crash_pods_are_taken_over(work: Launching) -> None:
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    work.server.set_status(POD, running())
    await work.until(lambda: AttemptState.RUNNING in states(work))
    work.reactor.reply = SessionOpened((order(),), (), ())
    await work.restart()
    connected = work.reactor.of(NodeConnected)[0]
    assert [(r.attempt_id, r.state) for r in connected.attempts] == [
        (ATTEMPT, AttemptState.RUNNING)
    ]
    assert connected.epoch == 2
    work.server.set_status(POD, exited(0))
    await work.until(lambda: AttemptState.EXITED in states(work))
    assert [r.verb for r in work.server.requests].count("bind") == 1


@pytest.mark.parametrize("asked", [False, True])
async def test_who_asked_for_an_end_is_known_after_a_crash(work: Launching, asked: bool) -> None:
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    await work.stop()
    deleted = work.server.pod(POD)
    deleted["metadata"]["deletionTimestamp"] = "2026-11-23T20:00:30Z"
    work.server.put("pods", {**deleted, "status": exited(5)})
    stops = (StopAttempt(NODE, ATTEMPT, "killed"),) if asked else ()
    work.reactor.reply = SessionOpened((order(),), stops, ())
    if asked:
        work.facts.stops.add(ATTEMPT)
    await work.restart()

    def ends() -> list[AttemptReport]:
        said = [r for event in work.reactor.of(NodeConnected) for r in event.attempts]
        return [r for r in (*said, *work.reactor.reports(ATTEMPT)) if r.state.ended]

    await work.until(ends)
    assert {r.state for r in ends()} == {AttemptState.EXITED if asked else AttemptState.LOST}
    assert {r.exit_code for r in ends()} == {5 if asked else None}


async def test_a_crash_between_creating_and_binding_is_made_up_for(work: Launching) -> None:
    held = work.server.fail("bind", 503, reason="ServiceUnavailable")
    work.start(order())
    await work.until(lambda: held not in work.server.faults)
    work.reactor.reply = SessionOpened((order(),), (), ())
    await work.restart()
    await work.until(lambda: work.bound() == {POD})
    assert len(work.pods()) == 1


async def test_a_pod_that_nobody_wants_any_more_is_stopped(work: Launching) -> None:
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    work.server.set_status(POD, running())
    await work.until(lambda: AttemptState.RUNNING in states(work))
    await work.restart()
    await work.until(lambda: "deletionTimestamp" in work.server.pod(POD)["metadata"])
    assert len(work.server.asked("delete")) == 1


async def test_a_name_that_somebody_else_took_is_a_clear_failure(work: Launching) -> None:
    work.server.put("pods", {"metadata": {"name": POD, "namespace": NAMESPACE}, "spec": {}})
    work.start(order())
    await work.until(lambda: states(work) == [AttemptState.EXITED])
    assert "is taken" in work.reactor.reports(ATTEMPT)[-1].message
    assert POD in work.pods()


# -------------------------------------------------------------------------------------- stops
async def test_a_stop_counts_when_the_pod_is_gone_and_not_before(work: Launching) -> None:
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    work.server.set_status(POD, running())
    await work.until(lambda: AttemptState.RUNNING in states(work))
    work.launcher.dispatch(StopAttempt(NODE, ATTEMPT, "killed"))
    await work.until(lambda: work.server.asked("delete"))
    assert work.server.asked("delete")[0].body.get("gracePeriodSeconds") is None
    await work.until(lambda: "deletionTimestamp" in work.server.pod(POD)["metadata"])
    assert AttemptState.EXITED not in states(work)
    work.server.finish(POD)
    await work.until(lambda: AttemptState.EXITED in states(work))


async def test_the_end_that_the_kubelet_saw_is_told(work: Launching) -> None:
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    work.launcher.dispatch(StopAttempt(NODE, ATTEMPT, "killed", 0.0))
    await work.until(lambda: "deletionTimestamp" in work.server.pod(POD)["metadata"])
    assert work.server.asked("delete")[0].body["gracePeriodSeconds"] == 1
    work.server.set_status(POD, exited(7))
    await work.until(lambda: AttemptState.EXITED in states(work))
    assert work.reactor.reports(ATTEMPT)[-1].exit_code == 7


async def test_a_stop_before_there_was_a_pod_ends_it(server: FakeApi, api: KubernetesApi) -> None:
    async with launching(server, api) as work:
        await work.serve()
        # Its node is not there: nothing is made.
        work.start(order())
        work.launcher.dispatch(StopAttempt(NODE, ATTEMPT, "killed"))
        await work.until(lambda: states(work) == [AttemptState.EXITED])
        assert not work.server.asked("create")


async def test_a_pod_that_somebody_deleted_is_lost_and_not_failed(work: Launching) -> None:
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    work.server.set_status(POD, running())
    await work.until(lambda: AttemptState.RUNNING in states(work))
    work.server.remove("pods", NAMESPACE, POD)
    await work.until(lambda: AttemptState.LOST in states(work))
    assert work.reactor.reports(ATTEMPT)[-1].reason == reasons.POD_DELETED


@pytest.mark.parametrize("phase_first", [False, True])
async def test_an_image_that_does_not_come_ends_the_attempt_after_a_while(
    work: Launching, phase_first: bool
) -> None:
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    work.server.set_status(
        POD, {"phase": "Pending", "containerStatuses": [{"name": "job", "state": waiting}]}
    )
    await work.until(lambda: "cannot be pulled" in message(work))
    assert not work.server.asked("delete")
    work.clock.now += 61
    work.server.set_status(
        POD, {"phase": "Pending", "containerStatuses": [{"name": "job", "state": waiting}], "x": 1}
    )
    await work.until(lambda: "deletionTimestamp" in work.server.pod(POD)["metadata"])
    assert AttemptState.EXITED not in states(work)
    if phase_first:
        # The kubelet's last word comes before the object goes.
        work.server.set_status(POD, {"phase": "Failed"})
    else:
        work.server.finish(POD)
    await work.until(lambda: AttemptState.EXITED in states(work))
    assert work.reactor.reports(ATTEMPT)[-1].reason == reasons.IMAGE_PULL_FAILED


# -------------------------------------------------------------------------------------- nodes
async def test_a_node_that_refuses_a_pod_is_closed_before_that_is_told(work: Launching) -> None:
    work.start(order())
    await work.until(lambda: work.bound() == {POD})
    work.server.set_status(
        POD, {"phase": "Failed", "reason": "OutOfnvidia.com/gpu", "message": "no GPU left"}
    )
    await work.until(lambda: AttemptState.LOST in states(work))
    kinds = [type(event) for event in work.reactor.heard]
    assert kinds[-2:] == [NodeInventoryChanged, AttemptReported]
    closed = work.reactor.of(NodeInventoryChanged)[0].inventory
    assert "no GPU left" in closed.unschedulable
    assert work.reactor.reports(ATTEMPT)[-1].reason == reasons.PLACEMENT_REFUSED
    work.clock.now += 11
    await work.until(lambda: not work.reactor.of(NodeInventoryChanged)[-1].inventory.unschedulable)


async def test_a_node_is_closed_while_it_has_all_the_pods_that_it_takes(work: Launching) -> None:
    few = node()
    few["status"]["allocatable"] = {**few["status"]["allocatable"], "pods": "1"}
    work.server.put("nodes", few)
    work.start(order())

    def closed() -> str:
        changes = work.reactor.of(NodeInventoryChanged)
        return str(changes[-1].inventory.unschedulable) if changes else ""

    await work.until(closed)
    assert "1 pods" in closed()
    work.server.set_status(POD, exited(0))
    await work.until(lambda: not closed())
    assert work.bound() == {POD}


async def test_a_node_that_is_not_ready_has_no_session_and_gets_no_pods(work: Launching) -> None:
    work.server.put("nodes", node(ready=False))
    await work.until(lambda: work.reactor.of(NodeDisconnected))
    renewed = work.leases[NODE]
    work.clock.now += 100
    work.start(order())
    assert not work.server.asked("create")
    work.reactor.reply = SessionOpened((order(),), (), ())
    work.server.put("nodes", node())
    await work.until(lambda: work.bound() == {POD})
    assert work.leases[NODE] > renewed
    assert [event.epoch for event in work.reactor.of(NodeConnected)] == [1, 2]


async def test_a_session_that_the_control_plane_ended_is_opened_anew(work: Launching) -> None:
    work.launcher.dispatch(EndSession(NODE, 1))
    await work.until(lambda: len(work.reactor.of(NodeConnected)) == 2)
    # Of an older session it means nothing.
    work.launcher.dispatch(EndSession(NODE, 1))
    work.server.put("nodes", node(gpus=1))
    await work.until(lambda: work.reactor.of(NodeInventoryChanged))
    assert len(work.reactor.of(NodeConnected)) == 2


async def test_lost_effects_are_made_up_for(work: Launching) -> None:
    work.reactor.reply = SessionOpened((order(),), (), ())
    work.launcher.resync()
    await work.until(lambda: work.bound() == {POD})
    assert [event.epoch for event in work.reactor.of(NodeConnected)] == [1, 2]


async def test_what_is_ordered_as_a_session_opens_is_not_overlooked(
    server: FakeApi, api: KubernetesApi
) -> None:
    """A plan of the same commit: its order is looked at before there is a session, and the reply
    does not have it."""
    server.put("nodes", node())
    async with launching(server, api) as work:
        work.reactor.before_reply = lambda: work.start(order())
        await work.serve()
        await work.until(lambda: work.bound() == {POD})
