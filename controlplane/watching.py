"""What only the clock brings to light: loops that tell the runtime of it."""

from __future__ import annotations

import asyncio
import logging
import time

from controlplane.domain.errors import DomainError
from controlplane.domain.events import NodeLeaseExpired, NodeTelemetryLate, TimePassed
from controlplane.freshness import Freshness
from controlplane.leases import Leases
from controlplane.runtime import Runtime

logger = logging.getLogger(__name__)


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
        for node_name, late in freshness.changes(time.monotonic()):
            try:
                await runtime.submit(NodeTelemetryLate(node_name, late))
            except DomainError as fault:
                # It stands among the changes the next time as well.
                logger.warning("that telemetry of %s is late: %s", node_name, fault.message)
                break
            freshness.told([(node_name, late)])
            logger.info("telemetry of node %s %s", node_name, "is late" if late else "comes again")
