"""Nodes and GPUs in a few words."""

from __future__ import annotations

from riseml.spec.taints import format_taint
from riseml.spec.units import format_memory, format_milli
from riseml.v1 import node_pb2


def node_state(node: node_pb2.Node) -> str:
    """``READY``, or ``READY, cordoned``."""
    try:
        state = node_pb2.NodeState.Name(node.state).removeprefix("NODE_STATE_")
    except ValueError:
        state = f"STATE_{node.state}"
    more = [
        word
        for word, holds in (
            ("draining", node.draining),
            ("cordoned", node.cordoned and not node.draining),
            (node.unschedulable, bool(node.unschedulable)),
            ("telemetry late", node.telemetry_late),
        )
        if holds
    ]
    return ", ".join([state, *more])


def node_taints(node: node_pb2.Node) -> list[str]:
    """``dedicated=vision``, ``spot``: those that admins set, then those from elsewhere."""
    return [
        format_taint((taint.key, taint.value)) for taint in (*node.taints, *node.external_taints)
    ]


def gpu_health(gpu: node_pb2.Gpu) -> str:
    """``HEALTHY``, and so on."""
    try:
        return node_pb2.GpuHealth.Name(gpu.health).removeprefix("GPU_HEALTH_")
    except ValueError:
        return f"HEALTH_{gpu.health}"


def gpu_place(gpu: node_pb2.Gpu) -> str:
    """What it is close to: ``nvlink 0, pcie 4, numa 1``; groups that nobody knows are left out."""
    groups = [
        ("nvlink", gpu.nvlink_group if gpu.HasField("nvlink_group") else -1),
        ("pcie", gpu.pcie_group if gpu.HasField("pcie_group") else -1),
        ("numa", gpu.numa_node),
    ]
    return ", ".join(f"{name} {number}" for name, number in groups if number >= 0)


def foreign_use(gpu: node_pb2.Gpu) -> str:
    """Who else uses it: ``3.1Gi: 812 (ana), 4711 (eve)``, ``80Gi: pod team/notebook``; empty when
    nobody does."""
    if not gpu.foreign_memory_bytes:
        return ""
    held = format_memory(gpu.foreign_memory_bytes)
    # A pod is named as a whole, without a process.
    who = [
        f"{p.pid} ({p.user_name or 'unknown user'})" if p.pid else p.user_name
        for p in gpu.foreign_processes
    ]
    return f"{held}: {', '.join(who)}" if who else held


def gpu_kinds(node: node_pb2.Node) -> str:
    """``8 x H100 (simulated)``; empty without GPUs."""
    counts: dict[str, int] = {}
    for gpu in node.gpus:
        kind = f"{gpu.model or gpu.name}{' (simulated)' if gpu.simulated else ''}"
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{count} x {kind}" for kind, count in counts.items())


def node_summary(node: node_pb2.Node) -> str:
    """What it has: ``2 CPUs, 7.8Gi, 8 x H100 (simulated)``."""
    parts = [f"{format_milli(node.cpu_milli)} CPUs", format_memory(node.memory_bytes)]
    return ", ".join([*parts, gpu_kinds(node) or "no GPU"])
