"""File operations that are sent to nodes, and their answers: the other end of noded's storage
stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from controlplane.domain import errors
from riseml.v1 import daemon_service_pb2 as pb

OPERATION_SECONDS: Final = 60.0

ERRORS: Final[Mapping[str, type[errors.DomainError]]] = {
    "NOT_FOUND": errors.NotFound,
    "INVALID_ARGUMENT": errors.InvalidRequest,
    "PERMISSION_DENIED": errors.PermissionDenied,
    "ALREADY_EXISTS": errors.AlreadyExists,
    "FAILED_PRECONDITION": errors.FailedPrecondition,
    "RESOURCE_EXHAUSTED": errors.ResourceExhausted,
    "DATA_LOSS": errors.DataLoss,
}


class _Stream:
    """The open stream of one node."""

    def __init__(self) -> None:
        self.operations: asyncio.Queue[pb.ServeStorageResponse | None] = asyncio.Queue()
        self.waiting: dict[int, asyncio.Future[pb.ServeStorageRequest]] = {}


class DaemonStorage:
    """Serves DaemonService.ServeStorage, and `call`s of StorageService go through it."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}
        self._last_operation = 0

    def connected(self) -> list[str]:
        """Nodes whose files can be reached now."""
        return sorted(self._streams)

    async def call(
        self, node_name: str, operation: pb.ServeStorageResponse
    ) -> pb.ServeStorageRequest:
        """Runs one operation on a node. Raises the DomainError that the node answered, or
        FailedPrecondition when the node cannot be reached.
        """
        stream = self._streams.get(node_name)
        if stream is None:
            raise _unreachable(node_name)
        self._last_operation += 1
        operation.operation_id = self._last_operation
        answer: asyncio.Future[pb.ServeStorageRequest] = asyncio.get_running_loop().create_future()
        stream.waiting[operation.operation_id] = answer
        try:
            stream.operations.put_nowait(operation)
            reply = await asyncio.wait_for(answer, OPERATION_SECONDS)
        except TimeoutError:
            raise _unreachable(node_name) from None
        finally:
            stream.waiting.pop(operation.operation_id, None)
        if reply.HasField("error"):
            kind = ERRORS.get(reply.error.code, errors.FailedPrecondition)
            raise kind(reply.error.message, reason="STORAGE_" + (reply.error.code or "FAILED"))
        return reply

    async def serve(
        self, node_name: str, requests: AsyncIterator[pb.ServeStorageRequest]
    ) -> AsyncIterator[pb.ServeStorageResponse]:
        """A node's stream; a newer one takes the place of an older one."""
        stream = _Stream()
        old = self._streams.get(node_name)
        if old is not None:
            old.operations.put_nowait(None)
        self._streams[node_name] = stream
        reader = asyncio.create_task(self._listen(stream, requests))
        reader.add_done_callback(lambda _: stream.operations.put_nowait(None))
        try:
            while (operation := await stream.operations.get()) is not None:
                yield operation
        finally:
            reader.cancel()
            if self._streams.get(node_name) is stream:
                del self._streams[node_name]
            for answer in stream.waiting.values():
                if not answer.done():
                    answer.set_exception(_unreachable(node_name))
            await asyncio.gather(reader, return_exceptions=True)

    async def _listen(
        self, stream: _Stream, requests: AsyncIterator[pb.ServeStorageRequest]
    ) -> None:
        async for reply in requests:
            answer = stream.waiting.get(reply.operation_id)
            if answer is not None and not answer.done():
                answer.set_result(reply)


def _unreachable(node_name: str) -> errors.FailedPrecondition:
    return errors.FailedPrecondition(
        f"Node {node_name}, where these files lie, cannot be reached now: try again when "
        "`riseml node list` shows it READY.",
        reason="NODE_UNREACHABLE",
        metadata={"node": node_name},
    )
