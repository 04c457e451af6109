"""Which values of a pod's environment nobody may read in its log."""

from __future__ import annotations

import json

from controlplane.launch.kubernetes.api import Object
from controlplane.launch.kubernetes.names import JOB_CONTAINER, SECRET_ENV


def secret_values(pod: Object) -> tuple[str, ...]:
    """From the pod itself: so a control plane that takes it over masks them as well."""
    names = json.loads(pod["metadata"].get("annotations", {}).get(SECRET_ENV) or "[]")
    for container in pod.get("spec", {}).get("containers", ()):
        if container.get("name") == JOB_CONTAINER:
            # `$$` is how Kubernetes writes a dollar sign that begins no variable.
            return tuple(
                str(variable.get("value", "")).replace("$$", "$")
                for variable in container.get("env", ())
                if variable.get("name") in names
            )
    return ()
