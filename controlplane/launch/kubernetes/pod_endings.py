"""How a pod ended that has ended: reason, message for people, exit status. PURE.

What nobody is to blame for is LOST or has a reason among `reasons.INTERRUPTIONS`, and is tried
again, uncounted. The phases, reasons and conditions are the kubelet's:
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and .../disruptions/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.domain import reasons
from controlplane.domain.states import AttemptState
from controlplane.launch.kubernetes.api import Object
from controlplane.launch.kubernetes.markers import INSTALL_FAILED_PREFIX
from controlplane.launch.kubernetes.names import CODE_CONTAINER, JOB_CONTAINER
from controlplane.launch.kubernetes.pod_status import (
    condition,
    items,
    mapping,
    seconds,
    terminated,
    text,
)
from riseml.spec.code_fetch import FetchExit

LAST_LINES: Final = 3
_SIGNAL_CODES: Final = range(129, 160)
_REFUSED: Final = re.compile(
    r"UnexpectedAdmissionError|OutOf\w.*|Node(?:Affinity|Name|Ports|UnexpectedAdmissionError)"
    r"|TopologyAffinityError|PodOSSelectorNodeLabelDoesNotMatch|InvalidNodeInfo|Admission\w*"
)
_SHUTDOWN: Final = frozenset({"NodeShutdown", "Terminated", "Shutdown"})
_COULD_NOT_START: Final = frozenset({"StartError", "ContainerCannotRun", "RunContainerError"})
# What a container runtime says of a start that its kubelet did not live to see the end of.
_CUT_OFF: Final = ("context canceled", "context deadline exceeded")
# Of the init container: a later try, elsewhere or at another time, may do.
_FETCH_AGAIN: Final = frozenset({FetchExit.UNREACHABLE, FetchExit.NO_SPACE, FetchExit.STOPPED})
_DISRUPTIONS: Final = {
    "PreemptionByScheduler": "made room for a pod of a higher priority",
    "DeletionByTaintManager": "its node was tainted NoExecute",
    "EvictionByEvictionAPI": "evicted through the API, as when a node is drained",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "its node was short of something, or was shut down",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of an attempt's pod."""

    state: AttemptState
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    exit_signal: int = 0
    end_time: float | None = None
    install_failed: bool = False
    """It ended in its install steps."""


def ending_of(pod: Object, *, stopping: bool) -> Ending:
    """Of a pod whose phase is Succeeded or Failed. `stopping`: we had asked for its end."""
    job = terminated(pod, JOB_CONTAINER)
    for judge in (_refused, _disrupted, _code_failed):
        found = judge(pod, job)
        if found is not None:
            return found
    if job is None:
        return _without_status(pod, stopping)
    return _of_job(pod, job, stopping)


def lost(message: str, reason: str) -> Ending:
    """Nobody's fault."""
    return Ending(AttemptState.LOST, reason, message)


# ------------------------------------------------------------------------- nobody's fault
def _refused(pod: Object, job: Mapping[str, Any] | None) -> Ending | None:
    """The kubelet did not take it: what we knew of the node was too old."""
    reason = text(pod, "status", "reason")
    if job is not None or items(pod, "status", "initContainerStatuses"):
        return None
    if not _REFUSED.fullmatch(reason):
        return None
    words = text(pod, "status", "message")
    return lost(f"its node refused the pod: {reason}: {words}", reasons.PLACEMENT_REFUSED)


def _disrupted(pod: Object, job: Mapping[str, Any] | None) -> Ending | None:
    reason = text(pod, "status", "reason")
    words = text(pod, "status", "message")
    disruption = condition(pod, "DisruptionTarget")
    if job is not None and job.get("exitCode") == 0:
        # It was done before it was hit.
        return None
    if reason in _SHUTDOWN and (job is None or disruption is not None or "shutdown" in words):
        return lost(f"its node was shut down: {words or reason}", reasons.NODE_SHUTDOWN)
    if reason == "Preempting" or disruption is not None:
        why = _disruption_words(disruption)
        return lost(f"evicted by Kubernetes: {words or why}", reasons.EVICTED)
    if reason == "Evicted":
        # Without that condition it was for what the pod itself did: its files grew too large.
        return Ending(
            AttemptState.EXITED,
            reasons.EVICTED,
            f"evicted by its node: {words}",
            end_time=_end_time(pod, job),
        )
    if reason == "NodeLost":
        return lost(f"its node is gone: {words}", reasons.NODE_LOST)
    return None


def _disruption_words(found: Mapping[str, Any] | None) -> str:
    reason = text(found or {}, "reason")
    return text(found or {}, "message") or _DISRUPTIONS.get(reason, reason or "preempted")


