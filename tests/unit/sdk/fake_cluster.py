"""A control plane made of dictionaries; ``fake_services`` serves it.

It knows no rules; tests put things in, take things out, and tell it when to fail.
"""

from __future__ import annotations

import threading
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from riseml.v1 import (
    experiment_pb2,
    job_pb2,
    node_pb2,
    project_pb2,
    queue_pb2,
    queue_service_pb2,
    scheduler_pb2,
    scheduler_service_pb2,
    state_pb2,
    telemetry_pb2,
    user_pb2,
)

API_KEY = "riseml_test-key"


def refuse(
    context: Any,
    code: grpc.StatusCode,
    message: str,
    reason: str = "",
    violations: tuple[tuple[str, str], ...] = (),
) -> None:
    """End a call as the control plane does: with a rich status."""
    status = status_pb2.Status(code=code.value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=reason, domain="riseml", metadata={"id": "x"})
    bad = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
            for field, text in violations
        ]
    )
    for detail in (info, bad):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)


class FakeCluster:
    """What the cluster holds, and the faults that are wanted."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.calls: list[str] = []
        self.faults: dict[str, list[tuple[grpc.StatusCode, str, str]]] = {}
        """Per method: what the next calls are refused with, as (code, message, reason)."""
        self.violations: tuple[tuple[str, str], ...] = ()
        self.users = {"ana": user_pb2.User(name="ana", admin=True, enabled=True)}
        self.nodes: list[node_pb2.Node] = []
        self.queues: dict[str, queue_pb2.Queue] = {}
        self.queue_settings: list[queue_service_pb2.QueueSettings] = []
        """As they came, of CreateQueue and UpdateQueue."""
        self.samples: list[telemetry_pb2.NodeSample] = []
        self.blobs: dict[bytes, bytes] = {}
        self.cut_upload_after = -1
        """UploadBlobs breaks when so many messages have come; -1: never."""
        self.revisions: dict[str, list[project_pb2.ManifestEntry]] = {}
        self.experiments: dict[str, experiment_pb2.Experiment] = {}
        self.specs: list[Any] = []
        self.changes: list[experiment_pb2.Experiment] = []
        self.logs: dict[str, bytes] = {}
        self.log_ended: set[str] = set()
        self.explanations: dict[str, scheduler_pb2.Explanation] = {}
        self.planned = scheduler_service_pb2.PlanExperimentResponse()
        self.cycles: list[scheduler_pb2.SchedulerCycle] = []
        """Newest first."""
        self.recording = b""
        self.decisions: list[scheduler_pb2.SchedulerDecision] = []
        self.offsets: list[int] = []
        """utc_offset_seconds that came with questions."""
        self.chunk_bytes = 7
        self.cut_logs_after: list[int] = []
        """Each TailLogs breaks after so many chunks; then no more."""
        self.repeat_bytes = 0
        """TailLogs starts so many bytes before the cursor: a server may repeat."""
        self.files: dict[str, bytes] = {}
        self.partial: dict[str, bytes] = {}
        self.cut_write_after = -1
        self.cut_read_after = -1

    def put(self, experiment: experiment_pb2.Experiment) -> None:
        """Set an experiment and tell the watchers."""
        with self.changed:
            self.experiments[experiment.id] = experiment
            self.changes.append(experiment)
            self.changed.notify_all()

    def write_log(self, attempt_id: str, data: bytes, *, end: bool = False) -> None:
        """Append to an attempt's log."""
        with self.changed:
            self.logs[attempt_id] = self.logs.get(attempt_id, b"") + data
            if end:
                self.log_ended.add(attempt_id)
            self.changed.notify_all()

    def enter(self, method: str, context: Any) -> None:
        """What every call begins with."""
        self.calls.append(method)
        sent = dict(context.invocation_metadata()).get("authorization")
        if sent != f"Bearer {API_KEY}":
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "This API key is not known.")
        if self.faults.get(method):
            code, message, reason = self.faults[method].pop(0)
            refuse(context, code, message, reason, self.violations)


def one(id: str, state: int = state_pb2.STATE_RUNNING, **more: Any) -> experiment_pb2.Experiment:
    """An experiment with one train job and, once it was started, one attempt."""
    attempts = []
    if state not in (state_pb2.STATE_CREATED, state_pb2.STATE_PENDING):
        attempt = job_pb2.Attempt(
            id=f"{id}.train.1-1", job_id=f"{id}.train.1", generation=1, node_name="n1"
        )
        attempt.start_time.seconds = 1_000
        attempts.append(attempt)
    job = job_pb2.Job(
        id=f"{id}.train.1",
        experiment_id=id,
        type="train",
        number=1,
        state=state,  # type: ignore[arg-type]
        attempts=attempts,
    )
    return experiment_pb2.Experiment(
        id=id,
        user_name=id.partition(".")[0],
        number=int(id.split(".")[1]),
        project="digits",
        state=state,  # type: ignore[arg-type]
        jobs=[job],
        **more,
    )
