"""What only the clock brings to light: loops that tell the runtime of it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from controlplane.core.idle import watched
from controlplane.domain.errors import DomainError
from controlplane.domain.events import GpusIdle, NodeLeaseExpired, NodeTelemetryLate, TimePassed
from controlplane.freshness import Freshness
from controlplane.idleness import Idleness
from controlplane.leases import Leases
from controlplane.runtime import Runtime

logger = logging.getLogger(__name__)

IDLE_LOOK_SECONDS: Final = 1.0


async def watch_leases(runtime: Runtime, leases: Leases) -> None:
    """Twice in a heartbeat or so: which leases ran out, and that time has passed."""
    step = min(1.0, leases.lease_seconds / 10)
    while True:
        await asyncio.sleep(step)
        for node_name in leases.expired(time.monotonic()):
            try:
                await runtime.submit(NodeLeaseExpired(node_name))
            except DomainError as fault:
                logger.warning("node %s is not marked as LOST yet: %s", node_name, fault.message)
                leases.start([node_name], time.monotonic() - leases.lease_seconds)
        runtime.post(TimePassed())


async def watch_freshness(runtime: Runtime, freshness: Freshness) -> None:
    """Several times within the patience for a sample: whose telemetry is late, or no more so."""
    step = min(1.0, freshness.late_seconds / 5)
    while True:
        await asyncio.sleep(step)
        changes = freshness.changes(time.monotonic())
        await asyncio.gather(*(_tell(runtime, freshness, *change) for change in changes))


async def _tell(runtime: Runtime, freshness: Freshness, node_name: str, late: bool) -> None:
    words = "is late" if late else "comes again"
    try:
        await runtime.submit(NodeTelemetryLate(node_name, late))
    except DomainError as fault:
        # It stands among the changes the next time as well.
        logger.warning("telemetry of node %s %s: %s", node_name, words, fault.message)
        return
    freshness.told([(node_name, late)])
    logger.info("telemetry of node %s %s", node_name, words)


async def watch_idleness(runtime: Runtime, idleness: Idleness) -> None:
    """Once a second, as samples come: whose GPUs have been idle for too long."""
    while True:
        await asyncio.sleep(IDLE_LOOK_SECONDS)
        for change in idleness.look(watched(runtime.cluster), time.monotonic()):
            idle = change.idle_seconds
            since = None if idle is None else time.time() - idle
            event = GpusIdle(change.experiment_id, change.generation, since, change.stop)
            try:
                await runtime.submit(event)
            except DomainError as fault:
                # The next look says it again.
                logger.warning("idle GPUs of %s: %s", change.experiment_id, fault.message)
