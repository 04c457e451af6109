"""Where the log of a container can be read: through the Kubernetes API, or by the daemon of its
node, which sees files that were rotated away as well (`node_logs.py`).

Both give `TIME text` lines with the same times, so that a reading may be broken off here and go on
there: `log_position.py` knows by the times what is archived.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from controlplane.launch.kubernetes.api import Api


@dataclass(frozen=True, slots=True, eq=False)
class ContainerLog:
    """Which log it is."""

    node_name: str
    namespace: str
    pod_name: str
    pod_uid: str
    container: str
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """The container has terminated, or its pod is gone or will never run."""


class LogSource(Protocol):
    """Reads logs."""

    def read(
        self, log: ContainerLog, since_time: str, *, to_end: bool
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Chunks of any size, from the whole second `since_time` on. With `to_end`, which is for a
        container that has ended, all there is; else it may end at any time, to be asked again.
        Raises ApiError."""
        ...


class ApiLogs:
    """Through the API."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def read(
        self, log: ContainerLog, since_time: str, *, to_end: bool
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self._api.read_log(
            log.namespace,
            log.pod_name,
            log.container,
            follow=True,
            timestamps=True,
            since_time=since_time,
        )