# ---------------------------------------------------------------------------- before the job
def _code_failed(pod: Object, job: Mapping[str, Any] | None) -> Ending | None:
    code = terminated(pod, CODE_CONTAINER)
    if job is not None or code is None or code.get("exitCode") == 0:
        return None
    number = code.get("exitCode")
    said = text(code, "message").strip()
    words = said.rpartition("\n")[2].removeprefix("riseml-fetch-code: ")
    if code.get("reason") == "OOMKilled":
        words = "it needed more memory than it has; tell whoever runs this cluster"
    elif code.get("reason") in _COULD_NOT_START:
        words = f"riseml-fetch-code could not be started in the platform image: {words}"
    message = f"its code could not be fetched: {words or f'exit code {number}'}"
    if number in _FETCH_AGAIN or _start_was_cut_off(code):
        return lost(message, reasons.CODE_FETCH_FAILED)
    return Ending(
        AttemptState.EXITED, reasons.CODE_FETCH_FAILED, message, end_time=_end_time(pod, code)
    )


def _without_status(pod: Object, stopping: bool) -> Ending:
    """The pod has ended, and nothing is known of its job's container."""
    reason, words = text(pod, "status", "reason"), text(pod, "status", "message")
    if stopping:
        return Ending(AttemptState.EXITED, "", "stopped before it began")
    if reason == "DeadlineExceeded":
        return Ending(AttemptState.EXITED, "DEADLINE_EXCEEDED", words or reason)
    if mapping(pod, "metadata").get("deletionTimestamp"):
        return lost("somebody deleted its pod before it began", reasons.POD_DELETED)
    said = ": ".join(part for part in (reason, words) if part) or "Kubernetes gives no reason"
    return lost(f"its pod ended without the job: {said}", reasons.LOST)


# ------------------------------------------------------------------------------- the job itself
def _of_job(pod: Object, job: Mapping[str, Any], stopping: bool) -> Ending:
    code = job.get("exitCode")
    code = code if isinstance(code, int) else None
    why, said = text(job, "reason"), text(job, "message").rstrip("\n")
    end_time = _end_time(pod, job)
    if why == "OOMKilled":
        return Ending(
            AttemptState.EXITED,
            reasons.OOM_KILLED,
            f"it used more memory than `mem` allows{_memory_limit(pod)}; ask for more in "
            "riseml.yml",
            exit_signal=9,
            end_time=end_time,
        )
    if _start_was_cut_off(job):
        if stopping:
            return Ending(AttemptState.EXITED, "", "stopped before it began", end_time=end_time)
        return lost(f"its kubelet was restarted while it began: {said}", reasons.LOST)
    if why in _COULD_NOT_START:
        return Ending(
            AttemptState.EXITED,
            "EXEC_FAILED",
            f"its container could not be started: {said or why}; does the image have /bin/sh?",
            end_time=end_time,
        )
    if why == "ContainerStatusUnknown":
        return lost(f"its container is gone without a trace: {said}", reasons.LOST)
    if said.startswith(INSTALL_FAILED_PREFIX):
        return Ending(
            AttemptState.EXITED,
            reasons.BUILD_FAILED,
            f"an install step failed with exit code {code}",
            exit_code=code,
            end_time=end_time,
            install_failed=True,
        )
    deleted = bool(mapping(pod, "metadata").get("deletionTimestamp"))
    if deleted and not stopping and code != 0:
        return lost(f"somebody deleted its pod, and the job ended with {code}", reasons.POD_DELETED)
    signal = code - 128 if code in _SIGNAL_CODES and code is not None else 0
    return Ending(
        AttemptState.EXITED,
        "",
        "" if code == 0 else _last_lines(said),
        exit_code=None if signal else code,
        exit_signal=signal,
        end_time=end_time,
    )


def _start_was_cut_off(container: Mapping[str, Any]) -> bool:
    """Nothing of it has run, and nothing is wrong with it."""
    said = text(container, "message")
    return text(container, "reason") in _COULD_NOT_START and any(one in said for one in _CUT_OFF)


def _memory_limit(pod: Object) -> str:
    for container in items(pod, "spec", "containers"):
        if container.get("name") == JOB_CONTAINER:
            limit = text(container, "resources", "limits", "memory")
            if limit.isdigit():
                return f" ({int(limit) / 2**30:.2f} GiB)"
    return ""


def _last_lines(said: str) -> str:
    """The end of what it wrote, on one line; the kubelet keeps 80 lines or 2 KiB."""
    return " / ".join([line.strip() for line in said.splitlines() if line.strip()][-LAST_LINES:])


def _end_time(pod: Object, container: Mapping[str, Any] | None) -> float | None:
    return seconds(text(container or {}, "finishedAt")) or None
