"""The gRPC server: options, services, health and reflection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from controlplane.domain.errors import FailedPrecondition
from controlplane.rpc.daemon_service import DaemonService
from controlplane.rpc.experiment_service import ExperimentService
from controlplane.rpc.interceptor import Gatekeeper
from controlplane.rpc.log_service import LogService
from controlplane.rpc.node_service import NodeService
from controlplane.rpc.project_service import ProjectService
from controlplane.rpc.queue_service import QueueService
from controlplane.rpc.result_service import ResultService
from controlplane.rpc.scheduler_service import SchedulerService
from controlplane.rpc.storage_service import StorageService
from controlplane.rpc.system_service import SystemService
from controlplane.rpc.telemetry_service import TelemetryService
from controlplane.rpc.user_service import UserService
from riseml.v1 import (
    daemon_service_pb2_grpc,
    experiment_service_pb2_grpc,
    log_service_pb2_grpc,
    node_service_pb2_grpc,
    project_service_pb2_grpc,
    queue_service_pb2_grpc,
    result_service_pb2_grpc,
    scheduler_service_pb2_grpc,
    storage_service_pb2_grpc,
    system_service_pb2_grpc,
    telemetry_service_pb2_grpc,
    user_service_pb2_grpc,
)

OPTIONS: Final[Sequence[tuple[str, Any]]] = (
    # Two servers on one port must fail, not share it.
    ("grpc.so_reuseport", 0),
    # Clients ping every 30 s; faster than every 10 s is cut off.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A dead peer is noticed within a minute.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # The largest message is a manifest of 50,000 files.
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
)

SERVICE_NAMES: Final = (
    "riseml.v1.UserService",
    "riseml.v1.ProjectService",
    "riseml.v1.ExperimentService",
    "riseml.v1.SchedulerService",
    "riseml.v1.LogService",
    "riseml.v1.ResultService",
    "riseml.v1.NodeService",
    "riseml.v1.QueueService",
    "riseml.v1.TelemetryService",
    "riseml.v1.StorageService",
    "riseml.v1.SystemService",
    "riseml.v1.DaemonService",
)


@dataclass(frozen=True, slots=True)
class Services:
    """One servicer per service."""

    users: UserService
    projects: ProjectService
    experiments: ExperimentService
    scheduler: SchedulerService
    logs: LogService
    results: ResultService
    nodes: NodeService
    queues: QueueService
    telemetry: TelemetryService
    storage: StorageService
    system: SystemService
    daemons: DaemonService


def make_server(
    services: Services, gatekeeper: Gatekeeper
) -> tuple[grpc.aio.Server, health.aio.HealthServicer]:
    """A server with all services, not yet bound, and what answers its health checks."""
    server = grpc.aio.server(interceptors=[gatekeeper], options=OPTIONS)
    user_service_pb2_grpc.add_UserServiceServicer_to_server(services.users, server)
    project_service_pb2_grpc.add_ProjectServiceServicer_to_server(services.projects, server)
    experiment_service_pb2_grpc.add_ExperimentServiceServicer_to_server(
        services.experiments, server
    )
    scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(services.scheduler, server)
    log_service_pb2_grpc.add_LogServiceServicer_to_server(services.logs, server)
    result_service_pb2_grpc.add_ResultServiceServicer_to_server(services.results, server)
    node_service_pb2_grpc.add_NodeServiceServicer_to_server(services.nodes, server)
    queue_service_pb2_grpc.add_QueueServiceServicer_to_server(services.queues, server)
    telemetry_service_pb2_grpc.add_TelemetryServiceServicer_to_server(services.telemetry, server)
    storage_service_pb2_grpc.add_StorageServiceServicer_to_server(services.storage, server)
    system_service_pb2_grpc.add_SystemServiceServicer_to_server(services.system, server)
    daemon_service_pb2_grpc.add_DaemonServiceServicer_to_server(services.daemons, server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection(
        (*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    return server, checks


async def mark_serving(checks: health.aio.HealthServicer) -> None:
    """Health says SERVING for the whole and for each service."""
    for name in ("", *SERVICE_NAMES):
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)


def bind(
    server: grpc.aio.Server, listen: str, key_pem: bytes | None, certificate_pem: bytes | None
) -> int:
    """Binds and returns the port. Raises FailedPrecondition when the address is taken."""
    try:
        if key_pem is not None and certificate_pem is not None:
            credentials = grpc.ssl_server_credentials([(key_pem, certificate_pem)])
            return server.add_secure_port(listen, credentials)
        return server.add_insecure_port(listen)
    except RuntimeError:
        raise FailedPrecondition(
            f"{listen} cannot be bound: another program listens there. Stop it or choose another "
            "port with --listen (or --port of `riseml up`).",
            reason="ADDRESS_IN_USE",
        ) from None
