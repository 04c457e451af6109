"""Where jobs are, or would be, and what an experiment asks for, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlplane.domain.model import GpuShare
from controlplane.domain.snapshot import GangRequest, MemberPlacement, NodeView
from controlplane.explain.words import listed, resources_asked
from riseml.spec.model import GPU, Resources
from riseml.spec.units import format_milli

GpuIndexes = Mapping[str, int]
"""Positions of GPUs on their nodes by UUID."""

_NODES_SHOWN = 4


def gpu_indexes(nodes: Sequence[NodeView]) -> dict[str, int]:
    """Of all GPUs that a snapshot shows."""
    return {one.gpu.uuid: one.gpu.index for node in nodes for one in node.gpus}


def where(members: Sequence[MemberPlacement], indexes: GpuIndexes) -> str:
    """`gpu-3 (GPUs 0-3)`, `gpu-1 (GPUs 0-7), gpu-2 (2 jobs) and 6 more nodes`."""
    by_node: dict[str, list[MemberPlacement]] = {}
    for member in members:
        by_node.setdefault(member.node_name, []).append(member)
    parts = [_on(name, jobs, indexes) for name, jobs in by_node.items()]
    if len(parts) > _NODES_SHOWN + 1:
        more = len(parts) - _NODES_SHOWN
        return f"{', '.join(parts[:_NODES_SHOWN])} and {more} more nodes"
    return listed(parts, shown=len(parts))


def _on(name: str, jobs: Sequence[MemberPlacement], indexes: GpuIndexes) -> str:
    shares = [share for job in jobs for share in job.gpus]
    notes = [gpus_named(shares, indexes)] if shares else []
    if len(jobs) > 1:
        notes.insert(0, f"{len(jobs)} jobs")
    return f"{name} ({', '.join(notes)})" if notes else name


def gpus_named(shares: Sequence[GpuShare], indexes: GpuIndexes) -> str:
    """`GPU 0`, `GPUs 0-3, 6`, `0.5 of GPU 2`."""
    parts = [share for share in shares if share.milli < GPU]
    whole = sorted(indexes.get(share.uuid, -1) for share in shares if share.milli >= GPU)
    found = [
        f"{format_milli(share.milli)} of GPU {_index(indexes.get(share.uuid, -1))}"
        for share in parts
    ]
    if whole:
        found.insert(0, f"GPU{'s' if len(whole) > 1 else ''} {_ranges(whole)}")
    return ", ".join(found)


def _index(index: int) -> str:
    return str(index) if index >= 0 else "?"


def _ranges(indexes: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for index in indexes:
        if runs and index == runs[-1][-1] + 1 and index > 0:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(
        _index(run[0]) if len(run) == 1 else f"{run[0]}{'-' if len(run) > 2 else ', '}{run[-1]}"
        for run in runs
    )


def asked(gang: GangRequest) -> str:
    """`8 GPUs, 16 CPUs and 64Gi on one node`, `4 jobs with ... each, all at once`."""
    counts: dict[Resources, int] = {}
    for member in gang.members:
        counts[member.resources] = counts.get(member.resources, 0) + 1
    kinds = list(counts.items())
    if len(gang.members) == 1:
        return f"{resources_asked(kinds[0][0])} on one node"
    parts = [
        f"{count} {'job' if count == 1 else 'jobs'} with {resources_asked(wanted)}"
        + (" each" if count > 1 else "")
        for wanted, count in kinds
    ]
    return f"{listed(parts, shown=len(parts))}, all at once"
