"""Calls about the cluster: nodes, queues, telemetry, files, results, the control plane. Reached
through ``riseml.client``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from riseml.spec.taints import Taint
from riseml.transport import AnswerStream
from riseml.v1 import (
    node_pb2,
    node_service_pb2,
    queue_pb2,
    queue_service_pb2,
    result_service_pb2,
    storage_service_pb2,
    system_service_pb2,
    telemetry_pb2,
    telemetry_service_pb2,
)
from riseml.work_calls import PAGE_SIZE, SLOW_CALL_SECONDS, Calls, new_request_id, pages


class Nodes(Calls):
    """The cluster's nodes; only admins change them."""

    _SERVICE = "NodeService"

    def get(self, name: str) -> node_pb2.Node:
        """One node."""
        pb = node_service_pb2
        return self._transport.call(
            self._SERVICE, "GetNode", pb.GetNodeRequest(name=name), pb.GetNodeResponse
        ).node

    def list(self) -> Iterator[node_pb2.Node]:
        """All nodes."""
        pb = node_service_pb2

        def fetch(token: str) -> tuple[Sequence[node_pb2.Node], str]:
            request = pb.ListNodesRequest(page_size=PAGE_SIZE, page_token=token)
            page = self._transport.call(self._SERVICE, "ListNodes", request, pb.ListNodesResponse)
            return page.nodes, page.next_page_token

        return pages(fetch)

    def cordon(self, name: str) -> node_pb2.Node:
        """No new jobs; what runs goes on."""
        pb = node_service_pb2
        return self._transport.call(
            self._SERVICE, "CordonNode", pb.CordonNodeRequest(name=name), pb.CordonNodeResponse
        ).node

    def uncordon(self, name: str) -> node_pb2.Node:
        """New jobs again."""
        pb = node_service_pb2
        return self._transport.call(
            self._SERVICE,
            "UncordonNode",
            pb.UncordonNodeRequest(name=name),
            pb.UncordonNodeResponse,
        ).node

    def drain(self, name: str) -> node_pb2.Node:
        """Cordon, and move what runs elsewhere."""
        pb = node_service_pb2
        return self._transport.call(
            self._SERVICE, "DrainNode", pb.DrainNodeRequest(name=name), pb.DrainNodeResponse
        ).node

    def forget(self, name: str) -> None:
        """Declare a lost node gone for good."""
        pb = node_service_pb2
        self._transport.call(
            self._SERVICE, "ForgetNode", pb.ForgetNodeRequest(name=name), pb.ForgetNodeResponse
        )

    def set_taints(self, name: str, taints: Iterable[Taint]) -> node_pb2.Node:
        """These taints, as pairs of key and value, in place of those that it has."""
        pb = node_service_pb2
        request = pb.SetNodeTaintsRequest(
            name=name, taints=[node_pb2.Taint(key=key, value=value) for key, value in taints]
        )
        return self._transport.call(
            self._SERVICE, "SetNodeTaints", request, pb.SetNodeTaintsResponse
        ).node

    def release_gpu(self, name: str, gpu_uuid: str) -> node_pb2.Node:
        """Give a GPU that is healthy again to jobs, without waiting for a test."""
        pb = node_service_pb2
        request = pb.ReleaseGpuRequest(node_name=name, gpu_uuid=gpu_uuid)
        return self._transport.call(
            self._SERVICE, "ReleaseGpu", request, pb.ReleaseGpuResponse
        ).node

    def create_token(self, name: str) -> node_service_pb2.CreateNodeTokenResponse:
        """A credential for the daemon of one node; replaces an earlier one."""
        pb = node_service_pb2
        return self._transport.call(
            self._SERVICE,
            "CreateNodeToken",
            pb.CreateNodeTokenRequest(node_name=name),
            pb.CreateNodeTokenResponse,
        )

    def delete_token(self, name: str) -> None:
        """Revoke a node's credential."""
        pb = node_service_pb2
        self._transport.call(
            self._SERVICE,
            "DeleteNodeToken",
            pb.DeleteNodeTokenRequest(node_name=name),
            pb.DeleteNodeTokenResponse,
        )


class Queues(Calls):
    """Queues, what they may have, have and want; only admins change them."""

    _SERVICE = "QueueService"

    def get(self, name: str) -> queue_pb2.Queue:
        """One queue."""
        pb = queue_service_pb2
        return self._transport.call(
            self._SERVICE, "GetQueue", pb.GetQueueRequest(name=name), pb.GetQueueResponse
        ).queue

    def list(self) -> Iterator[queue_pb2.Queue]:
        """All queues."""
        pb = queue_service_pb2

        def fetch(token: str) -> tuple[Sequence[queue_pb2.Queue], str]:
            request = pb.ListQueuesRequest(page_size=PAGE_SIZE, page_token=token)
            page = self._transport.call(self._SERVICE, "ListQueues", request, pb.ListQueuesResponse)
            return page.queues, page.next_page_token

        return pages(fetch)

    def create(
        self, name: str, settings: queue_service_pb2.QueueSettings, *, request_id: str = ""
    ) -> queue_pb2.Queue:
        """A new queue; what the settings leave out has its default."""
        pb = queue_service_pb2
        request = pb.CreateQueueRequest(
            request_id=request_id or new_request_id(), name=name, settings=settings
        )
        return self._transport.call(
            self._SERVICE, "CreateQueue", request, pb.CreateQueueResponse
        ).queue

    def update(self, name: str, settings: queue_service_pb2.QueueSettings) -> queue_pb2.Queue:
        """Change what the settings name; the rest stays."""
        pb = queue_service_pb2
        request = pb.UpdateQueueRequest(name=name, settings=settings)
        return self._transport.call(
            self._SERVICE, "UpdateQueue", request, pb.UpdateQueueResponse
        ).queue

    def delete(self, name: str) -> None:
        """Remove a queue in which nothing waits or runs."""
        pb = queue_service_pb2
        self._transport.call(
            self._SERVICE, "DeleteQueue", pb.DeleteQueueRequest(name=name), pb.DeleteQueueResponse
        )


