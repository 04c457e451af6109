"""Who may call what: one table that names every RPC. An RPC that is missing here is refused, and
fails a test.

This is the coarse right. What belongs to whom (one's own experiments, projects, outputs) is checked
by the servicers through `Caller.may_see`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class Access(enum.Enum):
    """Whose credential a call needs."""

    # No credential: health only.
    ANYONE = "anyone"
    # Any enabled user.
    USER = "user"
    ADMIN = "admin"
    # A daemon that runs jobs, with its node's token.
    NODE = "node"
    # The same, or one that observes a node of Kubernetes, with the token of its service account.
    DAEMON = "daemon"
    # A daemon that runs jobs, or a job with the token of its attempt.
    NODE_OR_JOB = "node or job"


_SERVICES: Final[Mapping[str, Mapping[str, Access]]] = {
    "riseml.v1.UserService": {
        "GetCaller": Access.USER,
        "CreateUser": Access.ADMIN,
        "GetUser": Access.USER,
        "ListUsers": Access.ADMIN,
        "UpdateUser": Access.ADMIN,
        "CreateApiKey": Access.USER,
        "ListApiKeys": Access.USER,
        "DeleteApiKey": Access.USER,
    },
    "riseml.v1.ProjectService": {
        "GetProject": Access.USER,
        "ListProjects": Access.USER,
        "FindMissingBlobs": Access.USER,
        "UploadBlobs": Access.USER,
        "CreateRevision": Access.USER,
        "GetRevision": Access.USER,
        "DownloadBlobs": Access.USER,
    },
    "riseml.v1.ExperimentService": {
        "CreateExperiment": Access.USER,
        "GetExperiment": Access.USER,
        "ListExperiments": Access.USER,
        "WatchExperiments": Access.USER,
        "KillExperiment": Access.USER,
    },
    "riseml.v1.SchedulerService": {
        "ExplainExperiment": Access.USER,
        "PlanExperiment": Access.USER,
        "ListSchedulerCycles": Access.USER,
        # With the snapshot for admins only: the servicer checks that.
        "GetSchedulerCycle": Access.USER,
        "ListSchedulerDecisions": Access.USER,
    },
    "riseml.v1.LogService": {"TailLogs": Access.USER},
    "riseml.v1.ResultService": {"ListResults": Access.USER},
    "riseml.v1.NodeService": {
        "GetNode": Access.USER,
        "ListNodes": Access.USER,
        "CordonNode": Access.ADMIN,
        "UncordonNode": Access.ADMIN,
        "DrainNode": Access.ADMIN,
        "ForgetNode": Access.ADMIN,
        "SetNodeTaints": Access.ADMIN,
        "ReleaseGpu": Access.ADMIN,
        "CreateNodeToken": Access.ADMIN,
        "DeleteNodeToken": Access.ADMIN,
    },
    "riseml.v1.QueueService": {
        "ListQueues": Access.USER,
        "GetQueue": Access.USER,
        "CreateQueue": Access.ADMIN,
        "UpdateQueue": Access.ADMIN,
        "DeleteQueue": Access.ADMIN,
    },
    "riseml.v1.TelemetryService": {
        "GetTelemetry": Access.USER,
        "WatchTelemetry": Access.USER,
    },
    "riseml.v1.StorageService": {
        "ListFiles": Access.USER,
        "StatFile": Access.USER,
        "ReadFile": Access.USER,
        "WriteFile": Access.USER,
        "RemoveFile": Access.USER,
    },
    "riseml.v1.SystemService": {"GetSystemInfo": Access.USER},
    "riseml.v1.DaemonService": {
        "Session": Access.DAEMON,
        "AppendLog": Access.NODE,
        "FetchRevision": Access.NODE_OR_JOB,
        "ServeStorage": Access.NODE,
        "ShipContainerLog": Access.DAEMON,
    },
    "grpc.health.v1.Health": {
        "Check": Access.ANYONE,
        "List": Access.ANYONE,
        "Watch": Access.ANYONE,
    },
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": Access.USER},
}

ACCESS: Final[Mapping[str, Access]] = {
    f"/{service}/{method}": access
    for service, methods in _SERVICES.items()
    for method, access in methods.items()
}
