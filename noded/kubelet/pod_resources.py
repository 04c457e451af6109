"""Asks the kubelet which devices it offers and which pod has which: its pod-resources API, v1
(https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/#monitoring-device-plugin-resources).

Of its contract only what is read here is declared, in code: a proto file of others would want stubs
and rules of its own for four short messages. What else the kubelet sends is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ANSWER_SECONDS: Final = 5.0
_PACKAGE: Final = "v1"
_FILE: Final = "kubelet/podresources/v1/api.proto"
# Message -> field -> (number, type: "" is text, repeated).
_MESSAGES: Final[Mapping[str, Mapping[str, tuple[int, str, bool]]]] = {
    "ListPodResourcesRequest": {},
    "AllocatableResourcesRequest": {},
    "ContainerDevices": {"resource_name": (1, "", False), "device_ids": (2, "", True)},
    "ContainerResources": {"name": (1, "", False), "devices": (2, "ContainerDevices", True)},
    "PodResources": {
        "name": (1, "", False),
        "namespace": (2, "", False),
        "containers": (3, "ContainerResources", True),
    },
    "ListPodResourcesResponse": {"pod_resources": (1, "PodResources", True)},
    "AllocatableResourcesResponse": {"devices": (1, "ContainerDevices", True)},
}


@dataclass(frozen=True, slots=True)
class DeviceTable:
    """Devices of one resource."""

    offered: frozenset[str]
    """Ids of those that are healthy, held or not."""
    holders: Mapping[str, tuple[str, str]]
    """Namespace and name of the pod that has a device, by its id."""


def _classes() -> Mapping[str, Any]:
    proto = descriptor_pb2.FileDescriptorProto(name=_FILE, package=_PACKAGE, syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = proto.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            message.field.add(
                name=field,
                number=number,
                type=kinds.TYPE_MESSAGE if kind else kinds.TYPE_STRING,
                type_name=f".{_PACKAGE}.{kind}" if kind else None,
                label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL,
            )
    # A pool of its own: programs that know the whole contract may be loaded beside this.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


MESSAGES: Final = _classes()


async def read_devices(socket: Path, resource: str) -> DeviceTable:
    """Both questions to one kubelet. Raises grpc.aio.AioRpcError."""
    async with grpc.aio.insecure_channel(f"unix://{socket}") as channel:
        listed = await _ask(channel, "List", "ListPodResources")
        offered = await _ask(channel, "GetAllocatableResources", "AllocatableResources")
    holders = {
        device: (pod.namespace, pod.name)
        for pod in listed.pod_resources
        for container in pod.containers
        for devices in container.devices
        if devices.resource_name == resource
        for device in devices.device_ids
    }
    ids = [
        device
        for devices in offered.devices
        if devices.resource_name == resource
        for device in devices.device_ids
    ]
    return DeviceTable(frozenset(ids), holders)


async def _ask(channel: grpc.aio.Channel, method: str, message: str) -> Any:
    call: Any = channel.unary_unary(
        f"/{_PACKAGE}.PodResourcesLister/{method}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=MESSAGES[f"{message}Response"].FromString,
    )
    return await call(MESSAGES[f"{message}Request"](), timeout=ANSWER_SECONDS)
