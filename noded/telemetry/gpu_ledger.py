"""Keeps what is known of every GPU between readings: inventory, newest reading, XIDs, verdict. Does
no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable

from noded.telemetry.health import DEFAULT_POLICY, HealthPolicy, assess
from noded.telemetry.model import (
    GpuHealth,
    GpuInfo,
    GpuSample,
    GpuStatus,
    HealthState,
    ReadingFault,
    XidEvent,
)


class GpuLedger:
    """The GPUs of a node. None that was seen is ever forgotten: if it disappears, it is lost.

    Each method returns whether a verdict or the inventory is another than before. `now` is wall
    time.
    """

    def __init__(self, policy: HealthPolicy = DEFAULT_POLICY) -> None:
        self._policy = policy
        self._status: dict[str, GpuStatus] = {}

    def gpus(self) -> tuple[GpuStatus, ...]:
        """All GPUs ever seen, in the order of their index."""
        return tuple(sorted(self._status.values(), key=lambda gpu: gpu.info.index))

    def any_lost(self) -> bool:
        """Whether some GPU is lost at present."""
        return any(gpu.health.state is HealthState.LOST for gpu in self._status.values())

    def found(self, infos: Iterable[GpuInfo], now: float) -> bool:
        """The driver shows these GPUs. Their health is UNKNOWN until a reading comes."""
        changed = False
        for info in infos:
            known = self._status.get(info.uuid)
            if known is None:
                health = GpuHealth(HealthState.UNKNOWN, "starting", "not read yet", now)
                self._status[info.uuid] = GpuStatus(info, health)
                changed = True
            elif known.info != info:
                self._status[info.uuid] = GpuStatus(
                    info, known.health, known.sample, known.last_xid
                )
                changed = True
        return changed

    def read(self, samples: Iterable[GpuSample], now: float) -> bool:
        """One reading of all GPUs; those that it lacks are lost."""
        by_uuid = {sample.uuid: sample for sample in samples}
        changed = False
        for uuid in self._status:
            sample = by_uuid.get(uuid)
            if sample is None:
                message = "the driver no longer shows the GPU"
                sample = GpuSample(uuid, ReadingFault.LOST, message)
            changed |= self._judge(uuid, sample, (), now)
        return changed

    def told(self, event: XidEvent, now: float) -> bool:
        """The driver reported an XID."""
        known = self._status.get(event.uuid)
        if known is None:
            return False
        self._status[event.uuid] = GpuStatus(known.info, known.health, known.sample, event)
        if event.code in self._policy.ignored_xids:
            return False
        return self._judge(event.uuid, known.sample, (event,), now)

    def silent(self, now: float) -> bool:
        """No reading came in time."""
        return any([self._judge(uuid, None, (), now) for uuid in self._status])

    def _judge(
        self, uuid: str, sample: GpuSample | None, xids: tuple[XidEvent, ...], now: float
    ) -> bool:
        known = self._status[uuid]
        health = assess(known.info, known.health, sample, xids, now, self._policy)
        readable = sample if sample is not None and sample.fault is None else None
        if health.state is HealthState.LOST:
            readable = None
        self._status[uuid] = GpuStatus(known.info, health, readable, known.last_xid)
        return (health.state, health.reason) != (known.health.state, known.health.reason)
