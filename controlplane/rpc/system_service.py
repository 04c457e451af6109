"""SystemService: the control plane itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from controlplane.decisions import DecisionLog
from controlplane.domain.model import NodeStateName
from controlplane.domain.states import State
from controlplane.rpc import convert
from controlplane.rpc.backend import Backend
from riseml.v1 import system_service_pb2 as pb
from riseml.v1 import system_service_pb2_grpc


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """What does not change while the control plane runs."""

    version: str
    cluster_id: str
    launchers: tuple[str, ...]
    tls: bool


class SystemService(system_service_pb2_grpc.SystemServiceServicer):
    """See the contract for what each call means."""

    def __init__(self, backend: Backend, facts: SystemFacts, decisions: DecisionLog) -> None:
        self._backend = backend
        self._facts = facts
        self._decisions = decisions
        self._start_time = time.time()

    async def GetSystemInfo(
        self, request: pb.GetSystemInfoRequest, context: Any
    ) -> pb.GetSystemInfoResponse:
        runtime = self._backend.runtime
        cluster = await runtime.committed()
        states = [e.state for e in cluster.experiments.values() if not e.is_set]
        return pb.GetSystemInfoResponse(
            version=self._facts.version,
            cluster_id=self._facts.cluster_id,
            start_time=convert.timestamp(self._start_time),
            launchers=self._facts.launchers,
            store=self._backend.store.kind,
            tls=self._facts.tls,
            node_count=len(cluster.nodes),
            ready_node_count=sum(
                node.state == NodeStateName.READY for node in cluster.nodes.values()
            ),
            pending_experiment_count=states.count(State.PENDING) + states.count(State.CREATED),
            running_experiment_count=states.count(State.RUNNING),
            warnings=[fault for fault in (runtime.store_fault, self._decisions.fault) if fault],
        )
