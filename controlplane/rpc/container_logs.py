"""Logs of containers from the daemons that observe their nodes, to whoever asked for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from controlplane.domain.errors import NotFound
from controlplane.launch.kubernetes.api import Unavailable
from controlplane.launch.kubernetes.observers import DaemonGone, Observers, Reading
from riseml.v1 import daemon_service_pb2 as pb


class ContainerLogs:
    """Serves DaemonService.ShipContainerLog."""

    def __init__(self, observers: Observers) -> None:
        self._observers = observers

    async def serve(
        self, node_name: str, requests: AsyncIterator[pb.ShipContainerLogRequest]
    ) -> pb.ShipContainerLogResponse:
        """One log. Ends when the daemon has sent all of it, or nobody reads any more."""
        stream = aiter(requests)
        first = await anext(stream, None)
        reading = None
        if first is not None:
            reading = self._observers.reading(first.reading_id, node_name)
        if first is None or reading is None:
            raise NotFound("Nobody waits for this log any more.", reason="NO_READING")
        tasks = [
            asyncio.create_task(_pump(first, stream, reading)),
            asyncio.create_task(_closed(reading)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return pb.ShipContainerLogResponse()


async def _closed(reading: Reading) -> None:
    await reading.closed.wait()


async def _pump(
    first: pb.ShipContainerLogRequest,
    following: AsyncIterator[pb.ShipContainerLogRequest],
    reading: Reading,
) -> None:
    error: Unavailable | None = DaemonGone(0, "Daemon", "it broke off in the midst of the log")
    try:
        request: pb.ShipContainerLogRequest | None = first
        while request is not None:
            if request.error:
                error = Unavailable(0, "Daemon", request.error)
                return
            if request.data:
                await reading.put(request.data)
            request = await anext(following, None)
        error = None
    finally:
        reading.end(error)