class Telemetry(Calls):
    """What the daemons measure."""

    _SERVICE = "TelemetryService"

    def get(
        self, node_names: Iterable[str] = (), *, history_seconds: int = 0
    ) -> Sequence[telemetry_pb2.NodeSample]:
        """The newest samples of these nodes (none named: all), or those of the last seconds."""
        pb = telemetry_service_pb2
        request = pb.GetTelemetryRequest(node_names=node_names, history_seconds=history_seconds)
        return self._transport.call(
            self._SERVICE, "GetTelemetry", request, pb.GetTelemetryResponse
        ).samples

    def watch(
        self, node_names: Iterable[str] = ()
    ) -> AnswerStream[telemetry_service_pb2.WatchTelemetryResponse]:
        """Samples as they come."""
        pb = telemetry_service_pb2
        return self._transport.stream(
            self._SERVICE,
            "WatchTelemetry",
            pb.WatchTelemetryRequest(node_names=node_names),
            pb.WatchTelemetryResponse,
        )


class Storage(Calls):
    """Files under ``data://`` and ``output://``; ``riseml.storage`` copies and resumes."""

    _SERVICE = "StorageService"

    def list(self, uri: str, *, recursive: bool = False) -> Iterator[storage_service_pb2.FileInfo]:
        """The files of a directory, or of all below it."""
        pb = storage_service_pb2

        def fetch(token: str) -> tuple[Sequence[storage_service_pb2.FileInfo], str]:
            request = pb.ListFilesRequest(
                uri=uri, recursive=recursive, page_size=PAGE_SIZE, page_token=token
            )
            page = self._transport.call(self._SERVICE, "ListFiles", request, pb.ListFilesResponse)
            return page.files, page.next_page_token

        return pages(fetch)

    def stat(self, uri: str) -> storage_service_pb2.StatFileResponse:
        """A file, and how much of it an interrupted upload left. NotFound if there is neither."""
        pb = storage_service_pb2
        return self._transport.call(
            self._SERVICE, "StatFile", pb.StatFileRequest(uri=uri), pb.StatFileResponse
        )

    def read(self, uri: str, offset: int = 0) -> AnswerStream[storage_service_pb2.ReadFileResponse]:
        """The bytes of a file from an offset on."""
        pb = storage_service_pb2
        request = pb.ReadFileRequest(uri=uri, offset=offset)
        return self._transport.stream(self._SERVICE, "ReadFile", request, pb.ReadFileResponse)

    def write(
        self, chunks: Iterable[storage_service_pb2.WriteFileRequest], *, seconds: float
    ) -> storage_service_pb2.FileInfo:
        """Send a file's chunks; the last one carries ``finish``."""
        pb = storage_service_pb2
        return self._transport.upload(
            self._SERVICE,
            "WriteFile",
            chunks,
            pb.WriteFileRequest,
            pb.WriteFileResponse,
            seconds=seconds,
        ).file

    def remove(self, uri: str, *, recursive: bool = False) -> int:
        """Remove a file, or a directory with all in it; returns how many files and directories
        went.
        """
        pb = storage_service_pb2
        request = pb.RemoveFileRequest(uri=uri, recursive=recursive)
        return self._transport.call(
            self._SERVICE,
            "RemoveFile",
            request,
            pb.RemoveFileResponse,
            seconds=SLOW_CALL_SECONDS,
        ).removed_count


class Results(Calls):
    """What jobs reported with ``riseml.report_result``."""

    _SERVICE = "ResultService"

    def list(self, id: str) -> Iterator[result_service_pb2.Result]:
        """The results of an experiment, job or attempt, in order of reporting per attempt."""
        pb = result_service_pb2

        def fetch(token: str) -> tuple[Sequence[result_service_pb2.Result], str]:
            request = pb.ListResultsRequest(id=id, page_size=PAGE_SIZE, page_token=token)
            page = self._transport.call(
                self._SERVICE, "ListResults", request, pb.ListResultsResponse
            )
            return page.results, page.next_page_token

        return pages(fetch)


class System(Calls):
    """The control plane itself."""

    def info(self) -> system_service_pb2.GetSystemInfoResponse:
        """Version, launchers, counts and warnings."""
        pb = system_service_pb2
        return self._transport.call(
            "SystemService", "GetSystemInfo", pb.GetSystemInfoRequest(), pb.GetSystemInfoResponse
        )
