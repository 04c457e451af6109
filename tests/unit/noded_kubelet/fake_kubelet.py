"""A kubelet that tells of devices, over its real API and a real socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from noded.kubelet.pod_resources import MESSAGES


class FakeKubelet:
    """Answers as kubelets do, with devices of two resources."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.offered = ["GPU-a", "GPU-b"]
        self.holders = {"GPU-b": ("jobs", "ana-1")}
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self._server = grpc.aio.server()
        handlers = {
            "List": self._handler(self._list, "ListPodResources"),
            "GetAllocatableResources": self._handler(self._allocatable, "AllocatableResources"),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1.PodResourcesLister", handlers),)
        )
        self._server.add_insecure_port(f"unix://{self.socket}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    @staticmethod
    def _handler(answer: Callable[[], Any], message: str) -> Any:
        async def serve(request: Any, context: Any) -> Any:
            return answer()

        return grpc.unary_unary_rpc_method_handler(
            serve,
            request_deserializer=MESSAGES[f"{message}Request"].FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )

    def _list(self) -> Any:
        response = MESSAGES["ListPodResourcesResponse"]()
        for device, (namespace, name) in self.holders.items():
            pod = response.pod_resources.add(name=name, namespace=namespace)
            container = pod.containers.add(name="job")
            container.devices.add(resource_name="nvidia.com/gpu", device_ids=[device])
            container.devices.add(resource_name="rdma/hca", device_ids=["mlx5_0"])
        return response

    def _allocatable(self) -> Any:
        response = MESSAGES["AllocatableResourcesResponse"]()
        # One entry for each NUMA node, as kubelets send them.
        for device in self.offered:
            response.devices.add(resource_name="nvidia.com/gpu", device_ids=[device])
        response.devices.add(resource_name="rdma/hca", device_ids=["mlx5_0"])
        return response
