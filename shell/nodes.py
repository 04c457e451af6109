"""Nodes and GPUs in a few words."""

from __future__ import annotations

from riseml.spec.units import format_memory, format_milli
from riseml.v1 import node_pb2


def node_state(node: node_pb2.Node) -> str:
    """``READY``, or ``READY, cordoned``."""
    try:
        state = node_pb2.NodeState.Name(node.state).removeprefix("NODE_STATE_")
    except ValueError:
        state = f"STATE_{node.state}"
    if node.draining:
        return f"{state}, draining"
    return f"{state}, cordoned" if node.cordoned else state


def gpu_health(gpu: node_pb2.Gpu) -> str:
    """``HEALTHY``, and so on."""
    try:
        return node_pb2.GpuHealth.Name(gpu.health).removeprefix("GPU_HEALTH_")
    except ValueError:
        return f"HEALTH_{gpu.health}"


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
