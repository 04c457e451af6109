"""Between the daemon's values and the contract's messages. The only place that knows both sides of
each field."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from noded.model import AttemptPhase, Report
from noded.reconcile import Desired
from noded.revisions import TreeFile
from noded.telemetry.model import GpuStatus, HealthState, NodeSample
from riseml.files.area import FileEntry
from riseml.v1 import (
    daemon_pb2,
    daemon_service_pb2,
    job_pb2,
    node_pb2,
    storage_service_pb2,
    telemetry_pb2,
)

_STATES = {
    AttemptPhase.PREPARING: job_pb2.ATTEMPT_STATE_PREPARING,
    AttemptPhase.RUNNING: job_pb2.ATTEMPT_STATE_RUNNING,
    AttemptPhase.STOPPING: job_pb2.ATTEMPT_STATE_STOPPING,
    AttemptPhase.EXITED: job_pb2.ATTEMPT_STATE_EXITED,
    AttemptPhase.LOST: job_pb2.ATTEMPT_STATE_LOST,
}

_HEALTH = {
    HealthState.HEALTHY: node_pb2.GPU_HEALTH_HEALTHY,
    HealthState.QUARANTINED: node_pb2.GPU_HEALTH_QUARANTINED,
    HealthState.LOST: node_pb2.GPU_HEALTH_LOST,
    HealthState.UNKNOWN: node_pb2.GPU_HEALTH_UNKNOWN,
}


def timestamp(seconds: float | None) -> Timestamp | None:
    """A moment; None stays absent."""
    if seconds is None:
        return None
    nanos = round(seconds * 1e9)
    return Timestamp(seconds=nanos // 10**9, nanos=nanos % 10**9)


def report_message(report: Report) -> daemon_pb2.AttemptReport:
    """An attempt as it is reported."""
    return daemon_pb2.AttemptReport(
        attempt_id=report.attempt_id,
        state=_STATES[report.phase],
        reason=report.reason,
        message=report.message,
        exit_code=report.exit_code,
        exit_signal=report.exit_signal,
        start_time=timestamp(report.start_time),
        end_time=timestamp(report.end_time),
        final_log_offset=report.final_log_offset,
        final_results_offset=report.final_results_offset,
    )


def desired_of(welcome: daemon_service_pb2.Welcome) -> list[Desired]:
    """What should run, as reconciling sees it."""
    return [
        Desired(order.attempt_id, order.environment.build_attempt_id) for order in welcome.desired
    ]


def tree_of(manifest: daemon_service_pb2.RevisionManifest) -> tuple[TreeFile, ...]:
    """A revision's files."""
    return tuple(
        TreeFile(e.path, bool(e.mode & 0o100), e.size_bytes, e.sha256) for e in manifest.entries
    )


def gpu_message(gpu: GpuStatus) -> node_pb2.Gpu:
    """A GPU in the inventory."""
    return node_pb2.Gpu(
        uuid=gpu.info.uuid,
        index=gpu.info.index,
        name=gpu.info.name,
        model=gpu.info.model,
        memory_bytes=gpu.info.memory_bytes,
        health=_HEALTH[gpu.health.state],
        health_reason=gpu.health.reason,
        health_message=gpu.health.message,
        simulated=gpu.info.simulated,
        foreign_memory_bytes=gpu.foreign_memory_bytes,
        pci_bus_id=gpu.info.pci_bus_id,
        driver_version=gpu.info.driver_version,
        numa_node=-1 if gpu.info.numa_node is None else gpu.info.numa_node,
    )


def gpu_sample_message(gpu: GpuStatus) -> telemetry_pb2.GpuSample:
    """One reading of one GPU; what is not known stays absent."""
    message = telemetry_pb2.GpuSample(
        gpu_uuid=gpu.info.uuid,
        health=_HEALTH[gpu.health.state],
        health_reason=gpu.health.reason,
    )
    if gpu.last_xid is not None:
        message.last_xid = gpu.last_xid.code
        message.last_xid_time.CopyFrom(timestamp(gpu.last_xid.wall_time) or Timestamp())
    sample = gpu.sample
    if sample is None:
        return message
    message.MergeFrom(
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
            processes=[
                telemetry_pb2.GpuProcess(
                    pid=p.pid,
                    memory_bytes=p.memory_bytes or 0,
                    user_name=p.user_name or "",
                    attempt_id=p.attempt_id or "",
                )
                for p in sample.processes
            ],
        )
    )
    return message


def sample_message(node_name: str, sample: NodeSample) -> telemetry_pb2.NodeSample:
    """One reading of the node."""
    host = sample.host
    return telemetry_pb2.NodeSample(
        node_name=node_name,
        sample_time=timestamp(sample.wall_time),
        host=telemetry_pb2.HostSample(
            cpu_percent=host.cpu_percent,
            memory_total_bytes=host.memory_total_bytes,
            memory_available_bytes=host.memory_available_bytes,
            load1=host.load1,
            disk_free_bytes=host.disk_free_bytes,
        ),
        gpus=[gpu_sample_message(gpu) for gpu in sample.gpus],
        attempts=[
            telemetry_pb2.AttemptSample(
                attempt_id=a.attempt_id, cpu_percent=a.cpu_percent, memory_bytes=a.memory_bytes
            )
            for a in sample.attempts
        ],
    )


def file_messages(entries: Iterable[FileEntry]) -> list[storage_service_pb2.FileInfo]:
    """Files as the storage commands show them."""
    return [
        storage_service_pb2.FileInfo(
            path=e.path,
            directory=e.directory,
            size_bytes=e.size_bytes,
            modify_time=timestamp(e.modify_time),
        )
        for e in entries
    ]
