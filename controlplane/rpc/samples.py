"""Where samples of nodes go, whichever kind of daemon sends them."""

from __future__ import annotations

from controlplane.freshness import Freshness
from controlplane.idleness import Idleness
from controlplane.telemetry import Telemetry
from riseml.v1 import telemetry_pb2


class Samples:
    """Times are monotonic seconds."""

    def __init__(
        self,
        telemetry: Telemetry[telemetry_pb2.NodeSample],
        freshness: Freshness,
        idleness: Idleness,
    ) -> None:
        self._telemetry = telemetry
        self._freshness = freshness
        self._idleness = idleness

    def take(self, node_name: str, sample: telemetry_pb2.NodeSample, now: float) -> None:
        """One sample came."""
        self._telemetry.record(node_name, sample, now)
        self._freshness.sampled(node_name, now)
        # Of GPUs whose experiments have a policy. A card that does not tell is not idle.
        wanted = self._idleness.wanted
        for gpu in sample.gpus if wanted else ():
            if gpu.gpu_uuid in wanted and gpu.HasField("utilization_percent"):
                self._idleness.sampled(gpu.gpu_uuid, gpu.utilization_percent, now)
