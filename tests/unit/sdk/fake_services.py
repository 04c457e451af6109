"""The services of a FakeCluster behind a real gRPC server."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

from riseml.client import Client
from riseml.credentials import Credentials
from riseml.retry import Backoff
from riseml.transport import Transport
from riseml.v1 import (
    experiment_pb2,
    experiment_service_pb2,
    experiment_service_pb2_grpc,
    log_service_pb2,
    log_service_pb2_grpc,
    node_pb2,
    node_service_pb2,
    node_service_pb2_grpc,
    project_pb2,
    project_service_pb2,
    project_service_pb2_grpc,
    queue_pb2,
    queue_service_pb2,
    queue_service_pb2_grpc,
    scheduler_service_pb2,
    scheduler_service_pb2_grpc,
    state_pb2,
    storage_service_pb2,
    storage_service_pb2_grpc,
    system_service_pb2,
    system_service_pb2_grpc,
    telemetry_service_pb2,
    telemetry_service_pb2_grpc,
    user_pb2,
    user_service_pb2,
    user_service_pb2_grpc,
)
from tests.unit.sdk.fake_cluster import API_KEY, FakeCluster, one, refuse

AT_ONCE = Backoff(first_seconds=0.0, most_seconds=0.0, tries=5)


class _Users(user_service_pb2_grpc.UserServiceServicer):
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def GetCaller(self, request: Any, context: Any) -> Any:
        self._cluster.enter("GetCaller", context)
        return user_service_pb2.GetCallerResponse(user=self._cluster.users["ana"])

    def CreateUser(self, request: Any, context: Any) -> Any:
        self._cluster.enter("CreateUser", context)
        user = user_pb2.User(name=request.name, admin=request.admin, enabled=True)
        self._cluster.users[request.name] = user
        return user_service_pb2.CreateUserResponse(user=user, api_key="riseml_new")

    def UpdateUser(self, request: Any, context: Any) -> Any:
        self._cluster.enter("UpdateUser", context)
        user = self._cluster.users[request.name]
        if request.HasField("enabled"):
            user.enabled = request.enabled
        return user_service_pb2.UpdateUserResponse(user=user)

    def ListUsers(self, request: Any, context: Any) -> Any:
        """Pages of one, so that every list has to page."""
        self._cluster.enter("ListUsers", context)
        names = sorted(n for n in self._cluster.users if n > request.page_token)
        return user_service_pb2.ListUsersResponse(
            users=[self._cluster.users[n] for n in names[:1]],
            next_page_token=names[0] if len(names) > 1 else "",
        )


class _Nodes(node_service_pb2_grpc.NodeServiceServicer):
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def ListNodes(self, request: Any, context: Any) -> Any:
        self._cluster.enter("ListNodes", context)
        return node_service_pb2.ListNodesResponse(nodes=self._cluster.nodes)

    def GetNode(self, request: Any, context: Any) -> Any:
        self._cluster.enter("GetNode", context)
        return node_service_pb2.GetNodeResponse(node=self._node(request.name, context))

    def ReleaseGpu(self, request: Any, context: Any) -> Any:
        self._cluster.enter("ReleaseGpu", context)
        node = self._node(request.node_name, context)
        for gpu in node.gpus:
            if gpu.uuid == request.gpu_uuid:
                gpu.health = node_pb2.GPU_HEALTH_HEALTHY
        return node_service_pb2.ReleaseGpuResponse(node=node)

    def SetNodeTaints(self, request: Any, context: Any) -> Any:
        self._cluster.enter("SetNodeTaints", context)
        node = self._node(request.name, context)
        del node.taints[:]
        node.taints.extend(request.taints)
        return node_service_pb2.SetNodeTaintsResponse(node=node)

    def _node(self, name: str, context: Any) -> node_pb2.Node:
        for node in self._cluster.nodes:
            if node.name == name:
                return node
        refuse(context, grpc.StatusCode.NOT_FOUND, f"There is no node {name!r}.")
        raise AssertionError("not reached")

    def CordonNode(self, request: Any, context: Any) -> Any:
        self._cluster.enter("CordonNode", context)
        return node_service_pb2.CordonNodeResponse(node=node_pb2.Node(name=request.name))

    def CreateNodeToken(self, request: Any, context: Any) -> Any:
        self._cluster.enter("CreateNodeToken", context)
        return node_service_pb2.CreateNodeTokenResponse(token="node-token", ca_fingerprint="ab")


class _Queues(queue_service_pb2_grpc.QueueServiceServicer):
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def ListQueues(self, request: Any, context: Any) -> Any:
        """One per page."""
        self._cluster.enter("ListQueues", context)
        names = [name for name in sorted(self._cluster.queues) if name > request.page_token]
        return queue_service_pb2.ListQueuesResponse(
            queues=[self._cluster.queues[n] for n in names[:1]],
            next_page_token=names[0] if len(names) > 1 else "",
        )

    def GetQueue(self, request: Any, context: Any) -> Any:
        self._cluster.enter("GetQueue", context)
        return queue_service_pb2.GetQueueResponse(queue=self._cluster.queues[request.name])

    def CreateQueue(self, request: Any, context: Any) -> Any:
        self._cluster.enter("CreateQueue", context)
        assert request.request_id
        self._cluster.queue_settings.append(request.settings)
        queue = queue_pb2.Queue(name=request.name, weight=request.settings.weight or 1)
        self._cluster.queues[request.name] = queue
        return queue_service_pb2.CreateQueueResponse(queue=queue)

    def UpdateQueue(self, request: Any, context: Any) -> Any:
        self._cluster.enter("UpdateQueue", context)
        self._cluster.queue_settings.append(request.settings)
        return queue_service_pb2.UpdateQueueResponse(queue=self._cluster.queues[request.name])

    def DeleteQueue(self, request: Any, context: Any) -> Any:
        self._cluster.enter("DeleteQueue", context)
        del self._cluster.queues[request.name]
        return queue_service_pb2.DeleteQueueResponse()


class _Telemetry(telemetry_service_pb2_grpc.TelemetryServiceServicer):
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def GetTelemetry(self, request: Any, context: Any) -> Any:
        self._cluster.enter("GetTelemetry", context)
        return telemetry_service_pb2.GetTelemetryResponse(samples=self._cluster.samples)


class _System(system_service_pb2_grpc.SystemServiceServicer):
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def GetSystemInfo(self, request: Any, context: Any) -> Any:
        self._cluster.enter("GetSystemInfo", context)
        return system_service_pb2.GetSystemInfoResponse(version="9.9", node_count=1)


class _Projects(project_service_pb2_grpc.ProjectServiceServicer):
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def FindMissingBlobs(self, request: Any, context: Any) -> Any:
        self._cluster.enter("FindMissingBlobs", context)
        missing = [h for h in request.sha256 if h not in self._cluster.blobs]
        return project_service_pb2.FindMissingBlobsResponse(missing_sha256=missing)

    def UploadBlobs(self, request_iterator: Any, context: Any) -> Any:
        cluster = self._cluster
        cluster.enter("UploadBlobs", context)
        sha256, content, stored = b"", b"", 0
        for place, request in enumerate(request_iterator):
            if place == cluster.cut_upload_after:
                cluster.cut_upload_after = -1
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            assert len(request.data) <= 256 * 1024
            sha256 = request.sha256 or sha256
            content += request.data
            if request.last:
                assert hashlib.sha256(content).digest() == sha256
                cluster.blobs[sha256] = content
                content, stored = b"", stored + 1
        return project_service_pb2.UploadBlobsResponse(blobs_stored=stored)

    def ListProjects(self, request: Any, context: Any) -> Any:
        self._cluster.enter("ListProjects", context)
        names = sorted({e.project for e in self._cluster.experiments.values()})
        return project_service_pb2.ListProjectsResponse(
            projects=[project_pb2.Project(user_name="ana", name=name) for name in names]
        )

    def CreateRevision(self, request: Any, context: Any) -> Any:
        self._cluster.enter("CreateRevision", context)
        id = hashlib.sha256(request.SerializeToString()).hexdigest()
        self._cluster.revisions[id] = list(request.entries)
        return project_service_pb2.CreateRevisionResponse(
            revision=project_pb2.Revision(
                id=id,
                project=request.project,
                file_count=len(request.entries),
                size_bytes=sum(e.size_bytes for e in request.entries),
            )
        )

    def GetRevision(self, request: Any, context: Any) -> Any:
        self._cluster.enter("GetRevision", context)
        entries = self._cluster.revisions[request.id]
        first = int(request.page_token or 0)
        return project_service_pb2.GetRevisionResponse(
            entries=entries[first : first + 2],
            next_page_token=str(first + 2) if first + 2 < len(entries) else "",
        )

    def DownloadBlobs(self, request: Any, context: Any) -> Any:
        self._cluster.enter("DownloadBlobs", context)
        for sha256 in request.sha256:
            content = self._cluster.blobs[sha256]
            half = len(content) // 2
            yield project_service_pb2.DownloadBlobsResponse(sha256=sha256, data=content[:half])
            yield project_service_pb2.DownloadBlobsResponse(data=content[half:], last=True)


class _Experiments(experiment_service_pb2_grpc.ExperimentServiceServicer):
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def CreateExperiment(self, request: Any, context: Any) -> Any:
        cluster = self._cluster
        cluster.enter("CreateExperiment", context)
        assert request.request_id
        cluster.specs.append(request.spec)
        made = one(f"ana.{len(cluster.experiments) + 1}", state_pb2.STATE_PENDING)
        made.project = request.spec.project
        cluster.put(made)
        return experiment_service_pb2.CreateExperimentResponse(
            experiment=made, warnings=["no node has a GPU now"]
        )

    def GetExperiment(self, request: Any, context: Any) -> Any:
        cluster = self._cluster
        cluster.enter("GetExperiment", context)
        with cluster.changed:
            found = cluster.experiments.get(request.id)
            if found is None:
                refuse(context, grpc.StatusCode.NOT_FOUND, "There is none.", "NOT_FOUND")
            return experiment_service_pb2.GetExperimentResponse(
                experiment=found, change_number=len(cluster.changes)
            )

    def ListExperiments(self, request: Any, context: Any) -> Any:
        cluster = self._cluster
        cluster.enter("ListExperiments", context)
        found = [
            e
            for e in reversed(cluster.experiments.values())
            if (not request.project or e.project == request.project)
            and (not request.states or e.state in request.states)
            and (not request.set_id or e.id.startswith(f"{request.set_id}."))
        ]
        first = int(request.page_token or 0)
        size = request.page_size or 100
        return experiment_service_pb2.ListExperimentsResponse(
            experiments=found[first : first + size],
            next_page_token=str(first + size) if first + size < len(found) else "",
        )

    def WatchExperiments(self, request: Any, context: Any) -> Any:
        cluster = self._cluster
        cluster.enter("WatchExperiments", context)
        seen = request.change_number or len(cluster.changes)
        while context.is_active():
            with cluster.changed:
                if len(cluster.changes) <= seen:
                    cluster.changed.wait(0.05)
                fresh = list(cluster.changes[seen:])
            for experiment in fresh:
                seen += 1
                yield experiment_service_pb2.WatchExperimentsResponse(
                    change_number=seen, experiment=experiment
                )

    def KillExperiment(self, request: Any, context: Any) -> Any:
        cluster = self._cluster
        cluster.enter("KillExperiment", context)
        found = cluster.experiments.get(request.id)
        if found is None:
            refuse(context, grpc.StatusCode.NOT_FOUND, f"There is no {request.id}.", "NOT_FOUND")
        killed = experiment_pb2.Experiment()
        killed.CopyFrom(found)
        killed.state = state_pb2.STATE_KILLED
        cluster.put(killed)
        return experiment_service_pb2.KillExperimentResponse(experiment=killed)


class _Scheduler(scheduler_service_pb2_grpc.SchedulerServiceServicer):
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def ExplainExperiment(self, request: Any, context: Any) -> Any:
        cluster = self._cluster
        cluster.enter("ExplainExperiment", context)
        cluster.offsets.append(request.utc_offset_seconds)
        found = cluster.explanations.get(request.id)
        if found is None:
            refuse(context, grpc.StatusCode.NOT_FOUND, f"There is no {request.id}.", "NOT_FOUND")
        return scheduler_service_pb2.ExplainExperimentResponse(explanation=found)

    def PlanExperiment(self, request: Any, context: Any) -> Any:
        cluster = self._cluster
        cluster.enter("PlanExperiment", context)
        cluster.specs.append(request.spec)
        return cluster.planned

    def ListSchedulerCycles(self, request: Any, context: Any) -> Any:
        """Pages of one, so that every list has to page."""
        self._cluster.enter("ListSchedulerCycles", context)
        first = int(request.page_token or 0)
        return scheduler_service_pb2.ListSchedulerCyclesResponse(
            cycles=self._cluster.cycles[first : first + 1],
            next_page_token=str(first + 1) if first + 1 < len(self._cluster.cycles) else "",
        )

    def GetSchedulerCycle(self, request: Any, context: Any) -> Any:
        cluster = self._cluster
        cluster.enter("GetSchedulerCycle", context)
        numbers = [request.number or cluster.cycles[0].number]
        found = [one for one in cluster.cycles if one.number in numbers]
        if not found:
            refuse(context, grpc.StatusCode.NOT_FOUND, "There is no such cycle.", "NOT_FOUND")
        yield scheduler_service_pb2.GetSchedulerCycleResponse(cycle=found[0])
        half = len(cluster.recording) // 2
        for part in (cluster.recording[:half], cluster.recording[half:]):
            if request.with_snapshot:
                yield scheduler_service_pb2.GetSchedulerCycleResponse(snapshot=part)

    def ListSchedulerDecisions(self, request: Any, context: Any) -> Any:
        self._cluster.enter("ListSchedulerDecisions", context)
        mine = [d for d in self._cluster.decisions if d.experiment_id == request.experiment_id]
        first = int(request.page_token or 0)
        return scheduler_service_pb2.ListSchedulerDecisionsResponse(
            decisions=mine[first : first + 1],
            next_page_token=str(first + 1) if first + 1 < len(mine) else "",
        )


class _Logs(log_service_pb2_grpc.LogServiceServicer):
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def TailLogs(self, request: Any, context: Any) -> Any:
        cluster = self._cluster
        cluster.enter("TailLogs", context)
        left = cluster.cut_logs_after.pop(0) if cluster.cut_logs_after else -1
        offsets = {c.attempt_id: max(0, c.offset - cluster.repeat_bytes) for c in request.cursors}
        ended: set[str] = set()
        while context.is_active():
            with cluster.changed:
                logs = {a: d for a, d in cluster.logs.items() if a.startswith(request.id)}
                over = set(cluster.log_ended)
            grew = False
            for attempt_id, data in logs.items():
                offset = offsets.setdefault(attempt_id, 0)
                if offset < len(data):
                    if left == 0:
                        context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
                    left -= 1
                    chunk = data[offset : offset + cluster.chunk_bytes]
                    offsets[attempt_id] = offset + len(chunk)
                    grew = True
                    yield log_service_pb2.TailLogsResponse(
                        attempt_id=attempt_id,
                        chunk=log_service_pb2.LogChunk(offset=offset, data=chunk),
                    )
                elif attempt_id not in ended and (attempt_id in over or not request.follow):
                    ended.add(attempt_id)
                    yield log_service_pb2.TailLogsResponse(
                        attempt_id=attempt_id,
                        eof=log_service_pb2.LogEof(final_offset=len(data)),
                    )
            if grew:
                continue
            if not request.follow or (logs and set(logs) <= over):
                return
            with cluster.changed:
                cluster.changed.wait(0.05)


class _Storage(storage_service_pb2_grpc.StorageServiceServicer):
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def _info(self, path: str) -> storage_service_pb2.FileInfo:
        info = storage_service_pb2.FileInfo(path=path, size_bytes=len(self._cluster.files[path]))
        info.modify_time.seconds = 1_700_000_000
        return info

    def ListFiles(self, request: Any, context: Any) -> Any:
        self._cluster.enter("ListFiles", context)
        prefix = _path(request.uri)
        found = sorted(p for p in self._cluster.files if p.startswith(prefix))
        first = int(request.page_token or 0)
        return storage_service_pb2.ListFilesResponse(
            files=[self._info(p) for p in found[first : first + 1]],
            next_page_token=str(first + 1) if first + 1 < len(found) else "",
        )

    def StatFile(self, request: Any, context: Any) -> Any:
        self._cluster.enter("StatFile", context)
        path = _path(request.uri)
        partial = len(self._cluster.partial.get(path, b""))
        if path in self._cluster.files:
            return storage_service_pb2.StatFileResponse(
                file=self._info(path), partial_size_bytes=partial
            )
        if any(p.startswith(f"{path}/") for p in self._cluster.files):
            folder = storage_service_pb2.FileInfo(path=path, directory=True)
            return storage_service_pb2.StatFileResponse(file=folder)
        if not partial:
            refuse(context, grpc.StatusCode.NOT_FOUND, "no such file", "FILE_NOT_FOUND")
        return storage_service_pb2.StatFileResponse(partial_size_bytes=partial)

    def ReadFile(self, request: Any, context: Any) -> Any:
        cluster = self._cluster
        cluster.enter("ReadFile", context)
        data = cluster.files[_path(request.uri)]
        offset = request.offset
        count = 0
        while offset < len(data):
            if count == cluster.cut_read_after:
                cluster.cut_read_after = -1
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            chunk = data[offset : offset + 1000]
            yield storage_service_pb2.ReadFileResponse(
                offset=offset, data=chunk, total_size_bytes=len(data)
            )
            offset += len(chunk)
            count += 1

    def WriteFile(self, request_iterator: Any, context: Any) -> Any:
        cluster = self._cluster
        cluster.enter("WriteFile", context)
        path = ""
        for place, request in enumerate(request_iterator):
            if place == cluster.cut_write_after:
                cluster.cut_write_after = -1
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            if place == 0:
                path = _path(request.uri)
                if request.offset == 0:
                    cluster.partial[path] = b""
                assert len(cluster.partial.get(path, b"")) == request.offset
            cluster.partial[path] += request.data
            if request.finish:
                content = cluster.partial.pop(path)
                if hashlib.sha256(content).digest() != request.sha256:
                    refuse(context, grpc.StatusCode.DATA_LOSS, "not the same", "MISMATCH")
                assert len(content) == request.total_size_bytes
                cluster.files[path] = content
        return storage_service_pb2.WriteFileResponse(file=self._info(path))

    def RemoveFile(self, request: Any, context: Any) -> Any:
        self._cluster.enter("RemoveFile", context)
        prefix = _path(request.uri)
        gone = [p for p in self._cluster.files if p == prefix or p.startswith(f"{prefix}/")]
        for path in gone:
            del self._cluster.files[path]
        return storage_service_pb2.RemoveFileResponse(removed_count=len(gone))


def _path(uri: str) -> str:
    return uri.removeprefix("data://").strip("/")


@contextlib.contextmanager
def serving(cluster: FakeCluster) -> Iterator[str]:
    """Serve on a free port of loopback; gives ``host:port``."""
    server = grpc.server(
        futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 16 << 20)]
    )
    user_service_pb2_grpc.add_UserServiceServicer_to_server(_Users(cluster), server)
    node_service_pb2_grpc.add_NodeServiceServicer_to_server(_Nodes(cluster), server)
    queue_service_pb2_grpc.add_QueueServiceServicer_to_server(_Queues(cluster), server)
    telemetry_service_pb2_grpc.add_TelemetryServiceServicer_to_server(_Telemetry(cluster), server)
    system_service_pb2_grpc.add_SystemServiceServicer_to_server(_System(cluster), server)
    project_service_pb2_grpc.add_ProjectServiceServicer_to_server(_Projects(cluster), server)
    experiment_service_pb2_grpc.add_ExperimentServiceServicer_to_server(
        _Experiments(cluster), server
    )
    scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(_Scheduler(cluster), server)
    log_service_pb2_grpc.add_LogServiceServicer_to_server(_Logs(cluster), server)
    storage_service_pb2_grpc.add_StorageServiceServicer_to_server(_Storage(cluster), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def client_of(address: str, api_key: str = API_KEY) -> Client:
    """A client that repeats without pausing."""
    credentials = Credentials(address, api_key, "ana")
    return Client(credentials, Transport(credentials, backoff=AT_ONCE))
