"""Calls about the scheduler: why, what would be, what was decided. Reached through
``riseml.client``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from riseml.convert import train_spec_to_proto
from riseml.spec.model import TrainSpec
from riseml.v1 import scheduler_pb2, scheduler_service_pb2
from riseml.work_calls import PAGE_SIZE, SLOW_CALL_SECONDS, Calls, pages

CYCLES_PER_PAGE: Final = 100


def utc_offset_seconds() -> int:
    """How far this machine's clock is ahead of UTC now: times in words are told by it."""
    return time.localtime().tm_gmtoff


class Scheduler(Calls):
    """What the scheduler decided and why, and what it would decide."""

    _SERVICE = "SchedulerService"

    def explain(self, id: str, *, suggestions: bool = True) -> scheduler_pb2.Explanation:
        """Why an experiment waits, runs where it runs, was preempted, or can never run."""
        pb = scheduler_service_pb2
        request = pb.ExplainExperimentRequest(
            id=id,
            utc_offset_seconds=utc_offset_seconds(),
            without_suggestions=not suggestions,
        )
        return self._transport.call(
            self._SERVICE,
            "ExplainExperiment",
            request,
            pb.ExplainExperimentResponse,
            seconds=SLOW_CALL_SECONDS,
        ).explanation

    def plan(self, spec: TrainSpec) -> scheduler_service_pb2.PlanExperimentResponse:
        """What would become of an experiment; nothing is created."""
        pb = scheduler_service_pb2
        request = pb.PlanExperimentRequest(
            spec=train_spec_to_proto(spec), utc_offset_seconds=utc_offset_seconds()
        )
        return self._transport.call(
            self._SERVICE,
            "PlanExperiment",
            request,
            pb.PlanExperimentResponse,
            seconds=SLOW_CALL_SECONDS,
        )

    def cycles(self) -> Iterator[scheduler_pb2.SchedulerCycle]:
        """The last cycles, newest first, without their decisions."""
        pb = scheduler_service_pb2

        def fetch(token: str) -> tuple[Sequence[scheduler_pb2.SchedulerCycle], str]:
            request = pb.ListSchedulerCyclesRequest(page_size=CYCLES_PER_PAGE, page_token=token)
            page = self._transport.call(
                self._SERVICE, "ListSchedulerCycles", request, pb.ListSchedulerCyclesResponse
            )
            return page.cycles, page.next_page_token

        return pages(fetch)

    def cycle(self, number: int = 0) -> scheduler_pb2.SchedulerCycle:
        """One cycle with its decisions; 0: the last one."""
        cycle, _ = self._cycle(number, with_snapshot=False)
        return cycle

    def recording(self, number: int = 0) -> tuple[scheduler_pb2.SchedulerCycle, bytes]:
        """One cycle and, as JSON, what it saw and answered: for ``riseml-simulate --snapshot``.

        Admins only.
        """
        return self._cycle(number, with_snapshot=True)

    def _cycle(
        self, number: int, *, with_snapshot: bool
    ) -> tuple[scheduler_pb2.SchedulerCycle, bytes]:
        pb = scheduler_service_pb2
        request = pb.GetSchedulerCycleRequest(number=number, with_snapshot=with_snapshot)
        stream = self._transport.stream(
            self._SERVICE,
            "GetSchedulerCycle",
            request,
            pb.GetSchedulerCycleResponse,
            seconds=SLOW_CALL_SECONDS,
        )
        cycle = scheduler_pb2.SchedulerCycle()
        content = bytearray()
        for answer in stream:
            if answer.HasField("cycle"):
                cycle = answer.cycle
            else:
                content += answer.snapshot
        return cycle, bytes(content)

    def decisions(self, id: str) -> Iterator[scheduler_pb2.SchedulerDecision]:
        """All that was decided on an experiment, oldest first, as far back as it is kept."""
        pb = scheduler_service_pb2

        def fetch(token: str) -> tuple[Sequence[scheduler_pb2.SchedulerDecision], str]:
            request = pb.ListSchedulerDecisionsRequest(
                experiment_id=id, page_size=PAGE_SIZE, page_token=token
            )
            page = self._transport.call(
                self._SERVICE, "ListSchedulerDecisions", request, pb.ListSchedulerDecisionsResponse
            )
            return page.decisions, page.next_page_token

        return pages(fetch)
