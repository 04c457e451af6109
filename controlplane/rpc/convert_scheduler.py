"""The scheduler's values as messages. No decisions, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.cycles import Cycle
from controlplane.domain.decision_record import DecisionRecord
from controlplane.domain.plan import Decision, Eviction
from controlplane.domain.snapshot import MemberPlacement
from controlplane.explain.explanation import (
    Explanation,
    GpuVerdict,
    NodeVerdict,
    StartEstimate,
)
from controlplane.rpc.convert import STATE_TO_PROTO, timestamp
from riseml.v1 import job_pb2
from riseml.v1 import scheduler_pb2 as pb


def explanation(value: Explanation) -> pb.Explanation:
    return pb.Explanation(
        experiment_id=value.experiment_id,
        state=STATE_TO_PROTO[value.state],
        summary=value.summary,
        lines=value.lines,
        reasons=[
            pb.PendingReason(code=one.code.value, message=one.message, node_names=one.node_names)
            for one in value.reasons
        ],
        members=members(value.members),
        nodes=[_node(one) for one in value.nodes],
        estimate=None if value.estimate is None else _estimate(value.estimate),
        suggestions=value.suggestions,
        evictions=[_eviction(one) for one in value.evictions],
        impossible=value.impossible,
        cycle_number=value.cycle_number,
        cycle_time=timestamp(value.cycle_time),
    )


def members(placed: Sequence[MemberPlacement]) -> list[pb.PlannedMember]:
    return [
        pb.PlannedMember(
            job_id=one.job_id,
            node_name=one.node_name,
            gpus=[job_pb2.GpuShare(gpu_uuid=g.uuid, milli=g.milli) for g in one.gpus],
        )
        for one in placed
    ]


def _node(value: NodeVerdict) -> pb.NodeVerdict:
    return pb.NodeVerdict(
        node_name=value.node_name,
        fits=value.fits,
        message=value.message,
        gpus=[_gpu(one) for one in value.gpus],
    )


def _gpu(value: GpuVerdict) -> pb.GpuVerdict:
    return pb.GpuVerdict(
        gpu_uuid=value.uuid,
        index=value.index,
        free_milli=value.free_milli,
        code=value.code.value,
        message=value.message,
        experiment_ids=value.experiment_ids,
        free_time=timestamp(value.free_time),
    )


def _estimate(value: StartEstimate) -> pb.StartEstimate:
    return pb.StartEstimate(
        earliest_time=timestamp(value.earliest_time),
        latest_time=timestamp(value.latest_time),
        basis=value.basis,
        past_count=value.past_count,
        past_median_error_seconds=value.past_median_error_seconds,
        past_p90_error_seconds=value.past_p90_error_seconds,
    )


def _eviction(value: Eviction) -> pb.PlannedEviction:
    return pb.PlannedEviction(
        experiment_id=value.experiment_id,
        for_experiment_id=value.for_experiment_id,
        message=value.reason,
        lost_gpu_seconds=value.lost_gpu_seconds,
    )


def cycle(value: Cycle) -> pb.SchedulerCycle:
    """Without its decisions."""
    return pb.SchedulerCycle(
        number=value.number,
        start_time=timestamp(value.start_time),
        duration_milliseconds=value.duration_seconds * 1000,
        considered_count=value.considered_count,
        placed_count=len(value.applied.started),
        evicted_count=len(value.applied.evicted),
        reserved_count=value.reserved_count,
        rejected_count=len(value.applied.rejected),
        snapshot_version=value.snapshot_version,
        node_count=value.node_count,
    )


def decision(
    value: Decision, cycle_number: int, time: float, *, private: bool
) -> pb.SchedulerDecision:
    """`private` False leaves out what only the owner and admins may see: all but what it holds."""
    return pb.SchedulerDecision(
        experiment_id=value.experiment_id,
        kind=value.kind.value,
        members=members(value.members),
        message=value.message if private else "",
        alternatives=value.alternatives if private else (),
        cycle_number=cycle_number,
        decide_time=timestamp(time),
    )


def record(value: DecisionRecord) -> pb.SchedulerDecision:
    """Of one's own experiment."""
    return decision(value.decision, value.cycle_number, value.time, private=True)
