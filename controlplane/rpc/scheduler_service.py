"""SchedulerService: why, what would be, what was decided."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from controlplane.cycles import Cycle
from controlplane.domain.errors import InvalidRequest, NotFound, PermissionDenied
from controlplane.domain.events import ExperimentSubmitted
from controlplane.domain.recording import Recording, write
from controlplane.rpc import convert_scheduler as convert
from controlplane.rpc.backend import Backend, page_size, read_experiment_id
from controlplane.rpc.caller import current_caller
from controlplane.rpc.experiment_service import read_spec, unenforced
from controlplane.rpc.explainer import Explainer
from riseml.spec.sets import expand
from riseml.v1 import scheduler_service_pb2 as pb
from riseml.v1 import scheduler_service_pb2_grpc

CHUNK_BYTES: Final = 128 << 10
# No place on earth is further from UTC.
LARGEST_OFFSET_SECONDS: Final = 18 * 3600


class SchedulerService(scheduler_service_pb2_grpc.SchedulerServiceServicer):
    """See the contract for what each call means."""

    def __init__(self, backend: Backend, explainer: Explainer) -> None:
        self._backend = backend
        self._explainer = explainer

    async def ExplainExperiment(
        self, request: pb.ExplainExperimentRequest, context: Any
    ) -> pb.ExplainExperimentResponse:
        caller = current_caller()
        found = await self._explainer.explain(
            read_experiment_id(request.id, caller),
            caller,
            _offset(request.utc_offset_seconds),
            suggestions=not request.without_suggestions,
        )
        return pb.ExplainExperimentResponse(explanation=convert.explanation(found))

    async def PlanExperiment(
        self, request: pb.PlanExperimentRequest, context: Any
    ) -> pb.PlanExperimentResponse:
        caller = current_caller()
        offset = _offset(request.utc_offset_seconds)
        spec = read_spec(request.spec.SerializeToString(deterministic=True))
        assignments = tuple(
            tuple((p.name, p.value) for p in assignment) for assignment in expand(spec)
        )
        event = ExperimentSubmitted(caller.name, "", spec, "", assignments)
        found, warnings = await self._explainer.plan(event, offset)
        return pb.PlanExperimentResponse(
            explanation=convert.explanation(found), warnings=[*warnings, *unenforced(spec)]
        )

    async def ListSchedulerCycles(
        self, request: pb.ListSchedulerCyclesRequest, context: Any
    ) -> pb.ListSchedulerCyclesResponse:
        before = _number(request.page_token)
        cycles = self._backend.runtime.cycles.newest_first()
        rest = [one for one in cycles if before is None or one.number < before]
        page = rest[: page_size(request.page_size)]
        return pb.ListSchedulerCyclesResponse(
            cycles=[convert.cycle(one) for one in page],
            next_page_token=str(page[-1].number) if len(rest) > len(page) else "",
        )

    async def GetSchedulerCycle(
        self, request: pb.GetSchedulerCycleRequest, context: Any
    ) -> AsyncIterator[pb.GetSchedulerCycleResponse]:
        caller = current_caller()
        if request.with_snapshot and not caller.admin:
            raise PermissionDenied(
                "Only admins may see snapshots: they show what everybody asks for.",
                reason="ADMIN_ONLY",
            )
        cycle = self._cycle(request.number)
        message = convert.cycle(cycle)
        for one in cycle.plan.decisions if cycle.plan is not None else ():
            private = caller.may_see(one.experiment_id.partition(".")[0])
            message.decisions.append(
                convert.decision(one, cycle.number, cycle.start_time, private=private)
            )
        yield pb.GetSchedulerCycleResponse(cycle=message)
        if not request.with_snapshot:
            return
        if cycle.snapshot is None:
            raise NotFound(
                f"Of cycle {cycle.number} only the numbers are kept: name a newer one.",
                reason="SNAPSHOT_NOT_KEPT",
            )
        recording = Recording(cycle.snapshot, cycle.start_time, cycle.number, cycle.plan)
        chunks = _chunks(write(recording))
        # Each piece is made in a thread: all of a large cluster would hold up everybody else.
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield pb.GetSchedulerCycleResponse(snapshot=chunk)

    def _cycle(self, number: int) -> Cycle:
        cycles = self._backend.runtime.cycles
        cycle = cycles.get(number) if number else cycles.newest()
        if cycle is None:
            kept = [one.number for one in cycles.newest_first()]
            known = f"{kept[-1]} to {kept[0]} are kept" if kept else "there was none yet"
            raise NotFound(
                f"There is no cycle {number or 'at all'}: {known}.",
                reason="CYCLE_NOT_FOUND",
                metadata={"number": str(number)},
            )
        return cycle

    async def ListSchedulerDecisions(
        self, request: pb.ListSchedulerDecisionsRequest, context: Any
    ) -> pb.ListSchedulerDecisionsResponse:
        caller = current_caller()
        experiment = await self._backend.own_experiment(
            caller, read_experiment_id(request.experiment_id, caller)
        )
        first = _number(request.page_token) or 0
        records = await self._explainer.records(experiment.id)
        end = first + page_size(request.page_size)
        return pb.ListSchedulerDecisionsResponse(
            decisions=[convert.record(one) for one in records[first:end]],
            next_page_token=str(end) if end < len(records) else "",
        )


def _offset(seconds: int) -> int:
    if abs(seconds) > LARGEST_OFFSET_SECONDS:
        raise InvalidRequest(
            f"utc_offset_seconds must be within {LARGEST_OFFSET_SECONDS} of 0, not {seconds}",
            reason="INVALID_UTC_OFFSET",
        )
    return seconds


def _number(token: str) -> int | None:
    """A page token of ours; None for the first page. InvalidRequest if it is none."""
    if not token:
        return None
    if not token.isdecimal() or not token.isascii() or len(token) > 18:
        raise InvalidRequest("This page_token is none of ours.", reason="INVALID_PAGE_TOKEN")
    return int(token)


def _chunks(pieces: Iterator[str]) -> Iterator[bytes]:
    gathered = bytearray()
    for piece in pieces:
        gathered += piece.encode()
        if len(gathered) >= CHUNK_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
