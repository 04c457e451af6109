"""Traces for the tests of words, made by hand: what a cycle saw that placed nobody before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from controlplane.domain.model import ForeignProcess, Gpu, GpuShare
from controlplane.domain.plan import PendingCode, PendingReason
from controlplane.domain.snapshot import (
    GangRequest,
    GpuView,
    Held,
    MemberPlacement,
    NodeView,
    RunningGang,
    Snapshot,
)
from controlplane.domain.trace import DecisionTrace, GpuTrace, NodeTrace, OrderTrace
from controlplane.explain.waiting import Seen
from controlplane.explain.words import Clock
from tests.unit.scheduler.pictures import snapshot

# 2026-11-23 12:00:00 UTC, a Monday.
NOON = 1_795_435_200.0
HOUR = 3600.0
CLOCK = Clock(NOON)

ORDER = OrderTrace(
    before=0,
    before_in_queue=0,
    queue_weight=1,
    queue_held=Held(4000),
    queue_share=0.5,
    queue_fair_share=1.0,
    user_recent_seconds=0.0,
    waited_seconds=120.0,
    urgency=0.0,
)


def running(
    name: str,
    *places: tuple[str, Sequence[int]],
    hours: float | None = None,
    milli: int = 1000,
    cpus: int = 1,
    **more: Any,
) -> RunningGang:
    """One that holds these GPUs of these nodes, started at 11:00, for so many hours at most."""
    members = tuple(
        MemberPlacement(
            f"{name}.worker.{number}",
            node_name,
            tuple(GpuShare(f"{node_name}-{position}", milli) for position in positions),
            cpus * 1000,
            1 << 30,
        )
        for number, (node_name, positions) in enumerate(places, 1)
    )
    values: dict[str, Any] = {
        "experiment_id": name,
        "user_name": name.partition(".")[0],
        "queue": "default",
        "priority": 50,
        "start_time": NOON - HOUR,
        "max_duration_seconds": None if hours is None else int(hours * HOUR),
        "members": members,
        "grace_period_seconds": 0.0,
    }
    return RunningGang(**{**values, **more})


def with_gpu(view: NodeView, position: int, change: Mapping[str, Any], **more: Any) -> NodeView:
    """The node with one GPU changed: fields of the GPU, then fields of how it is seen."""
    gpus = list(view.gpus)
    gpus[position] = replace(gpus[position], gpu=replace(gpus[position].gpu, **change), **more)
    return replace(view, gpus=tuple(gpus))


def quarantined(view: NodeView, position: int, why: str, since: float | None = None) -> NodeView:
    return with_gpu(
        view,
        position,
        {"health": "QUARANTINED", "health_reason": why, "health_time": since},
        usable=False,
        unusable_reason=why,
    )


def foreign(view: NodeView, position: int, pid: int, user: str) -> NodeView:
    return with_gpu(
        view,
        position,
        {
            "foreign_memory_bytes": 2 << 30,
            "foreign_processes": (ForeignProcess(pid, user, 2 << 30),),
        },
        usable=False,
        unusable_reason=f"used by process {pid} of user {user} that RiseML did not start (2 GiB)",
    )


def gpu_view(name: str, index: int = 0, **more: Any) -> GpuView:
    gpu = Gpu(name, index, "NVIDIA H100", "H100", 80 << 30)
    return GpuView(gpu, more.pop("free_milli", 1000), **more)


def node_trace(
    view: NodeView,
    code: PendingCode | None = None,
    *,
    kept: Mapping[int, str] | None = None,
    given: Mapping[int, str] | None = None,
) -> NodeTrace:
    """As the cycle saw it; `kept` and `given` are experiments by position of a GPU."""
    kept, given = kept or {}, given or {}
    return NodeTrace(
        view.name,
        view.free_cpu_milli,
        view.free_memory_bytes,
        view.free_shm_bytes,
        view.free_ports,
        tuple(
            GpuTrace(
                one.gpu.uuid,
                one.gpu.index,
                0 if place in given or not one.usable else one.free_milli,
                one.free_milli if place in kept else 0,
                (kept[place],) if place in kept else (),
                (given[place],) if place in given else (),
            )
            for place, one in enumerate(view.gpus)
        ),
        fits=code is None,
        obstacle=None if code is None else PendingReason(code, "the node has not what is wanted"),
    )


def seen(
    gang: GangRequest,
    views: Sequence[NodeView],
    nodes: Sequence[NodeTrace],
    reasons: Sequence[PendingReason] = (),
    *,
    gangs: Sequence[RunningGang] = (),
    now: float = NOON,
    more: Mapping[str, Any] | None = None,
    **trace: Any,
) -> Seen:
    """A cycle at noon in which this gang waited."""
    picture: Snapshot = replace(snapshot(views, [gang]), running=tuple(gangs))
    found = DecisionTrace(
        gang, trace.pop("order", ORDER), tuple(nodes), reasons=tuple(reasons), **trace
    )
    return Seen(picture, now, found, **{"number": 7, **(more or {})})
