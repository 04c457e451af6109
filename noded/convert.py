"""Between the daemon's values and the contract's messages. The only place that knows both sides of
each field."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from noded.model import AttemptPhase, Report
from noded.reconcile import Desired
from noded.trees import TreeFile
from riseml.files.area import FileEntry
from riseml.v1 import (
    daemon_pb2,
    daemon_service_pb2,
    job_pb2,
    storage_service_pb2,
)

_STATES = {
    AttemptPhase.PREPARING: job_pb2.ATTEMPT_STATE_PREPARING,
    AttemptPhase.RUNNING: job_pb2.ATTEMPT_STATE_RUNNING,
    AttemptPhase.STOPPING: job_pb2.ATTEMPT_STATE_STOPPING,
    AttemptPhase.EXITED: job_pb2.ATTEMPT_STATE_EXITED,
    AttemptPhase.LOST: job_pb2.ATTEMPT_STATE_LOST,
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


def checkpoint_message(attempt_id: str, write_time: float) -> daemon_pb2.CheckpointSeen:
    """That an attempt wrote a checkpoint."""
    return daemon_pb2.CheckpointSeen(attempt_id=attempt_id, checkpoint_time=timestamp(write_time))


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
