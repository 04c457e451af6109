"""What pods say, in the words of the kubelet and in ours."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain import reasons
from controlplane.domain.model import AttemptReport
from controlplane.domain.states import AttemptState
from controlplane.launch.kubernetes import names
from controlplane.launch.kubernetes.markers import INSTALL_FAILED_PREFIX
from controlplane.launch.kubernetes.pod_state import (
    gone_report,
    obstacle_of,
    obstacle_report,
    read_pod,
    reports,
)
from riseml.spec.code_fetch import FetchExit

ATTEMPT, BUILD = "ana.17.train.1-1", "ana.17.build.1-1"
BEGAN = "2026-11-23T20:00:05Z"
ENDED = "2026-11-23T20:00:09Z"
BEGAN_S = 1_795_464_005.0
Json = dict[str, Any]


def pod(
    status: Json | None = None, *, build: bool = False, bound: bool = True, deleted: bool = False
) -> Json:
    about = {"deletionTimestamp": "2026-11-23T20:00:30Z"} if deleted else {}
    annotations = {names.ATTEMPT: ATTEMPT, names.EXPERIMENT: "ana.17", names.PLANNED_NODE: "n1"}
    if build:
        annotations[names.BUILD_ATTEMPT] = BUILD
    container = {
        "name": "job",
        "image": "python:3.12",
        "resources": {"limits": {"memory": "1073741824"}},
    }
    return {
        "metadata": {"name": "p", "uid": "u", "annotations": annotations, **about},
        "spec": {
            "nodeName": "n1" if bound else "",
            "initContainers": [{"name": "code", "image": "platform:1"}],
            "containers": [container],
        },
        "status": status or {"phase": "Pending"},
    }


def ended(job: Json | None = None, *, code: Json | None = None, **status: Any) -> Json:
    """A status of a pod that has ended."""
    made: Json = {"phase": "Failed", **status}
    if code is not None:
        made["initContainerStatuses"] = [{"name": "code", "state": {"terminated": code}}]
    if job is not None:
        full = {"startedAt": BEGAN, "finishedAt": ENDED, "reason": "Error", **job}
        made["containerStatuses"] = [{"name": "job", "state": {"terminated": full}}]
        if job.get("exitCode") == 0:
            made["phase"] = "Succeeded"
    return made


def said(
    found: Json, *, installed_at: float | None = None, stopping: bool = False
) -> tuple[AttemptReport, ...]:
    return reports(read_pod(found), installed_at=installed_at, stopping=stopping)


DISRUPTED = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]


# ------------------------------------------------------------------------------- before the end
def test_nothing_is_said_before_it_has_a_node() -> None:
    assert said(pod(bound=False)) == ()


CUT_OFF = "failed to create containerd task: failed to create shim task: context canceled: unknown"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({}, "is being started"),
        ({"initContainerStatuses": [{"name": "code", "state": {"running": {}}}]}, "code is being"),
        (
            {"initContainerStatuses": [{"name": "code", "state": {"terminated": {"exitCode": 0}}}]},
            "image python:3.12 is being pulled",
        ),
    ],
)
def test_what_it_waits_for(status: Json, words: str) -> None:
    (report,) = said(pod({"phase": "Pending", **status}))
    assert report.state is AttemptState.PREPARING
    assert words in report.message


def running() -> Json:
    state = {"running": {"startedAt": BEGAN}}
    return {"phase": "Running", "containerStatuses": [{"name": "job", "state": state}]}


def test_a_job_runs_since_its_container_does() -> None:
    assert said(pod(running())) == (
        AttemptReport(ATTEMPT, AttemptState.RUNNING, start_time=BEGAN_S),
    )


def test_install_steps_are_a_build_and_then_the_job_runs() -> None:
    preparing, building = said(pod(running(), build=True))
    assert (preparing.state, building.state) == (AttemptState.PREPARING, AttemptState.RUNNING)
    assert (building.attempt_id, building.start_time) == (BUILD, BEGAN_S)
    built, job = said(pod(running(), build=True), installed_at=BEGAN_S + 2)
    assert (built.attempt_id, built.state, built.exit_code) == (BUILD, AttemptState.EXITED, 0)
    assert (job.attempt_id, job.state, job.start_time) == (
        ATTEMPT,
        AttemptState.RUNNING,
        BEGAN_S + 2,
    )


@pytest.mark.parametrize(
    ("container", "waiting", "reason", "words"),
    [
        (
            "job",
            "ImagePullBackOff",
            reasons.IMAGE_PULL_FAILED,
            "image python:3.12 cannot be pulled",
        ),
        ("code", "ErrImagePull", reasons.IMAGE_PULL_FAILED, "image platform:1 cannot be pulled"),
        ("job", "InvalidImageName", reasons.IMAGE_PULL_FAILED, "cannot be pulled"),
        ("job", "CreateContainerConfigError", reasons.CONTAINER_REFUSED, "container job cannot"),
    ],
)
def test_what_will_hardly_mend(container: str, waiting: str, reason: str, words: str) -> None:
    key = "initContainerStatuses" if container == "code" else "containerStatuses"
    state = {"waiting": {"reason": waiting, "message": "not found"}}
    reading = read_pod(pod({"phase": "Pending", key: [{"name": container, "state": state}]}))
    obstacle = obstacle_of(reading)
    assert obstacle is not None and obstacle.reason == reason
    assert words in obstacle.message and "not found" in obstacle.message
    (end,) = obstacle_report(reading, obstacle)
    assert (end.state, end.exit_code, end.reason) == (AttemptState.EXITED, None, reason)


def test_pulling_an_image_is_no_obstacle() -> None:
    state = {"waiting": {"reason": "ContainerCreating"}}
    status = {"phase": "Pending", "containerStatuses": [{"name": "job", "state": state}]}
    assert obstacle_of(read_pod(pod(status))) is None


# ------------------------------------------------------------------------------------- ends
@pytest.mark.parametrize(
    ("found", "state", "reason", "exit_code", "signal", "words"),
    [
        (pod(ended({"exitCode": 0})), "EXITED", "", 0, 0, ""),
        (
            pod(ended({"exitCode": 7, "message": "a\n\nValueError: x\n"})),
            "EXITED",
            "",
            7,
            0,
            "a / ValueError: x",
        ),
        (pod(ended({"exitCode": 143})), "EXITED", "", None, 15, ""),
        (
            pod(ended({"exitCode": 137, "reason": "OOMKilled"})),
            "EXITED",
            reasons.OOM_KILLED,
            None,
            9,
            "1.00 GiB",
        ),
        (
            pod(ended({"exitCode": 128, "reason": "StartError", "message": "no sh"})),
            "EXITED",
            "EXEC_FAILED",
            None,
            0,
            "/bin/sh",
        ),
        # Its kubelet was killed while it started it.
        (
            pod(ended({"exitCode": 128, "reason": "StartError", "message": CUT_OFF})),
            "LOST",
            reasons.LOST,
            None,
            0,
            "restarted while it began",
        ),
        (
            pod(ended(code={"exitCode": 128, "reason": "StartError", "message": CUT_OFF})),
            "LOST",
            reasons.CODE_FETCH_FAILED,
            None,
            0,
            "could not be started",
        ),
        (
            pod(ended({"exitCode": 137, "reason": "ContainerStatusUnknown"})),
            "LOST",
            reasons.LOST,
            None,
            0,
            "without a trace",
        ),
        # Evictions.
        (
            pod(ended({"exitCode": 137}, conditions=DISRUPTED)),
            "LOST",
            reasons.EVICTED,
            None,
            0,
            "evicted by Kubernetes",
        ),
        (pod(ended({"exitCode": 0}, conditions=DISRUPTED)), "EXITED", "", 0, 0, ""),
        (
            pod(ended(reason="Preempting", message="for p")),
            "LOST",
            reasons.EVICTED,
            None,
            0,
            "for p",
        ),
        (
            pod(ended({"exitCode": 137}, reason="Evicted", message="ephemeral local storage")),
            "EXITED",
            reasons.EVICTED,
            None,
            0,
            "ephemeral local storage",
        ),
        (
            pod(ended(reason="NodeShutdown", message="imminent node shutdown")),
            "LOST",
            reasons.NODE_SHUTDOWN,
            None,
            0,
            "shut down",
        ),
        (pod(ended(reason="NodeLost")), "LOST", reasons.NODE_LOST, None, 0, "gone"),
        # Refused.
        (
            pod(ended(reason="UnexpectedAdmissionError", message="no GPU")),
            "LOST",
            reasons.PLACEMENT_REFUSED,
            None,
            0,
            "no GPU",
        ),
        (
            pod(ended(reason="OutOfnvidia.com/gpu")),
            "LOST",
            reasons.PLACEMENT_REFUSED,
            None,
            0,
            "OutOfnvidia",
        ),
        (
            pod(ended(reason="NodeAffinity")),
            "LOST",
            reasons.PLACEMENT_REFUSED,
            None,
            0,
            "NodeAffinity",
        ),
        # Its code.
        (
            pod(
                ended(
                    code={
                        "exitCode": FetchExit.UNREACHABLE,
                        "message": "x\nriseml-fetch-code: no answer\n",
                    }
                )
            ),
            "LOST",
            reasons.CODE_FETCH_FAILED,
            None,
            0,
            "fetched: no answer",
        ),
        (
            pod(ended(code={"exitCode": FetchExit.TOKEN_REFUSED, "message": "refused"})),
            "EXITED",
            reasons.CODE_FETCH_FAILED,
            None,
            0,
            "refused",
        ),
        # Somebody else.
        (
            pod(ended({"exitCode": 143}), deleted=True),
            "LOST",
            reasons.POD_DELETED,
            None,
            0,
            "somebody deleted",
        ),
        (pod(ended({"exitCode": 0}), deleted=True), "EXITED", "", 0, 0, ""),
        (pod(ended(), deleted=True), "LOST", reasons.POD_DELETED, None, 0, "before it began"),
        (pod(ended(reason="DeadlineExceeded")), "EXITED", "DEADLINE_EXCEEDED", None, 0, ""),
        (pod(ended()), "LOST", reasons.LOST, None, 0, "no reason"),
    ],
)
def test_ends(
    found: Json, state: str, reason: str, exit_code: int | None, signal: int, words: str
) -> None:
    (report,) = said(found)
    assert report.state.name == state
    assert (report.reason, report.exit_code, report.exit_signal) == (reason, exit_code, signal)
    assert words in report.message


def test_an_end_that_we_asked_for_is_the_jobs_own() -> None:
    (report,) = said(pod(ended({"exitCode": 5}), deleted=True), stopping=True)
    assert (report.state, report.exit_code, report.reason) == (AttemptState.EXITED, 5, "")


def test_times_are_the_containers() -> None:
    (report,) = said(pod(ended({"exitCode": 0})))
    assert (report.start_time, report.end_time) == (BEGAN_S, BEGAN_S + 4)


def test_a_failed_install_step_is_the_builds_and_the_job_never_ran() -> None:
    failed = ended({"exitCode": 3, "message": f"{INSTALL_FAILED_PREFIX} 3\n"})
    build, job = said(pod(failed, build=True))
    assert (build.attempt_id, build.exit_code, build.reason) == (BUILD, 3, reasons.BUILD_FAILED)
    assert (job.exit_code, job.start_time, job.reason) == (None, None, reasons.BUILD_FAILED)
    assert "exit code 3" in job.message


def test_a_job_with_install_steps_that_ended() -> None:
    build, job = said(pod(ended({"exitCode": 0}), build=True), installed_at=BEGAN_S + 1)
    assert (build.attempt_id, build.exit_code) == (BUILD, 0)
    assert (job.attempt_id, job.exit_code, job.start_time) == (ATTEMPT, 0, BEGAN_S + 1)
    # How far it came is not known before its log is read: its own end is.
    (alone,) = said(pod(ended({"exitCode": 0}), build=True))
    assert (alone.attempt_id, alone.exit_code) == (ATTEMPT, 0)


def test_what_is_gone() -> None:
    (lost,) = gone_report(read_pod(pod(running())), stopping=False)
    assert (lost.state, lost.reason) == (AttemptState.LOST, reasons.POD_DELETED)
    (stopped,) = gone_report(read_pod(pod(running())), stopping=True)
    assert (stopped.state, stopped.exit_code) == (AttemptState.EXITED, None)
    # Its container was seen to end, and its pod was not.
    seen = ended({"exitCode": 4})
    (known,) = gone_report(read_pod(pod({**seen, "phase": "Running"})), stopping=False)
    assert known.exit_code == 4


# --------------------------------------------------------------------------------- anything
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 200) | st.sampled_from(["", BEGAN, "job", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "state",
                    "terminated",
                    "running",
                    "waiting",
                    "exitCode",
                    "reason",
                    "startedAt",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(
    status=st.fixed_dictionaries(
        {"phase": st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown", None])},
        optional={
            "containerStatuses": _JSON,
            "initContainerStatuses": _JSON,
            "conditions": _JSON,
            "reason": _JSON,
            "message": _JSON,
        },
    ),
    build=st.booleans(),
    stopping=st.booleans(),
)
def test_no_pod_is_too_strange(status: Json, build: bool, stopping: bool) -> None:
    reading = read_pod(pod(status, build=build))
    found = reports(reading, installed_at=None, stopping=stopping)
    assert found
    assert reading.ended == any(r.state.ended and r.attempt_id == ATTEMPT for r in found)
    gone = gone_report(reading, stopping=stopping)
    assert any(r.state.ended and r.attempt_id == ATTEMPT for r in gone)
