"""What the launcher needs of the control plane around it, so that it can be tried by itself."""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from controlplane.domain.events import Event
from controlplane.domain.model import Gpu


class Reactor(Protocol):
    """The single writer; see `controlplane.runtime.Runtime`."""

    async def submit(self, event: Event) -> Any:
        """The reply to an event once it is committed. Raises the DomainError that refused it."""
        ...

    def post(self, event: Event, *, soon: bool = True) -> None:
        """An event that nobody waits for. What a failed commit loses `resync` makes up for."""
        ...


class LogKind(enum.Enum):
    """What is kept of a container's output."""

    OUTPUT = "output"
    RESULTS = "results"


class LogSink(Protocol):
    """The archive of logs, by attempt. Bytes are addressed by their offset and kept once."""

    def end(self, attempt_id: str, kind: LogKind) -> int:
        """Its length in bytes; 0 when nothing came yet."""
        ...

    def read(self, attempt_id: str, kind: LogKind, offset: int, length: int) -> bytes:
        """Not for the event loop."""
        ...

    async def append(self, attempt_id: str, kind: LogKind, offset: int, data: bytes) -> None:
        """Returns when the bytes are archived; while the disk is full it waits and tries again."""
        ...

    async def finish(self, attempt_id: str) -> None:
        """Nothing more comes: hands what there is to the disk and wakes those who follow."""
        ...


class Facts(Protocol):
    """What is known of nodes and experiments, as of the last commit."""

    def node_epoch(self, node_name: str) -> int:
        """Of the node's last session; 0 when it never had one."""
        ...

    def gpus(self, node_name: str) -> Sequence[Gpu]:
        """Of the node, as they were described last; none when it is not known."""
        ...

    def telemetry_late(self, node_name: str) -> bool:
        """Whether the node is closed because of that."""
        ...

    def held_gpus(self, node_name: str) -> Collection[str]:
        """Which GPUs of the node attempts have that have not ended."""
        ...

    def stop_asked(self, attempt_id: str) -> bool:
        """Whether the attempt is to be stopped, or was."""
        ...

    def experiment_over(self, experiment_id: str) -> bool:
        """Whether it has ended, or nobody knows of it: nothing of it will run again."""
        ...

    def configuration(self, experiment_id: str) -> str:
        """The text of riseml-configuration.yml; "" when nobody knows of the experiment."""
        ...

    async def secret_values(self, attempt_id: str) -> tuple[str, ...]:
        """What nobody may read in its log; of attempts that ended long ago as well."""
        ...

    def job_token(self, attempt_id: str) -> str:
        """With which the pod's init container fetches its code; for a while always the same."""
        ...


class Leases(Protocol):
    """See `controlplane.leases.Leases`."""

    def renew(self, node_name: str, now: float) -> None: ...


class Freshness(Protocol):
    """See `controlplane.freshness.Freshness`."""

    def connected(self, node_name: str, late: bool, now: float) -> None: ...

    def disconnected(self, node_name: str) -> None: ...
