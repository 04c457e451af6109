import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_STATE_UNSPECIFIED: _ClassVar[NodeState]
    NODE_STATE_READY: _ClassVar[NodeState]
    NODE_STATE_DISCONNECTED: _ClassVar[NodeState]
    NODE_STATE_LOST: _ClassVar[NodeState]

class GpuHealth(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GPU_HEALTH_UNSPECIFIED: _ClassVar[GpuHealth]
    GPU_HEALTH_HEALTHY: _ClassVar[GpuHealth]
    GPU_HEALTH_QUARANTINED: _ClassVar[GpuHealth]
    GPU_HEALTH_LOST: _ClassVar[GpuHealth]
    GPU_HEALTH_UNKNOWN: _ClassVar[GpuHealth]
NODE_STATE_UNSPECIFIED: NodeState
NODE_STATE_READY: NodeState
NODE_STATE_DISCONNECTED: NodeState
NODE_STATE_LOST: NodeState
GPU_HEALTH_UNSPECIFIED: GpuHealth
GPU_HEALTH_HEALTHY: GpuHealth
GPU_HEALTH_QUARANTINED: GpuHealth
GPU_HEALTH_LOST: GpuHealth
GPU_HEALTH_UNKNOWN: GpuHealth

class Gpu(_message.Message):
    __slots__ = ("uuid", "index", "name", "model", "memory_bytes", "health", "health_reason", "health_message", "simulated", "foreign_memory_bytes", "pci_bus_id", "driver_version", "numa_node")
    UUID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    HEALTH_REASON_FIELD_NUMBER: _ClassVar[int]
    HEALTH_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SIMULATED_FIELD_NUMBER: _ClassVar[int]
    FOREIGN_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PCI_BUS_ID_FIELD_NUMBER: _ClassVar[int]
    DRIVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    NUMA_NODE_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    index: int
    name: str
    model: str
    memory_bytes: int
    health: GpuHealth
    health_reason: str
    health_message: str
    simulated: bool
    foreign_memory_bytes: int
    pci_bus_id: str
    driver_version: str
    numa_node: int
    def __init__(self, uuid: _Optional[str] = ..., index: _Optional[int] = ..., name: _Optional[str] = ..., model: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., health: _Optional[_Union[GpuHealth, str]] = ..., health_reason: _Optional[str] = ..., health_message: _Optional[str] = ..., simulated: _Optional[bool] = ..., foreign_memory_bytes: _Optional[int] = ..., pci_bus_id: _Optional[str] = ..., driver_version: _Optional[str] = ..., numa_node: _Optional[int] = ...) -> None: ...

class GpuAllocation(_message.Message):
    __slots__ = ("gpu_uuid", "attempt_id", "milli")
    GPU_UUID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    MILLI_FIELD_NUMBER: _ClassVar[int]
    gpu_uuid: str
    attempt_id: str
    milli: int
    def __init__(self, gpu_uuid: _Optional[str] = ..., attempt_id: _Optional[str] = ..., milli: _Optional[int] = ...) -> None: ...

class NodeCapabilities(_message.Message):
    __slots__ = ("isolates_users", "only_user", "limits", "output_root", "notes", "runs_images")
    ISOLATES_USERS_FIELD_NUMBER: _ClassVar[int]
    ONLY_USER_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_ROOT_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    RUNS_IMAGES_FIELD_NUMBER: _ClassVar[int]
    isolates_users: bool
    only_user: str
    limits: str
    output_root: str
    notes: _containers.RepeatedScalarFieldContainer[str]
    runs_images: bool
    def __init__(self, isolates_users: _Optional[bool] = ..., only_user: _Optional[str] = ..., limits: _Optional[str] = ..., output_root: _Optional[str] = ..., notes: _Optional[_Iterable[str]] = ..., runs_images: _Optional[bool] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("name", "state", "message", "cordoned", "draining", "labels", "cpu_milli", "memory_bytes", "gpus", "allocated_cpu_milli", "allocated_memory_bytes", "gpu_allocations", "attempt_ids", "capabilities", "address", "daemon_version", "boot_id", "connect_time", "last_seen_time")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CORDONED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_CPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPU_ALLOCATIONS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_IDS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DAEMON_VERSION_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    CONNECT_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: NodeState
    message: str
    cordoned: bool
    draining: bool
    labels: _containers.ScalarMap[str, str]
    cpu_milli: int
    memory_bytes: int
    gpus: _containers.RepeatedCompositeFieldContainer[Gpu]
    allocated_cpu_milli: int
    allocated_memory_bytes: int
    gpu_allocations: _containers.RepeatedCompositeFieldContainer[GpuAllocation]
    attempt_ids: _containers.RepeatedScalarFieldContainer[str]
    capabilities: NodeCapabilities
    address: str
    daemon_version: str
    boot_id: str
    connect_time: _timestamp_pb2.Timestamp
    last_seen_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[NodeState, str]] = ..., message: _Optional[str] = ..., cordoned: _Optional[bool] = ..., draining: _Optional[bool] = ..., labels: _Optional[_Mapping[str, str]] = ..., cpu_milli: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., gpus: _Optional[_Iterable[_Union[Gpu, _Mapping]]] = ..., allocated_cpu_milli: _Optional[int] = ..., allocated_memory_bytes: _Optional[int] = ..., gpu_allocations: _Optional[_Iterable[_Union[GpuAllocation, _Mapping]]] = ..., attempt_ids: _Optional[_Iterable[str]] = ..., capabilities: _Optional[_Union[NodeCapabilities, _Mapping]] = ..., address: _Optional[str] = ..., daemon_version: _Optional[str] = ..., boot_id: _Optional[str] = ..., connect_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_seen_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
