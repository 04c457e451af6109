"""What Pod Security allows a job: the standards' level restricted unless the admin chose another.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from typing import Final

from controlplane.launch.kubernetes.api import Object
from controlplane.launch.kubernetes.settings import KubernetesSettings

DEFAULT_GROUP: Final = 1000
"""Of volumes, where jobs run as whoever their image says."""


def pod_security_context(settings: KubernetesSettings) -> Object:
    """Of the pod: who runs it, and whose its volumes are.

    The group of the volumes is what the init container, which brings the code, and the job share.
    """
    context: Object = {
        "fsGroup": DEFAULT_GROUP if settings.run_as_user is None else settings.run_as_user or 0,
        # Without it the kubelet changes every file of a large volume at every start of a job.
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    if settings.run_as_user is not None:
        context |= {"runAsUser": settings.run_as_user, "runAsGroup": settings.run_as_user}
    if settings.pod_security == "restricted":
        context |= {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    return context


def container_security_context(settings: KubernetesSettings) -> Object:
    """Of each container."""
    match settings.pod_security:
        case "restricted":
            return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        case _:
            return {"allowPrivilegeEscalation": settings.pod_security == "privileged"}
