"""Bytes of logs from daemons into the archive; each message is answered with the archive's end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Final

from controlplane.domain.errors import InvalidRequest, ResourceExhausted
from controlplane.logs.archive import Archive, Kind
from controlplane.logs.broker import Broker
from controlplane.logs.writer import ArchiveWriter
from controlplane.rpc.backend import Backend
from riseml.v1 import daemon_pb2
from riseml.v1 import daemon_service_pb2 as pb

MAX_CHUNK_BYTES: Final = 1 << 20
# Ownership of so many attempts is remembered per stream.
_KNOWN_LIMIT: Final = 10_000

_KINDS: Final[Mapping[int, Kind]] = {
    daemon_pb2.LOG_KIND_OUTPUT: Kind.OUTPUT,
    daemon_pb2.LOG_KIND_RESULTS: Kind.RESULTS,
}


class DaemonLogs:
    """Serves DaemonService.AppendLog."""

    def __init__(
        self, backend: Backend, archive: Archive, writer: ArchiveWriter, broker: Broker
    ) -> None:
        self._backend = backend
        self._archive = archive
        self._writer = writer
        self._broker = broker

    async def serve(
        self, node_name: str, requests: AsyncIterator[pb.AppendLogRequest]
    ) -> AsyncIterator[pb.AppendLogResponse]:
        """One stream of one node; it may only append to logs of attempts that are its own."""
        own: set[str] = set()
        async for request in requests:
            kind = _KINDS.get(request.kind)
            if kind is None or request.offset < 0 or len(request.data) > MAX_CHUNK_BYTES:
                raise InvalidRequest(
                    "A chunk has a kind, an offset >= 0 and at most 1 MiB.", reason="INVALID_CHUNK"
                )
            answer = pb.AppendLogResponse(attempt_id=request.attempt_id, kind=request.kind)
            if request.attempt_id not in own:
                if not await self._belongs(node_name, request.attempt_id):
                    answer.unknown = True
                    yield answer
                    continue
                if len(own) >= _KNOWN_LIMIT:
                    own.clear()
                own.add(request.attempt_id)
            if not request.data and not self._archive.is_open(request.attempt_id, kind):
                # The end of a job that wrote nothing, or a question: not worth another thread.
                answer.next_offset = self._archive.end(request.attempt_id, kind)
                if kind is Kind.OUTPUT:
                    self._broker.grew(request.attempt_id)
                yield answer
                continue
            try:
                answer.next_offset = await self._writer.append(
                    request.attempt_id, kind, request.offset, request.data, final=request.final
                )
            except ResourceExhausted as fault:
                answer.next_offset = self._archive.end(request.attempt_id, kind)
                answer.error = fault.message
            if kind is Kind.OUTPUT:
                self._broker.grew(request.attempt_id)
            yield answer

    async def _belongs(self, node_name: str, attempt_id: str) -> bool:
        attempt = self._backend.runtime.cluster.attempts.get(attempt_id)
        if attempt is None:
            attempt = await self._backend.read(self._backend.store.attempt, attempt_id)
        return attempt is not None and attempt.node_name == node_name
