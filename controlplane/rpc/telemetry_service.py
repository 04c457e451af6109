"""TelemetryService: what the daemons measured."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from controlplane.rpc.caller import Caller, current_caller
from controlplane.telemetry import Telemetry
from riseml.v1 import telemetry_pb2, telemetry_service_pb2_grpc
from riseml.v1 import telemetry_service_pb2 as pb


class TelemetryService(telemetry_service_pb2_grpc.TelemetryServiceServicer):
    """See the contract. Node load is open to every user; that a GPU is used is no secret, what a
    foreign process is called by the system's user name is part of it.
    """

    def __init__(self, telemetry: Telemetry[telemetry_pb2.NodeSample]) -> None:
        self._telemetry = telemetry

    async def GetTelemetry(
        self, request: pb.GetTelemetryRequest, context: Any
    ) -> pb.GetTelemetryResponse:
        names = frozenset(request.node_names)
        caller = current_caller()
        if request.history_seconds > 0:
            samples = self._telemetry.history(time.monotonic(), request.history_seconds, names)
        else:
            samples = self._telemetry.newest(names)
        return pb.GetTelemetryResponse(samples=[visible(s, caller) for s in samples])

    async def WatchTelemetry(
        self, request: pb.WatchTelemetryRequest, context: Any
    ) -> AsyncIterator[pb.WatchTelemetryResponse]:
        caller = current_caller()
        with self._telemetry.watch(frozenset(request.node_names)) as watch:
            while True:
                for sample in await watch.take():
                    yield pb.WatchTelemetryResponse(sample=visible(sample, caller))


def visible(sample: telemetry_pb2.NodeSample, caller: Caller) -> telemetry_pb2.NodeSample:
    """The sample without the use of single attempts that are not the caller's."""
    foreign = [a for a in sample.attempts if not caller.may_see(a.attempt_id.partition(".")[0])]
    if not foreign:
        return sample
    shown = telemetry_pb2.NodeSample()
    shown.CopyFrom(sample)
    del shown.attempts[:]
    shown.attempts.extend(
        a for a in sample.attempts if caller.may_see(a.attempt_id.partition(".")[0])
    )
    return shown
