"""Parts of a pod's object, whatever of it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from controlplane.launch.kubernetes.api import Object

_NOTHING: Final[Mapping[str, Any]] = {}


def mapping(value: Any, *path: str) -> Mapping[str, Any]:
    """What lies at a path of keys, if that is a mapping; else an empty one."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else _NOTHING


def text(value: Any, *path: str) -> str:
    """The text at a path of keys; "" without one."""
    found = mapping(value, *path[:-1]).get(path[-1])
    return found if isinstance(found, str) else ""


def items(value: Any, *path: str) -> list[Mapping[str, Any]]:
    """The mappings in the list at a path of keys."""
    found = mapping(value, *path[:-1]).get(path[-1])
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def seconds(timestamp: str) -> float | None:
    """Of an RFC 3339 time, since the epoch; None if it is none."""
    try:
        return datetime.fromisoformat(timestamp).timestamp() if timestamp else None
    except ValueError:
        return None


def container_state(pod: Object, container: str) -> Mapping[str, Any]:
    """`state` of a container or init container by its name."""
    for key in ("containerStatuses", "initContainerStatuses"):
        for status in items(pod, "status", key):
            if status.get("name") == container:
                return mapping(status, "state")
    return _NOTHING


def terminated(pod: Object, container: str) -> Mapping[str, Any] | None:
    """How a container ended; None if it did not."""
    found = container_state(pod, container).get("terminated")
    return found if isinstance(found, Mapping) else None


def started_at(pod: Object, container: str) -> float | None:
    """When a container began to run, in seconds since the epoch; None if it never did."""
    state = container_state(pod, container)
    for phase in ("running", "terminated"):
        began = seconds(text(state, phase, "startedAt"))
        # A container that could not be started has a time of 0.
        if began:
            return began
    return None


def condition(pod: Object, kind: str) -> Mapping[str, Any] | None:
    """A condition of the pod that is true."""
    for one in items(pod, "status", "conditions"):
        if one.get("type") == kind and one.get("status") == "True":
            return one
    return None
