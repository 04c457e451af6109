"""LogService: bytes at offsets, read from the archive at the reader's own pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from typing import Any, Final

from controlplane.domain.errors import InvalidRequest
from controlplane.domain.model import Attempt
from controlplane.domain.states import AttemptState
from controlplane.logs.archive import Archive, Kind
from controlplane.logs.broker import Broker
from controlplane.logs.window import offset_of_last_lines, offset_of_time
from controlplane.rpc import convert
from controlplane.rpc.backend import Backend, read_id
from controlplane.rpc.caller import current_caller
from riseml.spec import ids
from riseml.v1 import log_service_pb2 as pb
from riseml.v1 import log_service_pb2_grpc

CHUNK_BYTES: Final = 256 * 1024


class LogService(log_service_pb2_grpc.LogServiceServicer):
    """See the contract for what each call means."""

    def __init__(
        self, backend: Backend, archive: Archive, broker: Broker, readers: Executor
    ) -> None:
        self._backend = backend
        self._archive = archive
        self._broker = broker
        self._readers = readers

    async def TailLogs(
        self, request: pb.TailLogsRequest, context: Any
    ) -> AsyncIterator[pb.TailLogsResponse]:
        caller = current_caller()
        if any(cursor.offset < 0 for cursor in request.cursors):
            raise InvalidRequest("A cursor's offset must be >= 0.", reason="INVALID_CURSOR")
        wanted = read_id(request.id, caller)
        root = await self._backend.own_experiment(caller, str(ids.experiment_of(wanted)))
        cursors = {cursor.attempt_id: cursor.offset for cursor in request.cursors}
        done: set[str] = set()
        feed = self._backend.runtime.feed
        with self._broker.follower() as follower, feed.subscribe(None, root.id) as changes:
            touched: set[str] | None = None
            watch_changes = asyncio.ensure_future(changes.take())
            watch_growth = asyncio.ensure_future(follower.wait())
            try:
                attempts: list[Attempt] = []
                while True:
                    if touched is None:
                        attempts = await self._attempts(root.id, wanted)
                    for attempt in attempts:
                        if attempt.id in done:
                            continue
                        self._broker.follow(follower, attempt.id)
                        if attempt.id not in cursors:
                            cursors[attempt.id] = await self._first_offset(request, attempt.id)
                        if touched is None or attempt.id in touched or _over(attempt):
                            async for answer in self._send_rest(attempt, cursors):
                                yield answer
                        if self._finished(attempt, cursors[attempt.id], request.follow):
                            done.add(attempt.id)
                            yield _eof(attempt, cursors[attempt.id])
                    if not request.follow or await self._all_over(root.id, attempts, done):
                        return
                    await asyncio.wait(
                        {watch_changes, watch_growth}, return_when=asyncio.FIRST_COMPLETED
                    )
                    touched = set()
                    if watch_growth.done():
                        touched = watch_growth.result()
                        watch_growth = asyncio.ensure_future(follower.wait())
                    if watch_changes.done():
                        watch_changes = asyncio.ensure_future(changes.take())
                        touched = None
            finally:
                watch_changes.cancel()
                watch_growth.cancel()

    async def _attempts(self, root_id: str, wanted: ids.AnyId) -> list[Attempt]:
        """The attempts of the id, oldest first; of a set: its children's too."""
        experiment_ids = [root_id]
        root = await self._backend.experiment(root_id)
        if root.is_set and isinstance(wanted, ids.ExperimentId):
            experiment_ids += [f"{root_id}.{n}" for n in range(1, root.child_count + 1)]
        found = await self._backend.read(self._backend.store.attempts, experiment_ids)
        return [a for a in found if matches(a, wanted)]

    async def _first_offset(self, request: pb.TailLogsRequest, attempt_id: str) -> int:
        loop = asyncio.get_running_loop()
        if request.tail_lines > 0:
            return await loop.run_in_executor(
                self._readers, offset_of_last_lines, self._archive, attempt_id, request.tail_lines
            )
        if request.HasField("since_time"):
            since = convert.seconds(request.since_time)
            return await loop.run_in_executor(
                self._readers, offset_of_time, self._archive, attempt_id, since
            )
        return 0

    async def _send_rest(
        self, attempt: Attempt, cursors: dict[str, int]
    ) -> AsyncIterator[pb.TailLogsResponse]:
        """What the archive has beyond the cursor, chunk by chunk; memory holds one at a time."""
        loop = asyncio.get_running_loop()
        end = self._archive.end(attempt.id) or self._removed_bytes(attempt)
        while cursors[attempt.id] < end:
            offset = cursors[attempt.id]
            data = await loop.run_in_executor(
                self._readers, self._archive.read, attempt.id, Kind.OUTPUT, offset, CHUNK_BYTES
            )
            if not data:
                yield pb.TailLogsResponse(
                    attempt_id=attempt.id,
                    gap=pb.LogGap(
                        offset=offset,
                        length_bytes=end - offset,
                        reason="removed by retention",
                    ),
                )
                cursors[attempt.id] = end
                return
            cursors[attempt.id] = offset + len(data)
            yield pb.TailLogsResponse(
                attempt_id=attempt.id, chunk=pb.LogChunk(offset=offset, data=data)
            )

    def _removed_bytes(self, attempt: Attempt) -> int:
        """Of a log that retention took; 0 for any other."""
        ended = attempt.end_time if attempt.state.ended else None
        removed = ended is not None and ended <= self._archive.removed_until
        return max(0, attempt.final_log_offset) if removed else 0

    def _finished(self, attempt: Attempt, cursor: int, follow: bool) -> bool:
        if not follow:
            return True
        if not _over(attempt):
            return False
        if attempt.state is AttemptState.LOST or attempt.final_log_offset < 0:
            return True
        return cursor >= attempt.final_log_offset

    async def _all_over(self, root_id: str, attempts: list[Attempt], done: set[str]) -> bool:
        root = await self._backend.experiment(root_id)
        return root.state.ended and all(a.id in done for a in attempts)


def _over(attempt: Attempt) -> bool:
    return attempt.state.ended


def matches(attempt: Attempt, wanted: ids.AnyId) -> bool:
    match wanted:
        case ids.ExperimentId():
            return True
        case ids.JobGroupId():
            return attempt.job_id.startswith(f"{wanted}.")
        case ids.JobId():
            return attempt.job_id == str(wanted)
        case ids.AttemptId():
            return attempt.id == str(wanted)


def _eof(attempt: Attempt, cursor: int) -> pb.TailLogsResponse:
    known = attempt.state.ended and attempt.state is not AttemptState.LOST
    return pb.TailLogsResponse(
        attempt_id=attempt.id,
        eof=pb.LogEof(final_offset=cursor if known else -1, node_lost=attempt.node_lost),
    )
