"""QueueService: queues, what they may have, and what they have and use."""

from __future__ import annotations

import time
from typing import Any

from controlplane.core.queues import queue_uses
from controlplane.domain.errors import InvalidRequest
from controlplane.domain.events import QueueCreated, QueueDeleted, QueueUpdated
from controlplane.domain.model import PlacementStyle, QueueSettings
from controlplane.rpc import convert
from controlplane.rpc.backend import Backend, check_request_id, page_size, paged
from riseml.v1 import queue_pb2, queue_service_pb2_grpc
from riseml.v1 import queue_service_pb2 as pb


class QueueService(queue_service_pb2_grpc.QueueServiceServicer):
    """See the contract for what each call means."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def _message(self, name: str) -> queue_pb2.Queue:
        cluster = await self._backend.runtime.committed()
        (found,) = queue_uses(cluster, [name], time.time(), with_users=True)
        return convert.queue(found)

    async def ListQueues(
        self, request: pb.ListQueuesRequest, context: Any
    ) -> pb.ListQueuesResponse:
        cluster = await self._backend.runtime.committed()
        names, token = paged(
            cluster.queue_names(), request.page_token, page_size(request.page_size)
        )
        return pb.ListQueuesResponse(
            queues=[convert.queue(use) for use in queue_uses(cluster, names, time.time())],
            next_page_token=token,
        )

    async def GetQueue(self, request: pb.GetQueueRequest, context: Any) -> pb.GetQueueResponse:
        return pb.GetQueueResponse(queue=await self._message(request.name))

    async def CreateQueue(
        self, request: pb.CreateQueueRequest, context: Any
    ) -> pb.CreateQueueResponse:
        check_request_id(request.request_id)
        settings = read_settings(request.settings)
        await self._backend.runtime.submit(QueueCreated(request.name, settings, request.request_id))
        return pb.CreateQueueResponse(queue=await self._message(request.name))

    async def UpdateQueue(
        self, request: pb.UpdateQueueRequest, context: Any
    ) -> pb.UpdateQueueResponse:
        await self._backend.runtime.submit(
            QueueUpdated(request.name, read_settings(request.settings))
        )
        return pb.UpdateQueueResponse(queue=await self._message(request.name))

    async def DeleteQueue(
        self, request: pb.DeleteQueueRequest, context: Any
    ) -> pb.DeleteQueueResponse:
        await self._backend.runtime.submit(QueueDeleted(request.name))
        return pb.DeleteQueueResponse()


def read_settings(message: pb.QueueSettings) -> QueueSettings:
    """What a message sets; what it leaves out is None. Raises InvalidRequest."""
    return QueueSettings(
        weight=message.weight if message.HasField("weight") else None,
        guaranteed_gpu_milli=message.guaranteed_gpu_milli
        if message.HasField("guaranteed_gpu_milli")
        else None,
        limit_gpu_milli=message.limit_gpu_milli if message.HasField("limit_gpu_milli") else None,
        placement=_placement(message.placement) if message.HasField("placement") else None,
        preempts_lower_priority=message.preempts_lower_priority
        if message.HasField("preempts_lower_priority")
        else None,
        default_max_duration_seconds=message.default_max_duration_seconds
        if message.HasField("default_max_duration_seconds")
        else None,
    )


def _placement(value: int) -> PlacementStyle:
    style = convert.PLACEMENT_FROM_PROTO.get(value)
    if style is None:
        raise InvalidRequest(
            "settings.placement: this control plane knows PACK and SPREAD only.",
            reason="INVALID_QUEUE",
        )
    return style
