"""Names, labels and annotations of the objects that we make in Kubernetes.

A pod's name follows from its attempt, so that whoever makes it twice gets one. Labels are for
selectors and for people with kubectl; what has to be exact stands in annotations, which take any
text.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from riseml.spec.pod_names import MAX_LABEL, service_name

CLUSTER_LABEL: Final = "riseml.com/cluster-id"
EXPERIMENT_LABEL: Final = "riseml.com/experiment"
JOB_TYPE_LABEL: Final = "riseml.com/job-type"
USER_LABEL: Final = "riseml.com/user"

ATTEMPT: Final = "riseml.com/attempt-id"
BUILD_ATTEMPT: Final = "riseml.com/build-attempt-id"
EXPERIMENT: Final = "riseml.com/experiment-id"
PROJECT: Final = "riseml.com/project"
PLANNED_NODE: Final = "riseml.com/node"

JOB_CONTAINER: Final = "job"
CODE_CONTAINER: Final = "code"
GPU_RESOURCE: Final = "nvidia.com/gpu"
GATE: Final = "riseml.com/gang"
SCHEDULER_NAME: Final = "riseml"
"""Nobody schedules pods of this name but we, by binding them."""

_PLAIN_ATTEMPT: Final = re.compile(r"[a-z0-9]+(\.[a-z0-9]+)+-[0-9]+", re.ASCII)
_LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_HASH_LENGTH: Final = 10


def pod_name(attempt_id: str) -> str:
    """Of an attempt's pod: ``ana-17-worker-2-1`` for ``ana.17.worker.2-1``.

    A name of RFC 1123 with at most 63 characters. Where that alone might make two ids equal a hash
    of the id follows.
    """
    name = re.sub(r"[^a-z0-9]+", "-", attempt_id.lower()).strip("-")
    if _PLAIN_ATTEMPT.fullmatch(attempt_id) and len(name) <= MAX_LABEL:
        return name
    digest = hashlib.sha256(attempt_id.encode()).hexdigest()[:_HASH_LENGTH]
    kept = name[: MAX_LABEL - len("x--h") - _HASH_LENGTH].rstrip("-")
    return f"x-{kept}-h{digest}"


def owner_name(experiment_id: str) -> str:
    """Of the object that owns all others of an experiment: ``riseml-ana-17``."""
    return f"riseml-{service_name(experiment_id)}"


def labels_of(cluster_id: str, experiment_id: str) -> dict[str, str]:
    """What all objects of an experiment bear."""
    return {
        "app.kubernetes.io/name": "riseml-job",
        "app.kubernetes.io/managed-by": "riseml",
        "app.kubernetes.io/part-of": "riseml",
        CLUSTER_LABEL: cluster_id,
        EXPERIMENT_LABEL: service_name(experiment_id),
    }


def owner_reference(experiment_id: str, uid: str) -> dict[str, str]:
    """In what goes with the object that owns all of an experiment."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": owner_name(experiment_id),
        "uid": uid,
    }


def is_label_value(text: str) -> bool:
    """Whether Kubernetes takes it as a label's value."""
    return _LABEL_VALUE.fullmatch(text) is not None
