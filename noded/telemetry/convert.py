"""From the values of telemetry to the messages of the contract."""

from __future__ import annotations

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from noded.telemetry.model import (
    GpuProcess,
    GpuStatus,
    HealthState,
    HostSample,
    NodeSample,
)
from riseml.v1 import node_pb2, telemetry_pb2

_HEALTH: Final = {
    HealthState.HEALTHY: node_pb2.GPU_HEALTH_HEALTHY,
    HealthState.QUARANTINED: node_pb2.GPU_HEALTH_QUARANTINED,
    HealthState.LOST: node_pb2.GPU_HEALTH_LOST,
    HealthState.UNKNOWN: node_pb2.GPU_HEALTH_UNKNOWN,
}
UNKNOWN_NUMA_NODE: Final = -1


def gpu_to_proto(gpu: GpuStatus) -> node_pb2.Gpu:
    """A GPU for the inventory."""
    info = gpu.info
    numa_node = UNKNOWN_NUMA_NODE if info.numa_node is None else info.numa_node
    return node_pb2.Gpu(
        uuid=info.uuid,
        index=info.index,
        name=info.name,
        model=info.model,
        memory_bytes=info.memory_bytes,
        health=_HEALTH[gpu.health.state],
        health_reason=gpu.health.reason,
        health_message=gpu.health.message,
        health_time=_timestamp(gpu.health.since),
        simulated=info.simulated,
        foreign_memory_bytes=gpu.occupancy.memory_bytes,
        pci_bus_id=info.pci_bus_id,
        driver_version=info.driver_version,
        numa_node=numa_node,
        # None leaves an optional field absent.
        nvlink_group=info.nvlink_group,
        pcie_group=info.pcie_group,
        foreign_processes=[
            node_pb2.ForeignProcess(
                pid=process.pid,
                user_name=process.user_name or "",
                memory_bytes=process.memory_bytes or 0,
            )
            for process in gpu.occupancy.processes
        ],
    )


def node_sample_to_proto(node_name: str, sample: NodeSample) -> telemetry_pb2.NodeSample:
    """One reading of a node."""
    return telemetry_pb2.NodeSample(
        node_name=node_name,
        sample_time=_timestamp(sample.wall_time),
        host=_host(sample.host),
        gpus=[_gpu_sample(gpu) for gpu in sample.gpus],
        attempts=[
            telemetry_pb2.AttemptSample(
                attempt_id=attempt.attempt_id,
                cpu_percent=attempt.cpu_percent,
                memory_bytes=attempt.memory_bytes,
            )
            for attempt in sample.attempts
        ],
    )


def _host(host: HostSample) -> telemetry_pb2.HostSample:
    return telemetry_pb2.HostSample(
        cpu_percent=host.cpu_percent,
        memory_total_bytes=host.memory_total_bytes,
        memory_available_bytes=host.memory_available_bytes,
        load1=host.load1,
        disk_free_bytes=host.disk_free_bytes,
    )


def _gpu_sample(gpu: GpuStatus) -> telemetry_pb2.GpuSample:
    message = telemetry_pb2.GpuSample(
        gpu_uuid=gpu.info.uuid,
        health=_HEALTH[gpu.health.state],
        health_reason=gpu.health.reason,
    )
    if gpu.last_xid is not None:
        message.last_xid = gpu.last_xid.code
        message.last_xid_time.CopyFrom(_timestamp(gpu.last_xid.wall_time))
    sample = gpu.sample
    if sample is None:
        return message
    message.MergeFrom(
        # None leaves an optional field absent.
        telemetry_pb2.GpuSample(
            utilization_percent=sample.utilization_percent,
            memory_used_bytes=sample.memory_used_bytes,
            power_milliwatts=sample.power_milliwatts,
            power_limit_milliwatts=sample.power_limit_milliwatts,
            temperature_celsius=sample.temperature_celsius,
            ecc_corrected=sample.ecc_corrected,
            ecc_uncorrected=sample.ecc_uncorrected,
            remap_pending=sample.remap_pending,
            remap_failed=sample.remap_failed,
            pcie_generation=sample.pcie_generation,
            pcie_width=sample.pcie_width,
            pcie_replays=sample.pcie_replays,
            nvlink_errors=sample.nvlink_errors,
            throttle_reasons=sample.throttle_reasons,
            processes=[_process(process) for process in sample.processes],
        )
    )
    return message


def _process(process: GpuProcess) -> telemetry_pb2.GpuProcess:
    return telemetry_pb2.GpuProcess(
        pid=process.pid,
        memory_bytes=process.memory_bytes or 0,
        user_name=process.user_name or "",
        attempt_id=process.attempt_id or "",
    )


def _timestamp(wall_time: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(wall_time * 1e9))
    return stamp
