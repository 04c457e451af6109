"""A daemon of which the test says every word: for what a real one does only when it is sick."""

from __future__ import annotations

import queue
from collections.abc import Iterator

import grpc

from riseml.v1 import daemon_pb2, daemon_service_pb2, job_pb2, telemetry_pb2
from tests.integration.cluster import Cluster


class ScriptedDaemon:
    """One session of node `name`, open until `close`."""

    def __init__(self, cluster: Cluster, name: str, *, observes: bool = False) -> None:
        self.name = name
        self._said: queue.Queue[daemon_service_pb2.SessionRequest | None] = queue.Queue()
        self._channel = grpc.insecure_channel(cluster.address)
        token = cluster.client().nodes.create_token(name).token
        session = self._channel.stream_stream(
            "/riseml.v1.DaemonService/Session",
            request_serializer=daemon_service_pb2.SessionRequest.SerializeToString,
            response_deserializer=daemon_service_pb2.SessionResponse.FromString,
        )
        self._call = session(self._words(), metadata=(("authorization", f"Bearer {token}"),))
        inventory = daemon_pb2.NodeInventory(
            node_name=name, boot_id="boot", cpu_milli=4000, memory_bytes=8 << 30
        )
        hello = daemon_service_pb2.Hello(inventory=inventory, epoch=1, observes=observes)
        self._said.put(daemon_service_pb2.SessionRequest(hello=hello))
        assert next(iter(self._call)).HasField("welcome")

    def _words(self) -> Iterator[daemon_service_pb2.SessionRequest]:
        while (word := self._said.get()) is not None:
            yield word

    def heartbeat(self) -> None:
        """That it lives, and nothing else."""
        heartbeat = daemon_service_pb2.Heartbeat(sequence=1)
        self._said.put(daemon_service_pb2.SessionRequest(heartbeat=heartbeat))

    def sample(self) -> None:
        """How the node is."""
        sample = telemetry_pb2.NodeSample(node_name=self.name)
        self._said.put(daemon_service_pb2.SessionRequest(sample=sample))

    def end(self, attempt_id: str) -> None:
        """That an attempt has ended well."""
        report = daemon_pb2.AttemptReport(
            attempt_id=attempt_id, state=job_pb2.ATTEMPT_STATE_EXITED, exit_code=0
        )
        self._said.put(daemon_service_pb2.SessionRequest(attempt=report))

    def close(self) -> None:
        self._said.put(None)
        self._call.cancel()
        self._channel.close()
