"""NodeService: the cluster's nodes and the credentials of their daemons."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from controlplane.domain.errors import InvalidRequest, NotFound
from controlplane.domain.events import (
    GpuReleased,
    NodeCordoned,
    NodeDrained,
    NodeForgotten,
    NodeTainted,
    NodeTokenCreated,
    NodeTokenDeleted,
)
from controlplane.domain.model import Node
from controlplane.freshness import Freshness
from controlplane.leases import Leases
from controlplane.rpc import convert
from controlplane.rpc.backend import Backend, page_size, paged
from controlplane.rpc.caller import current_caller, hash_credential
from controlplane.rpc.user_service import new_credential
from riseml.spec.errors import InvalidName
from riseml.spec.ids import check_user_name
from riseml.spec.taints import MAX_TAINTS, Taint, check_taint
from riseml.v1 import node_pb2, node_service_pb2_grpc
from riseml.v1 import node_service_pb2 as pb


class NodeService(node_service_pb2_grpc.NodeServiceServicer):
    """See the contract for what each call means."""

    def __init__(
        self, backend: Backend, leases: Leases, freshness: Freshness, ca_fingerprint: str
    ) -> None:
        self._backend = backend
        self._leases = leases
        self._freshness = freshness
        self._ca_fingerprint = ca_fingerprint

    def _message(self, node: Node) -> node_pb2.Node:
        silent = self._leases.silent_seconds(node.name, time.monotonic())
        last_seen = node.last_seen_time if silent is None else time.time() - silent
        attempts = self._backend.runtime.cluster.attempts_on(node.name)
        return convert.node(node, attempts, last_seen)

    async def GetNode(self, request: pb.GetNodeRequest, context: Any) -> pb.GetNodeResponse:
        node = (await self._backend.runtime.committed()).nodes.get(request.name)
        if node is None:
            raise NotFound(
                f"There is no node {request.name!r}: `riseml node list` shows all.",
                reason="NODE_NOT_FOUND",
                metadata={"node": request.name},
            )
        return pb.GetNodeResponse(node=self._message(node))

    async def ListNodes(self, request: pb.ListNodesRequest, context: Any) -> pb.ListNodesResponse:
        nodes = (await self._backend.runtime.committed()).nodes
        names, token = paged(sorted(nodes), request.page_token, page_size(request.page_size))
        return pb.ListNodesResponse(
            nodes=[self._message(nodes[name]) for name in names], next_page_token=token
        )

    async def CordonNode(
        self, request: pb.CordonNodeRequest, context: Any
    ) -> pb.CordonNodeResponse:
        node = await self._backend.runtime.submit(NodeCordoned(request.name, True))
        return pb.CordonNodeResponse(node=self._message(node))

    async def UncordonNode(
        self, request: pb.UncordonNodeRequest, context: Any
    ) -> pb.UncordonNodeResponse:
        node = await self._backend.runtime.submit(NodeCordoned(request.name, False))
        return pb.UncordonNodeResponse(node=self._message(node))

    async def DrainNode(self, request: pb.DrainNodeRequest, context: Any) -> pb.DrainNodeResponse:
        node = await self._backend.runtime.submit(NodeDrained(request.name))
        return pb.DrainNodeResponse(node=self._message(node))

    async def ForgetNode(
        self, request: pb.ForgetNodeRequest, context: Any
    ) -> pb.ForgetNodeResponse:
        await self._backend.runtime.submit(NodeForgotten(request.name))
        self._leases.forget(request.name)
        self._freshness.forget(request.name)
        return pb.ForgetNodeResponse()

    async def SetNodeTaints(
        self, request: pb.SetNodeTaintsRequest, context: Any
    ) -> pb.SetNodeTaintsResponse:
        taints = check_taints([(taint.key, taint.value) for taint in request.taints])
        node = await self._backend.runtime.submit(NodeTainted(request.name, taints))
        return pb.SetNodeTaintsResponse(node=self._message(node))

    async def ReleaseGpu(
        self, request: pb.ReleaseGpuRequest, context: Any
    ) -> pb.ReleaseGpuResponse:
        event = GpuReleased(request.node_name, request.gpu_uuid, current_caller().name)
        node = await self._backend.runtime.submit(event)
        return pb.ReleaseGpuResponse(node=self._message(node))

    async def CreateNodeToken(
        self, request: pb.CreateNodeTokenRequest, context: Any
    ) -> pb.CreateNodeTokenResponse:
        check_node_name(request.node_name)
        token = new_credential()
        await self._backend.runtime.submit(
            NodeTokenCreated(request.node_name, hash_credential(token))
        )
        return pb.CreateNodeTokenResponse(token=token, ca_fingerprint=self._ca_fingerprint)

    async def DeleteNodeToken(
        self, request: pb.DeleteNodeTokenRequest, context: Any
    ) -> pb.DeleteNodeTokenResponse:
        await self._backend.runtime.submit(NodeTokenDeleted(request.node_name))
        return pb.DeleteNodeTokenResponse()


def check_taints(taints: Sequence[Taint]) -> tuple[Taint, ...]:
    """In order of their keys, each of which stands once. Raises InvalidRequest."""
    if len(taints) > MAX_TAINTS:
        raise InvalidRequest(
            f"{len(taints)} taints are too many; {MAX_TAINTS} are allowed.", reason="INVALID_TAINT"
        )
    by_key: dict[str, Taint] = {}
    for taint in taints:
        try:
            check_taint(taint)
        except InvalidName as wrong:
            raise InvalidRequest(str(wrong), reason="INVALID_TAINT") from None
        if taint[0] in by_key:
            raise InvalidRequest(
                f"The taint {taint[0]} stands there twice: one value per key.",
                reason="INVALID_TAINT",
            )
        by_key[taint[0]] = taint
    return tuple(sorted(taints))


def check_node_name(name: str) -> None:
    """Node names follow host names: lower-case letters, digits, `-` and dots. InvalidRequest if
    not.
    """
    try:
        for part in name.split("."):
            check_user_name(f"n{part}")
    except InvalidName:
        raise InvalidRequest(
            f"{name!r} is no node name: use lower-case letters, digits, '-' and dots.",
            reason="INVALID_NODE_NAME",
        ) from None
