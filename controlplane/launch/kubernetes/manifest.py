"""From an order to the objects of Kubernetes that run it. PURE.

A pod has two containers: `code`, which brings the job's code and ends, and `job`. It belongs to the
experiment's owner object, with which everything of the experiment goes. Fields are those of
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from controlplane.domain.model import AttemptOrder
from controlplane.launch.kubernetes import names
from controlplane.launch.kubernetes.api import Object
from controlplane.launch.kubernetes.containers import code_container, job_container
from controlplane.launch.kubernetes.job_secrets import JobSecret
from controlplane.launch.kubernetes.security import pod_security_context
from controlplane.launch.kubernetes.settings import KubernetesSettings, Toleration
from controlplane.launch.kubernetes.volumes import pod_volumes
from riseml.spec.pod_names import RENDEZVOUS_PORT, host_name, service_name

_STAYS_WITH_ITS_NODE: Final[tuple[Toleration, ...]] = tuple(
    {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute"}
    for what in ("not-ready", "unreachable")
)
"""Kubernetes would delete pods of a node that it does not hear of for five minutes. Whether such a
job goes on is for us to say: it may run well, and starting it twice would be worse than waiting."""


@dataclass(frozen=True, slots=True)
class PodContext:
    """What a pod needs that its order does not say."""

    settings: KubernetesSettings
    cluster_id: str
    ca_pem: str = field(repr=False)
    """Of the control plane's certificate; "" where it is served in the clear."""
    secret: JobSecret | None
    """What stands in a Secret; None: the job has nothing to hide."""
    owner_uid: str
    """Of the experiment's owner object."""
    configuration: str
    """The text of riseml-configuration.yml; "": there is none."""


def pod_manifest(order: AttemptOrder, node_name: str, context: PodContext) -> Object:
    """The pod of an attempt on a node. Raises NoImage."""
    settings = context.settings
    spec: Object = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": max(1, math.ceil(order.grace_period_seconds)),
        # Jobs have no business with the Kubernetes API.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security_context(settings),
        "initContainers": [
            code_container(
                order,
                settings,
                secret=context.secret,
                ca_pem=context.ca_pem,
                configuration=context.configuration,
            )
        ],
        "containers": [job_container(order, settings, context.secret)],
        "volumes": pod_volumes(order, settings),
        "tolerations": [*_STAYS_WITH_ITS_NODE, *(dict(t) for t in settings.tolerations)],
        **_placement(settings, node_name),
    }
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    if order.peers:
        spec["hostname"] = host_name(order.job_type, order.job_number)
        spec["subdomain"] = service_name(order.experiment_id)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": names.pod_name(order.attempt_id),
            "namespace": settings.namespace,
            "labels": _labels(order, context.cluster_id),
            "annotations": _annotations(order, node_name),
            "ownerReferences": [names.owner_reference(order.experiment_id, context.owner_uid)],
        },
        "spec": spec,
    }


def _placement(settings: KubernetesSettings, node_name: str) -> Object:
    """Who gives the pod its node: we, or Kubernetes' scheduler, who may take only that one."""
    if settings.scheduling == "bind":
        return {"schedulerName": names.SCHEDULER_NAME}
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node_name]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"schedulingGates": [{"name": names.GATE}], "affinity": {"nodeAffinity": required}}


def _labels(order: AttemptOrder, cluster_id: str) -> dict[str, str]:
    labels = names.labels_of(cluster_id, order.experiment_id)
    labels[names.JOB_TYPE_LABEL] = order.job_type
    if names.is_label_value(order.user_name):
        labels[names.USER_LABEL] = order.user_name
    return labels


def _annotations(order: AttemptOrder, node_name: str) -> dict[str, str]:
    annotations = {
        names.ATTEMPT: order.attempt_id,
        names.EXPERIMENT: order.experiment_id,
        names.PROJECT: order.project,
        names.PLANNED_NODE: node_name,
    }
    if order.install:
        annotations[names.BUILD_ATTEMPT] = order.build_attempt_id
    return annotations


def owner_manifest(experiment_id: str, settings: KubernetesSettings, cluster_id: str) -> Object:
    """The object that owns all others of an experiment: a ConfigMap that says nothing else."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.owner_name(experiment_id),
            "namespace": settings.namespace,
            "labels": names.labels_of(cluster_id, experiment_id),
            "annotations": {names.EXPERIMENT: experiment_id},
        },
    }


def service_manifest(
    experiment_id: str, settings: KubernetesSettings, cluster_id: str, owner_uid: str
) -> Object:
    """The headless Service by which the members of a gang find each other.

    Members that are not ready are published as well: they have to meet before any of them is.
    """
    labels = names.labels_of(cluster_id, experiment_id)
    selected = (names.CLUSTER_LABEL, names.EXPERIMENT_LABEL)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": service_name(experiment_id),
            "namespace": settings.namespace,
            "labels": labels,
            "ownerReferences": [names.owner_reference(experiment_id, owner_uid)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {key: labels[key] for key in selected},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT}],
        },
    }
