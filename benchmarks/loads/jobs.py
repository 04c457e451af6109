"""The jobs that benchmarks submit, as messages of the contract."""

from __future__ import annotations

from riseml.v1 import spec_pb2


def job(
    *run: str, cpu_milli: int, memory_bytes: int = 16 << 20, project: str = "bench"
) -> spec_pb2.TrainSpec:
    """Commands without code, on one node."""
    needs = spec_pb2.Resources(cpu_milli=cpu_milli, memory_bytes=memory_bytes)
    return spec_pb2.TrainSpec(
        project=project,
        run=run,
        roles=[spec_pb2.Role(name="train", count=1, resources=needs)],
        grace_period_seconds=2,
    )


def true_job(cpu_milli: int) -> spec_pb2.TrainSpec:
    """Does nothing, as fast as can be."""
    return job("true", cpu_milli=cpu_milli)
