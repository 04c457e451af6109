"""ResultService: what jobs reported with riseml.report_result, read from the archive."""

from __future__ import annotations

import asyncio
from typing import Any

from controlplane.logs.archive import Archive, Kind
from controlplane.rpc import convert
from controlplane.rpc.backend import Backend, page_size, read_id
from controlplane.rpc.caller import current_caller
from controlplane.rpc.log_service import matches
from riseml.results import parse_report
from riseml.spec import ids
from riseml.v1 import result_service_pb2 as pb
from riseml.v1 import result_service_pb2_grpc


class ResultService(result_service_pb2_grpc.ResultServiceServicer):
    """See the contract for what each call means."""

    def __init__(self, backend: Backend, archive: Archive) -> None:
        self._backend = backend
        self._archive = archive

    async def ListResults(
        self, request: pb.ListResultsRequest, context: Any
    ) -> pb.ListResultsResponse:
        caller = current_caller()
        wanted = read_id(request.id, caller)
        root = await self._backend.own_experiment(caller, str(ids.experiment_of(wanted)))
        experiment_ids = [root.id]
        if root.is_set and isinstance(wanted, ids.ExperimentId):
            experiment_ids += [f"{root.id}.{n}" for n in range(1, root.child_count + 1)]
        attempts = await self._backend.read(self._backend.store.attempts, experiment_ids)
        size = page_size(request.page_size)
        after_id, _, after_offset = request.page_token.partition("@")
        results: list[pb.Result] = []
        skipping = bool(after_id)
        for attempt in attempts:
            if not matches(attempt, wanted):
                continue
            start = 0
            if skipping:
                if attempt.id != after_id:
                    continue
                skipping = False
                start = int(after_offset or 0)
            found, end = await asyncio.to_thread(self._read, attempt.id, start, size - len(results))
            results += found
            if len(results) >= size:
                return pb.ListResultsResponse(
                    results=results, next_page_token=f"{attempt.id}@{end}"
                )
        return pb.ListResultsResponse(results=results)

    def _read(self, attempt_id: str, start: int, limit: int) -> tuple[list[pb.Result], int]:
        """At most `limit` results from line `start` on, and the line to go on at."""
        end = self._archive.end(attempt_id, Kind.RESULTS)
        lines = self._archive.read(attempt_id, Kind.RESULTS, 0, end).split(b"\n")[:-1]
        chosen = lines[start : start + limit]
        results = [r for line in chosen if (r := result_message(attempt_id, line)) is not None]
        return results, start + len(chosen)


def result_message(attempt_id: str, line: bytes) -> pb.Result | None:
    """One line of a results file; None for what is no report (jobs may write there, too)."""
    report = parse_report(line)
    if report is None:
        return None
    return pb.Result(
        attempt_id=attempt_id,
        sequence=report.sequence,
        report_time=convert.timestamp(report.time_ns / 1e9),
        metrics=[pb.Metric(name=name, value=value) for name, value in report.metrics],
    )
