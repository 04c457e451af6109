"""Snapshots for the scheduler's tests, written shortly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from controlplane.domain.model import Gpu
from controlplane.domain.plan import Plan, Waiting
from controlplane.domain.snapshot import (
    Backlog,
    GangRequest,
    GpuView,
    MemberRequest,
    NodeView,
    Snapshot,
)
from riseml.spec.model import GIB, Resources

NOW = 10_000.0


def node(
    name: str,
    gpus: Sequence[int] = (),
    *,
    model: str = "H100",
    gpu_memory_bytes: int = 80 * GIB,
    unusable: Sequence[int] = (),
    probation: Sequence[int] = (),
    cpus: int = 16,
    free_cpus: int | None = None,
    memory_bytes: int = 64 * GIB,
    labels: Sequence[tuple[str, str]] = (),
    **more: Any,
) -> NodeView:
    """`gpus` are free thousandths by position; `unusable` and `probation` are positions."""
    views = [
        GpuView(
            Gpu(f"{name}-{i}", i, f"NVIDIA {model}", model, gpu_memory_bytes),
            free,
            i not in unusable and i not in probation,
            "XID 79" if i in unusable else "well again" if i in probation else "",
            i in probation,
        )
        for i, free in enumerate(gpus)
    ]
    values: dict[str, Any] = {
        "name": name,
        "cpu_milli": cpus * 1000,
        "memory_bytes": memory_bytes,
        "free_cpu_milli": (cpus if free_cpus is None else free_cpus) * 1000,
        "free_memory_bytes": memory_bytes,
        "gpus": tuple(views),
        "labels": (("riseml.com/node", name), *labels),
        "free_ports": 100,
    }
    return NodeView(**{**values, **more})


def resources(gpu_milli: int = 0, cpus: int = 1, **more: Any) -> Resources:
    return Resources(
        cpu_milli=cpus * 1000,
        memory_bytes=more.pop("memory_bytes", GIB),
        gpu_milli=gpu_milli,
        **more,
    )


def gang(
    number: int, *members: Resources, user: str = "ana", waited: float = 0.0, **more: Any
) -> GangRequest:
    """An experiment that waits; later numbers came later."""
    name = f"{user}.{number}"
    values: dict[str, Any] = {
        "experiment_id": name,
        "user_name": user,
        "queue": "default",
        "priority": 50,
        "submit_time": NOW - waited - 1.0 + number / 1000,
        "members": tuple(
            MemberRequest(f"{name}.worker.{i}", wanted) for i, wanted in enumerate(members, 1)
        ),
    }
    return GangRequest(**{**values, **more})


def snapshot(nodes: Sequence[NodeView], pending: Sequence[GangRequest]) -> Snapshot:
    return Snapshot(7, tuple(nodes), Backlog.of(pending))


def placed(plan: Plan) -> dict[str, list[str]]:
    """`ana.1` -> where its members go, as `n1` or `n1:0,1` with positions and shares of GPUs."""
    return {
        placement.experiment_id: [
            member.node_name
            + (":" if member.gpus else "")
            + ",".join(
                share.uuid.removeprefix(f"{member.node_name}-")
                + ("" if share.milli == 1000 else f"({share.milli})")
                for share in member.gpus
            )
            for member in placement.members
        ]
        for placement in plan.placements
    }


def waiting(plan: Plan, picture: Snapshot) -> list[Waiting]:
    """Each gang that the plan does not place, by rank, with the reasons of its shape."""
    by_shape = {one.shape: one for one in plan.waiting}
    started = {placement.experiment_id for placement in plan.placements}
    left = sorted(picture.pending, key=lambda request: request.rank)
    return [
        Waiting(one.experiment_id, found.reasons, found.impossible)
        for one in left
        if one.experiment_id not in started
        for found in [by_shape[one.shape]]
    ]


def why(plan: Plan, picture: Snapshot) -> dict[str, list[str]]:
    """`ana.2` -> codes of its reasons; `!` first when it is impossible."""
    return {
        one.experiment_id: (["!"] if one.impossible else [])
        + [reason.code.value for reason in one.reasons]
        for one in waiting(plan, picture)
    }
