"""Deletes pods: with their grace period, sooner when somebody insists, by force when nothing helps.

A deletion begins with SIGTERM; the object stays until the kubelet has seen the last process end. So
its disappearance is the proof that nothing runs any more, except after a deletion by force, which
only removes the object: that is done only while the node's kubelet reports, for it then kills what
has no object.

A grace period that is shortened is shortened in the object at once. Kubelets, up to 1.35 at least,
go by it only if they have not begun to stop the container (kubernetes issue 113606).
"""

from __future__ import annotations

import logging
import math
from datetime import datetime
from typing import Final

from controlplane.launch.kubernetes.api import Api, Conflict, Kind, NotFound, Object

_log = logging.getLogger(__name__)

AT_ONCE_SECONDS: Final = 1
"""The shortest grace with which a kubelet still confirms the end: 0 would be by force."""


class PodRemover:
    """Deletes in one namespace."""

    def __init__(self, api: Api, namespace: str, force_seconds: float) -> None:
        """`force_seconds`: how long after its grace period a pod may stay."""
        self._api = api
        self._namespace = namespace
        self._force_seconds = force_seconds

    async def remove(
        self, pod: Object, grace_seconds: float | None, node_ready: bool, now: float
    ) -> float:
        """Takes the next step; returns after how many seconds to come again at the latest.

        `grace_seconds` None: the pod's own; `now` is wall-clock time.
        """
        about = pod["metadata"]
        wanted = None if grace_seconds is None else max(AT_ONCE_SECONDS, math.ceil(grace_seconds))
        if "deletionTimestamp" not in about:
            await self._delete(pod, wanted)
            return self._force_seconds
        given = int(about.get("deletionGracePeriodSeconds") or 0)
        # The server sets the time at which the grace period is over.
        overdue = now - _seconds(about["deletionTimestamp"])
        if wanted is not None and wanted < given and overdue < 0:
            await self._delete(pod, wanted)
            return self._force_seconds
        if overdue < self._force_seconds:
            return self._force_seconds - overdue
        if not node_ready:
            # Its kubelet, once it is back, still gives the job what is left of its grace period.
            return self._force_seconds
        if given > AT_ONCE_SECONDS:
            _log.warning("pod %s outlived its grace period: it is killed", about["name"])
            await self._delete(pod, AT_ONCE_SECONDS)
            return self._force_seconds
        if overdue >= 2 * self._force_seconds:
            _log.warning("pod %s cannot be killed: its object is removed by force", about["name"])
            await self._delete(pod, 0)
        return self._force_seconds

    async def discard(self, pod: Object) -> None:
        """Deletes the object of a pod whose containers have all ended by the kubelet's word."""
        await self._delete(pod, 0)

    async def _delete(self, pod: Object, grace_seconds: int | None) -> None:
        about = pod["metadata"]
        try:
            await self._api.delete(
                Kind.POD,
                self._namespace,
                about["name"],
                uid=about["uid"],
                grace_period_seconds=grace_seconds,
            )
        except (NotFound, Conflict):
            # It is gone, and the watch will say so.
            return


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
