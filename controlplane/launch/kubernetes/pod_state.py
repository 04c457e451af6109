"""What a pod says of its attempt, from the object that the API server has of it. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from controlplane.domain import reasons
from controlplane.domain.model import AttemptReport
from controlplane.domain.states import AttemptState
from controlplane.launch.kubernetes import names
from controlplane.launch.kubernetes.api import Object
from controlplane.launch.kubernetes.names import CODE_CONTAINER, JOB_CONTAINER
from controlplane.launch.kubernetes.pod_endings import Ending, ending_of, lost
from controlplane.launch.kubernetes.pod_status import (
    container_state,
    items,
    mapping,
    started_at,
    terminated,
    text,
)

_IMAGE_TROUBLE: Final = re.compile(
    r"ErrImagePull|ImagePullBackOff|InvalidImageName|ErrImageNeverPull|ImageInspectError"
    r"|RegistryUnavailable|SignatureValidationFailed"
)
_CONTAINER_TROUBLE: Final = re.compile(r"CreateContainer(Config)?Error|RunContainerError")


@dataclass(frozen=True, slots=True)
class PodReading:
    """What the launcher goes by."""

    pod: Object
    uid: str
    name: str
    attempt_id: str
    """"" if it is no attempt's."""
    build_attempt_id: str
    """"" without install steps."""
    experiment_id: str
    node_name: str
    """That it is bound to; "" while it is not."""
    planned_node: str
    """That it was made for."""
    deleting: bool
    ended: bool
    """By the kubelet's word nothing of it runs any more."""
    job_started: bool
    job_ended: bool
    """Nothing more comes to the log of its job."""

    @property
    def installs(self) -> bool:
        return bool(self.build_attempt_id)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a container does not start, where waiting will hardly help."""

    reason: str
    message: str


def read_pod(pod: Object) -> PodReading:
    """Understands any pod; fields that are missing are empty."""
    annotations = mapping(pod, "metadata", "annotations")
    ended = text(pod, "status", "phase") in ("Succeeded", "Failed")
    return PodReading(
        pod=pod,
        uid=text(pod, "metadata", "uid"),
        name=text(pod, "metadata", "name"),
        attempt_id=text(annotations, names.ATTEMPT),
        build_attempt_id=text(annotations, names.BUILD_ATTEMPT),
        experiment_id=text(annotations, names.EXPERIMENT),
        node_name=text(pod, "spec", "nodeName"),
        planned_node=text(annotations, names.PLANNED_NODE),
        deleting=bool(mapping(pod, "metadata").get("deletionTimestamp")),
        ended=ended,
        job_started=started_at(pod, JOB_CONTAINER) is not None,
        job_ended=ended or terminated(pod, JOB_CONTAINER) is not None,
    )


def reports(
    reading: PodReading, *, installed_at: float | None, stopping: bool
) -> tuple[AttemptReport, ...]:
    """All that the pod says now, in order; see `launch/protocol.py`. Lengths of logs are left open.

    `installed_at`: when the install steps were through, in seconds since the epoch, which only the
    log tells; None: they are not, as far as it has been read. `stopping`: we asked for its end.
    """
    if reading.ended:
        return _ended(reading, ending_of(reading.pod, stopping=stopping), installed_at)
    if not reading.node_name:
        return ()
    return _under_way(reading, installed_at)


def still_running(reading: PodReading, *, installed_at: float | None) -> tuple[AttemptReport, ...]:
    """What it said before it ended, of a pod whose job had begun."""
    return _under_way(reading, installed_at)


def gone_report(reading: PodReading, *, stopping: bool) -> tuple[AttemptReport, ...]:
    """The object is gone, and its last state was not an end: `reading` is what was seen last."""
    job = terminated(reading.pod, JOB_CONTAINER)
    if job is not None:
        # Its only container that counts had ended; the pod's own phase was just not seen any more.
        return _ended(reading, ending_of(reading.pod, stopping=stopping), None)
    if stopping:
        ending = Ending(AttemptState.EXITED, "", "stopped; how it ended was not seen")
    else:
        ending = lost(
            f"its pod on node {reading.node_name or reading.planned_node} was deleted",
            reasons.POD_DELETED,
        )
    return _ended(reading, ending, None)


def obstacle_of(reading: PodReading) -> Obstacle | None:
    """Whether it waits in a way that will hardly mend by itself."""
    if reading.ended:
        return None
    for container in (CODE_CONTAINER, JOB_CONTAINER):
        waiting = mapping(container_state(reading.pod, container), "waiting")
        reason, words = text(waiting, "reason"), text(waiting, "message")
        if _IMAGE_TROUBLE.fullmatch(reason):
            image = _image_of(reading.pod, container)
            return Obstacle(
                reasons.IMAGE_PULL_FAILED,
                f"image {image} cannot be pulled: {words or reason}",
            )
        if _CONTAINER_TROUBLE.fullmatch(reason):
            return Obstacle(
                reasons.CONTAINER_REFUSED,
                f"its container {container} cannot be made: {words or reason}",
            )
    return None


def obstacle_report(reading: PodReading, obstacle: Obstacle) -> tuple[AttemptReport, ...]:
    """The end of a pod that is deleted for its obstacle."""
    ending = Ending(AttemptState.EXITED, obstacle.reason, obstacle.message)
    return _ended(reading, ending, None)


# ----------------------------------------------------------------------------- before the end
def _under_way(reading: PodReading, installed_at: float | None) -> tuple[AttemptReport, ...]:
    began = started_at(reading.pod, JOB_CONTAINER)
    if began is None:
        return (_preparing(reading.attempt_id, _what_it_waits_for(reading)),)
    running = AttemptState.RUNNING
    if not reading.installs:
        return (AttemptReport(reading.attempt_id, running, start_time=began),)
    building = AttemptReport(reading.build_attempt_id, running, start_time=began)
    if installed_at is None:
        return (_preparing(reading.attempt_id, "install steps are running"), building)
    return (
        _built(reading, began, installed_at),
        AttemptReport(reading.attempt_id, running, start_time=installed_at),
    )


def _preparing(attempt_id: str, message: str) -> AttemptReport:
    return AttemptReport(attempt_id, AttemptState.PREPARING, message=message)


def _what_it_waits_for(reading: PodReading) -> str:
    obstacle = obstacle_of(reading)
    if obstacle is not None:
        return obstacle.message
    code = container_state(reading.pod, CODE_CONTAINER)
    if "running" in code:
        return "its code is being fetched"
    if terminated(reading.pod, CODE_CONTAINER) is not None:
        return f"image {_image_of(reading.pod, JOB_CONTAINER)} is being pulled or started"
    return "its pod is being started"


def _image_of(pod: Object, container: str) -> str:
    for key in ("initContainers", "containers"):
        for one in items(pod, "spec", key):
            if one.get("name") == container:
                return text(one, "image")
    return ""


# ------------------------------------------------------------------------------------ the end
def _ended(
    reading: PodReading, ending: Ending, installed_at: float | None
) -> tuple[AttemptReport, ...]:
    began = started_at(reading.pod, JOB_CONTAINER)
    attempt = AttemptReport(
        reading.attempt_id,
        ending.state,
        reason=ending.reason,
        message=ending.message,
        exit_code=ending.exit_code,
        exit_signal=ending.exit_signal,
        start_time=began,
        end_time=ending.end_time,
    )
    if not reading.installs:
        return (attempt,)
    if ending.install_failed:
        failed = replace(attempt, attempt_id=reading.build_attempt_id)
        # The job itself never ran.
        return failed, replace(attempt, exit_code=None, exit_signal=0, start_time=None)
    if began is None or installed_at is None:
        # Whether it had come so far only the log tells. The build ends with its attempt.
        return (attempt,)
    return _built(reading, began, installed_at), replace(attempt, start_time=installed_at)


def _built(reading: PodReading, began: float, installed_at: float) -> AttemptReport:
    return AttemptReport(
        reading.build_attempt_id,
        AttemptState.EXITED,
        exit_code=0,
        start_time=began,
        end_time=installed_at,
    )
