"""Ships log bytes over gRPC: one AppendLog stream that all attempts of this node share."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import grpc

from noded.logs.shipper import AppendAnswer, AppendRequest, Shipping, StreamKind
from noded.session import Metadata
from riseml.v1 import daemon_pb2, daemon_service_pb2
from riseml.v1.daemon_service_pb2_grpc import DaemonServiceStub

_TO_WIRE: Final = {
    StreamKind.OUTPUT: daemon_pb2.LOG_KIND_OUTPUT,
    StreamKind.RESULTS: daemon_pb2.LOG_KIND_RESULTS,
}
_FROM_WIRE: Final = {wire: kind for kind, wire in _TO_WIRE.items()}

_Call = grpc.aio.StreamStreamCall[
    daemon_service_pb2.AppendLogRequest, daemon_service_pb2.AppendLogResponse
]


class GrpcAppend:
    """An AppendLog stream as the shipper sees it."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    async def send(self, request: AppendRequest) -> None:
        """Waits while the peer is slow (gRPC's flow control). Raises AioRpcError."""
        await self._call.write(
            daemon_service_pb2.AppendLogRequest(
                attempt_id=request.attempt_id,
                kind=_TO_WIRE[request.kind],
                offset=request.offset,
                data=request.data,
                final=request.final,
            )
        )


async def ship(shipping: Shipping, stub: DaemonServiceStub, metadata: Metadata) -> None:
    """Ships over one stream until it breaks or the session ends."""
    call = stub.AppendLog(metadata=metadata)
    tasks = [
        asyncio.ensure_future(_take_answers(call, shipping)),
        asyncio.ensure_future(_send(call, shipping)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        call.cancel()


async def _take_answers(call: _Call, shipping: Shipping) -> None:
    async for answer in call:
        kind = _FROM_WIRE.get(answer.kind)
        if kind is not None:
            shipping.answered(
                AppendAnswer(
                    answer.attempt_id, kind, answer.next_offset, answer.error, answer.unknown
                )
            )


async def _send(call: _Call, shipping: Shipping) -> None:
    # A stream that broke can't be written to; why it broke, the reading side says.
    with contextlib.suppress(asyncio.InvalidStateError):
        await shipping.serve(GrpcAppend(call))
