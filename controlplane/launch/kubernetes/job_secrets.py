"""What of a job nobody may read in its pod's description: it lies in a Secret beside it. PURE.

Secret variables of the job, and the token with which its init container fetches the code. The
Secret's name follows from what is in it, so that making it twice makes one, and it belongs to the
experiment's owner object. The control plane may create Secrets, and read none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.domain.model import AttemptOrder
from controlplane.launch.kubernetes import names
from controlplane.launch.kubernetes.api import Object
from controlplane.launch.kubernetes.settings import KubernetesSettings

_HASH_LENGTH = 16


@dataclass(frozen=True, slots=True)
class JobSecret:
    """Of the pods of one gang."""

    name: str
    data: Mapping[str, str]

    def reference(self, key: str) -> Object:
        """Where a container's variable has its value from."""
        return {"secretKeyRef": {"name": self.name, "key": key}}


def variable_key(name: str) -> str:
    """Of a job's secret variable."""
    return f"env.{name}"


def token_key(attempt_id: str) -> str:
    """Of what opens the code of one attempt."""
    return f"token.{names.pod_name(attempt_id)}"


def job_secret(
    orders: Sequence[AttemptOrder], tokens: Mapping[str, str], cluster_id: str
) -> JobSecret | None:
    """Of these members of one gang; `tokens` by attempt. None: there is nothing to hide."""
    data = {
        token_key(order.attempt_id): tokens[order.attempt_id]
        for order in orders
        if order.revision_id
    }
    for order in orders:
        secret = frozenset(order.secret_env_names)
        data |= {variable_key(name): value for name, value in order.env if name in secret}
    if not data:
        return None
    text = json.dumps([cluster_id, sorted(data.items())])
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]
    return JobSecret(f"{names.owner_name(orders[0].experiment_id)}-{digest}", data)


def secret_manifest(
    secret: JobSecret,
    experiment_id: str,
    settings: KubernetesSettings,
    cluster_id: str,
    owner_uid: str,
) -> Object:
    """It goes with the experiment."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": secret.name,
            "namespace": settings.namespace,
            "labels": names.labels_of(cluster_id, experiment_id),
            "ownerReferences": [names.owner_reference(experiment_id, owner_uid)],
        },
        "immutable": True,
        "stringData": dict(secret.data),
    }
