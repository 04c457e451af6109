"""DaemonService: for noded, and for a pod that fetches its code. Each call is served by a part of
its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from controlplane.rpc.caller import current_caller
from controlplane.rpc.container_logs import ContainerLogs
from controlplane.rpc.daemon_logs import DaemonLogs
from controlplane.rpc.daemon_revisions import DaemonRevisions
from controlplane.rpc.daemon_session import DaemonSessions
from controlplane.rpc.daemon_storage import DaemonStorage
from controlplane.rpc.observer_session import ObserverSessions
from riseml.v1 import daemon_service_pb2 as pb
from riseml.v1 import daemon_service_pb2_grpc


class DaemonService(daemon_service_pb2_grpc.DaemonServiceServicer):
    """See the contract for what each call means."""

    def __init__(
        self,
        sessions: DaemonSessions | ObserverSessions,
        container_logs: ContainerLogs,
        logs: DaemonLogs,
        revisions: DaemonRevisions,
        storage: DaemonStorage,
    ) -> None:
        self._sessions = sessions
        self._container_logs = container_logs
        self._logs = logs
        self._revisions = revisions
        self._storage = storage

    def Session(
        self, request_iterator: AsyncIterator[pb.SessionRequest], context: Any
    ) -> AsyncIterator[pb.SessionResponse]:
        return self._sessions.serve(current_caller().node_name, request_iterator)

    async def ShipContainerLog(
        self, request_iterator: AsyncIterator[pb.ShipContainerLogRequest], context: Any
    ) -> pb.ShipContainerLogResponse:
        return await self._container_logs.serve(current_caller().node_name, request_iterator)

    def AppendLog(
        self, request_iterator: AsyncIterator[pb.AppendLogRequest], context: Any
    ) -> AsyncIterator[pb.AppendLogResponse]:
        return self._logs.serve(current_caller().node_name, request_iterator)

    def FetchRevision(
        self, request: pb.FetchRevisionRequest, context: Any
    ) -> AsyncIterator[pb.FetchRevisionResponse]:
        return self._revisions.serve(current_caller(), request)

    def ServeStorage(
        self, request_iterator: AsyncIterator[pb.ServeStorageRequest], context: Any
    ) -> AsyncIterator[pb.ServeStorageResponse]:
        return self._storage.serve(current_caller().node_name, request_iterator)
