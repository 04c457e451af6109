"""Revisions from the control plane, over the channel of the session that is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Final

import grpc

from noded.convert import tree_of
from noded.errors import CredentialRefused, RevisionRefused
from noded.trees import BlobPiece, TreeFile
from riseml.v1 import daemon_service_pb2
from riseml.v1.daemon_service_pb2_grpc import DaemonServiceStub

if TYPE_CHECKING:
    from noded.session import Metadata

_FOR_GOOD: Final = frozenset(
    {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.DATA_LOSS,
    }
)


class GrpcRevisionSource:
    """Waits for a session where none is open: code that is needed is worth waiting for."""

    def __init__(self) -> None:
        self._stub: DaemonServiceStub | None = None
        self._metadata: Metadata = ()
        self._opened = asyncio.Event()

    async def serve(self, stub: DaemonServiceStub, metadata: Metadata) -> None:
        """For as long as a session lasts, its channel is used."""
        self._stub, self._metadata = stub, metadata
        self._opened.set()
        try:
            await asyncio.Event().wait()
        finally:
            self._opened.clear()
            self._stub = None

    async def manifest(self, revision_id: str, attempt_id: str) -> tuple[TreeFile, ...]:
        async for part in self._fetch(
            daemon_service_pb2.FetchRevisionRequest(
                revision_id=revision_id, attempt_id=attempt_id, manifest_only=True
            )
        ):
            if part.WhichOneof("part") == "manifest":
                return tree_of(part.manifest)
        raise ConnectionError("the answer held no manifest")

    async def blobs(
        self, revision_id: str, attempt_id: str, have: Iterable[bytes]
    ) -> AsyncIterator[BlobPiece]:
        async for part in self._fetch(
            daemon_service_pb2.FetchRevisionRequest(
                revision_id=revision_id, attempt_id=attempt_id, have_sha256=have
            )
        ):
            if part.WhichOneof("part") == "chunk":
                yield BlobPiece(part.chunk.sha256, part.chunk.data, part.chunk.last)

    async def _fetch(
        self, request: daemon_service_pb2.FetchRevisionRequest
    ) -> AsyncIterator[daemon_service_pb2.FetchRevisionResponse]:
        await self._opened.wait()
        if self._stub is None:
            raise ConnectionError("the session has just ended")
        call = self._stub.FetchRevision(request, metadata=self._metadata)
        try:
            async for part in call:
                yield part
        except grpc.aio.AioRpcError as error:
            problem = f"{error.code().name}: {error.details()}"
            if error.code() in _FOR_GOOD:
                raise RevisionRefused(f"the control plane refuses the code: {problem}") from error
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise CredentialRefused(problem) from error
            raise ConnectionError(problem) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not ours: the channel was closed under the call.
            raise ConnectionError("the session ended meanwhile") from None
