"""A control plane of a few lines that speaks the daemon's contract, for tests of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import grpc

from riseml.v1 import daemon_pb2, daemon_service_pb2, job_pb2
from riseml.v1.daemon_service_pb2_grpc import (
    DaemonServiceServicer,
    add_DaemonServiceServicer_to_server,
)

SessionContext = grpc.aio.ServicerContext[
    AsyncIterator[daemon_service_pb2.SessionRequest],
    AsyncIterator[daemon_service_pb2.SessionResponse],
]

ENDED = (job_pb2.ATTEMPT_STATE_EXITED, job_pb2.ATTEMPT_STATE_LOST)
TOKEN = "node-token"


@dataclass
class Archive:
    """The bytes of one log, accepted only at its end."""

    data: bytearray = field(default_factory=bytearray)
    final: bool = False


class FakeControlPlane(DaemonServiceServicer):
    """What it wants is in `desired`; what it hears is kept."""

    def __init__(self) -> None:
        self.cluster_id = "cluster-1"
        self.desired: dict[str, daemon_pb2.AttemptOrder] = {}
        self.stopping: dict[str, daemon_service_pb2.StopAttempt] = {}
        self.hellos: list[daemon_service_pb2.Hello] = []
        self.reports: list[daemon_pb2.AttemptReport] = []
        self.inventories: list[daemon_pb2.NodeInventory] = []
        self.checkpoints: list[daemon_pb2.CheckpointSeen] = []
        self.samples = 0
        self.heartbeats = 0
        self.answers_heartbeats = True
        self.forgets_at_once = True
        self.log_error = ""
        self.archives: dict[tuple[str, int], Archive] = {}
        self.revisions: dict[str, dict[str, bytes]] = {}
        self.blobs_sent = 0
        self.sessions: list[asyncio.Queue[daemon_service_pb2.SessionResponse]] = []
        self.storage_requests: asyncio.Queue[daemon_service_pb2.ServeStorageResponse] = (
            asyncio.Queue()
        )
        self.storage_answers: dict[int, daemon_service_pb2.ServeStorageRequest] = {}
        self.changed = asyncio.Condition()
        self.storage_streams = 0
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self, port: int = 0) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_DaemonServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    # ---- what a test does ----

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Waits until `condition` holds after something was heard."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(condition)

    def order(self, order: daemon_pb2.AttemptOrder) -> None:
        self.desired[order.attempt_id] = order
        start = daemon_service_pb2.StartAttempt(order=order)
        self.send(daemon_service_pb2.SessionResponse(start=start))

    def kill(self, attempt_id: str, reason: str = "killed", grace_ms: int = -1) -> None:
        stop = daemon_service_pb2.StopAttempt(
            attempt_id=attempt_id, reason=reason, grace_period_milliseconds=grace_ms
        )
        self.stopping[attempt_id] = stop
        self.send(daemon_service_pb2.SessionResponse(stop=stop))

    def send_stop(self, attempt_id: str, grace_ms: int) -> None:
        """A stop that the test does not look at."""
        self.kill(attempt_id, "test_over", grace_ms)

    def forget(self, attempt_id: str) -> None:
        forget = daemon_service_pb2.ForgetAttempt(attempt_id=attempt_id)
        self.send(daemon_service_pb2.SessionResponse(forget=forget))

    def send(self, response: daemon_service_pb2.SessionResponse) -> None:
        if self.sessions:
            self.sessions[-1].put_nowait(response)

    def final(self, attempt_id: str) -> daemon_pb2.AttemptReport | None:
        for report in self.reports:
            if report.attempt_id == attempt_id and report.state in ENDED:
                return report
        return None

    async def ended(self, attempt_id: str, seconds: float = 20) -> daemon_pb2.AttemptReport:
        await self.until(lambda: self.final(attempt_id) is not None, seconds)
        report = self.final(attempt_id)
        assert report is not None
        return report

    async def reported(self, attempt_id: str, state: int, seconds: float = 20) -> None:
        await self.until(
            lambda: any(r.attempt_id == attempt_id and r.state == state for r in self.reports),
            seconds,
        )

    async def log_of(self, attempt_id: str, kind: int = daemon_pb2.LOG_KIND_OUTPUT) -> bytes:
        """The whole log once it has ended, as it was archived."""
        report = await self.ended(attempt_id)
        results = kind == daemon_pb2.LOG_KIND_RESULTS
        size = report.final_results_offset if results else report.final_log_offset
        archive = self.archive(attempt_id, kind)
        await self.until(lambda: len(archive.data) >= size and (archive.final or not size))
        return bytes(archive.data)

    def archive(self, attempt_id: str, kind: int) -> Archive:
        return self.archives.setdefault((attempt_id, kind), Archive())

    def has_served_storage(self, times: int) -> bool:
        return self.storage_streams == times

    # ---- the contract ----

    async def Session(
        self,
        request_iterator: AsyncIterator[daemon_service_pb2.SessionRequest],
        context: SessionContext,
    ) -> AsyncIterator[daemon_service_pb2.SessionResponse]:
        metadata = dict(context.invocation_metadata() or ())
        if metadata.get("authorization") != f"Bearer {TOKEN}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you")
        first = await anext(request_iterator)
        hello = first.hello
        orders: asyncio.Queue[daemon_service_pb2.SessionResponse] = asyncio.Queue()
        self.sessions.append(orders)
        for report in hello.attempts:
            self._take(report)
        known = {r.attempt_id for r in hello.attempts if r.state in ENDED}
        yield daemon_service_pb2.SessionResponse(
            welcome=daemon_service_pb2.Welcome(
                cluster_id=self.cluster_id,
                heartbeat_interval_milliseconds=100,
                lease_milliseconds=5000,
                desired=self.desired.values(),
                forget=sorted(known) if self.forgets_at_once else [],
                stopping=self.stopping.values(),
            )
        )
        self.hellos.append(hello)
        await self._tell()
        reader = asyncio.create_task(self._read(request_iterator, orders))
        try:
            while True:
                yield await orders.get()
        finally:
            reader.cancel()
            if orders in self.sessions:
                self.sessions.remove(orders)

    async def _read(
        self,
        requests: AsyncIterator[daemon_service_pb2.SessionRequest],
        orders: asyncio.Queue[daemon_service_pb2.SessionResponse],
    ) -> None:
        async for request in requests:
            match request.WhichOneof("event"):
                case "attempt":
                    self._take(request.attempt)
                    if request.attempt.state in ENDED and self.forgets_at_once:
                        self.forget(request.attempt.attempt_id)
                case "heartbeat" | "sample" as event:
                    self.heartbeats += event == "heartbeat"
                    self.samples += event == "sample"
                    if self.answers_heartbeats:
                        ack = daemon_service_pb2.HeartbeatAck(sequence=request.heartbeat.sequence)
                        orders.put_nowait(daemon_service_pb2.SessionResponse(heartbeat_ack=ack))
                case "checkpoint":
                    self.checkpoints.append(request.checkpoint)
                case "inventory":
                    self.inventories.append(request.inventory)
            await self._tell()

    def _take(self, report: daemon_pb2.AttemptReport) -> None:
        self.reports.append(report)
        if report.state in ENDED:
            self.desired.pop(report.attempt_id, None)
            self.stopping.pop(report.attempt_id, None)

    async def AppendLog(
        self,
        request_iterator: AsyncIterator[daemon_service_pb2.AppendLogRequest],
        context: object,
    ) -> AsyncIterator[daemon_service_pb2.AppendLogResponse]:
        async for request in request_iterator:
            archive = self.archive(request.attempt_id, request.kind)
            error = self.log_error
            if not error and request.offset == len(archive.data):
                archive.data += request.data
                archive.final = archive.final or request.final
            yield daemon_service_pb2.AppendLogResponse(
                attempt_id=request.attempt_id,
                kind=request.kind,
                next_offset=len(archive.data),
                error=error,
            )
            await self._tell()

    async def FetchRevision(
        self, request: daemon_service_pb2.FetchRevisionRequest, context: object
    ) -> AsyncIterator[daemon_service_pb2.FetchRevisionResponse]:
        import hashlib

        from riseml.v1 import project_pb2

        files = self.revisions[request.revision_id]
        manifest = daemon_service_pb2.RevisionManifest(
            entries=[
                project_pb2.ManifestEntry(
                    path=path,
                    mode=0o755 if path.endswith(".sh") else 0o644,
                    size_bytes=len(content),
                    sha256=hashlib.sha256(content).digest(),
                )
                for path, content in sorted(files.items())
            ]
        )
        yield daemon_service_pb2.FetchRevisionResponse(manifest=manifest)
        if request.manifest_only:
            return
        sent = set(request.have_sha256)
        for content in files.values():
            sha256 = hashlib.sha256(content).digest()
            if sha256 in sent:
                continue
            sent.add(sha256)
            self.blobs_sent += 1
            half = len(content) // 2
            yield daemon_service_pb2.FetchRevisionResponse(
                chunk=daemon_service_pb2.BlobChunk(sha256=sha256, data=content[:half])
            )
            yield daemon_service_pb2.FetchRevisionResponse(
                chunk=daemon_service_pb2.BlobChunk(data=content[half:], last=True)
            )

    async def ServeStorage(
        self,
        request_iterator: AsyncIterator[daemon_service_pb2.ServeStorageRequest],
        context: object,
    ) -> AsyncIterator[daemon_service_pb2.ServeStorageResponse]:
        self.storage_streams += 1
        reader = asyncio.create_task(self._read_storage(request_iterator))
        try:
            while True:
                yield await self.storage_requests.get()
        finally:
            reader.cancel()

    async def _read_storage(
        self, requests: AsyncIterator[daemon_service_pb2.ServeStorageRequest]
    ) -> None:
        async for request in requests:
            self.storage_answers[request.operation_id] = request
            await self._tell()

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def ShipContainerLog(
        self,
        request_iterator: AsyncIterator[daemon_service_pb2.ShipContainerLogRequest],
        context: object,
    ) -> daemon_service_pb2.ShipContainerLogResponse:
        raise AssertionError("nobody asked for a container's log")
