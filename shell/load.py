"""What nodes, GPUs and jobs are doing, as rows of text. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from riseml.spec.units import format_memory, format_milli
from riseml.states import newest_attempt, state_name
from riseml.v1 import experiment_pb2, job_pb2, node_pb2, telemetry_pb2
from shell.nodes import gpu_health, node_state

UNKNOWN: Final = "-"


@dataclass(frozen=True, slots=True)
class Rows:
    """A table of text."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[str]
    """Titles of columns of numbers."""


def node_rows(
    nodes: Iterable[node_pb2.Node], samples: Mapping[str, telemetry_pb2.NodeSample]
) -> Rows:
    """One row per node."""
    titles = (
        "NODE",
        "STATE",
        "CPU",
        "CPUS GIVEN",
        "MEMORY USED",
        "MEMORY GIVEN",
        "DISK FREE",
        "GPU",
        "GPU MEMORY",
        "GPU POWER",
        "HOTTEST",
    )
    return Rows(
        titles,
        tuple(_node_row(node, samples.get(node.name)) for node in nodes),
        frozenset(titles[2:]),
    )


def _node_row(node: node_pb2.Node, sample: telemetry_pb2.NodeSample | None) -> tuple[str, ...]:
    cpus = f"{format_milli(node.allocated_cpu_milli)}/{format_milli(node.cpu_milli)}"
    given = f"{format_memory(node.allocated_memory_bytes)}/{format_memory(node.memory_bytes)}"
    if sample is None:
        return (node.name, node_state(node), UNKNOWN, cpus, UNKNOWN, given, *[UNKNOWN] * 5)
    host = sample.host
    used = host.memory_total_bytes - host.memory_available_bytes
    return (
        node.name,
        node_state(node),
        f"{host.cpu_percent:.0f}%",
        cpus,
        f"{format_memory(used)}/{format_memory(host.memory_total_bytes)}",
        given,
        format_memory(host.disk_free_bytes),
        *_gpu_sums(sample.gpus, [gpu.memory_bytes for gpu in node.gpus]),
    )


def _gpu_sums(
    samples: Sequence[telemetry_pb2.GpuSample], memories: Sequence[int]
) -> tuple[str, str, str, str]:
    """Mean utilization, memory, power and highest temperature of several GPUs."""
    busy = [s.utilization_percent for s in samples if s.HasField("utilization_percent")]
    used = [s.memory_used_bytes for s in samples if s.HasField("memory_used_bytes")]
    power = [s.power_milliwatts for s in samples if s.HasField("power_milliwatts")]
    heat = [s.temperature_celsius for s in samples if s.HasField("temperature_celsius")]
    return (
        f"{sum(busy) / len(busy):.0f}%" if busy else UNKNOWN,
        f"{format_memory(sum(used))}/{format_memory(sum(memories))}" if used else UNKNOWN,
        f"{sum(power) / 1000:.0f}W" if power else UNKNOWN,
        f"{max(heat)}C" if heat else UNKNOWN,
    )


def gpu_rows(
    nodes: Iterable[node_pb2.Node],
    samples: Mapping[str, telemetry_pb2.NodeSample],
    uuids: frozenset[str] | None = None,
) -> Rows:
    """One row per GPU, of all or of those named."""
    titles = (
        "NODE",
        "GPU",
        "MODEL",
        "USED",
        "MEMORY",
        "POWER",
        "TEMP",
        "HEALTH",
        "SLOWED BY",
        "GIVEN TO",
        "FOREIGN",
    )
    rows = []
    for node in nodes:
        sample = samples.get(node.name)
        by_uuid = {s.gpu_uuid: s for s in sample.gpus} if sample is not None else {}
        for gpu in node.gpus:
            if uuids is None or gpu.uuid in uuids:
                rows.append(_gpu_row(node, gpu, by_uuid.get(gpu.uuid)))
    return Rows(titles, tuple(rows), frozenset(("GPU", "USED", "MEMORY", "POWER", "TEMP")))


def _gpu_row(
    node: node_pb2.Node, gpu: node_pb2.Gpu, sample: telemetry_pb2.GpuSample | None
) -> tuple[str, ...]:
    model = f"{gpu.model or gpu.name}{' (simulated)' if gpu.simulated else ''}"
    given = ", ".join(
        f"{a.attempt_id} ({format_milli(a.milli)})"
        for a in node.gpu_allocations
        if a.gpu_uuid == gpu.uuid
    )
    foreign = format_memory(gpu.foreign_memory_bytes) if gpu.foreign_memory_bytes else ""
    head = (node.name, str(gpu.index), model)
    if sample is None:
        return (*head, *[UNKNOWN] * 4, gpu_health(gpu), "", given, foreign)
    busy, memory, power, heat = _gpu_sums([sample], [gpu.memory_bytes])
    if sample.HasField("power_limit_milliwatts") and sample.HasField("power_milliwatts"):
        power = f"{power.removesuffix('W')}/{sample.power_limit_milliwatts / 1000:.0f}W"
    slowed = ", ".join(sample.throttle_reasons)
    return (*head, busy, memory, power, heat, gpu_health(gpu), slowed, given, foreign)


def job_rows(
    experiments: Iterable[experiment_pb2.Experiment],
    nodes: Iterable[node_pb2.Node],
    samples: Mapping[str, telemetry_pb2.NodeSample],
) -> Rows:
    """One row per job that was started, with what it asked for and what it uses."""
    titles = (
        "JOB",
        "STATE",
        "NODE",
        "CPU",
        "CPUS ASKED",
        "MEMORY",
        "MEMORY ASKED",
        "GPU",
        "GPU MEMORY",
        "GPU POWER",
        "HOTTEST",
    )
    sizes = {gpu.uuid: gpu.memory_bytes for node in nodes for gpu in node.gpus}
    rows = [
        _job_row(job, samples, sizes)
        for experiment in experiments
        for job in experiment.jobs
        if job.attempts
    ]
    return Rows(titles, tuple(rows), frozenset(titles[3:]))


def _job_row(
    job: job_pb2.Job,
    samples: Mapping[str, telemetry_pb2.NodeSample],
    sizes: Mapping[str, int],
) -> tuple[str, ...]:
    attempt = newest_attempt(job)
    node_name = attempt.node_name if attempt is not None else ""
    sample = samples.get(node_name)
    uses = next(
        (a for a in sample.attempts if attempt is not None and a.attempt_id == attempt.id)
        if sample is not None
        else iter(()),
        None,
    )
    mine = {share.gpu_uuid for share in attempt.gpus} if attempt is not None else set()
    gpus = [s for s in sample.gpus if s.gpu_uuid in mine] if sample is not None else []
    return (
        job.id,
        state_name(job.state),
        node_name,
        f"{uses.cpu_percent:.0f}%" if uses is not None else UNKNOWN,
        format_milli(job.resources.cpu_milli),
        format_memory(uses.memory_bytes) if uses is not None else UNKNOWN,
        format_memory(job.resources.memory_bytes),
        *(_gpu_sums(gpus, [sizes.get(uuid, 0) for uuid in mine]) if mine else ("",) * 4),
    )


def gpus_of(experiments: Iterable[experiment_pb2.Experiment]) -> frozenset[str]:
    """The GPUs that experiments' newest attempts hold."""
    found: set[str] = set()
    for experiment in experiments:
        for job in experiment.jobs:
            attempt = newest_attempt(job)
            if attempt is not None:
                found.update(share.gpu_uuid for share in attempt.gpus)
    return frozenset(found)
