import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from riseml.v1 import node_pb2 as _node_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GpuProcess(_message.Message):
    __slots__ = ("pid", "memory_bytes", "user_name", "attempt_id")
    PID_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    USER_NAME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    pid: int
    memory_bytes: int
    user_name: str
    attempt_id: str
    def __init__(self, pid: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., user_name: _Optional[str] = ..., attempt_id: _Optional[str] = ...) -> None: ...

class GpuSample(_message.Message):
    __slots__ = ("gpu_uuid", "utilization_percent", "memory_used_bytes", "power_milliwatts", "power_limit_milliwatts", "temperature_celsius", "ecc_corrected", "ecc_uncorrected", "remap_pending", "remap_failed", "pcie_generation", "pcie_width", "pcie_replays", "nvlink_errors", "throttle_reasons", "processes", "health", "health_reason", "last_xid", "last_xid_time")
    GPU_UUID_FIELD_NUMBER: _ClassVar[int]
    UTILIZATION_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    POWER_MILLIWATTS_FIELD_NUMBER: _ClassVar[int]
    POWER_LIMIT_MILLIWATTS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_CELSIUS_FIELD_NUMBER: _ClassVar[int]
    ECC_CORRECTED_FIELD_NUMBER: _ClassVar[int]
    ECC_UNCORRECTED_FIELD_NUMBER: _ClassVar[int]
    REMAP_PENDING_FIELD_NUMBER: _ClassVar[int]
    REMAP_FAILED_FIELD_NUMBER: _ClassVar[int]
    PCIE_GENERATION_FIELD_NUMBER: _ClassVar[int]
    PCIE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    PCIE_REPLAYS_FIELD_NUMBER: _ClassVar[int]
    NVLINK_ERRORS_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_REASONS_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    HEALTH_REASON_FIELD_NUMBER: _ClassVar[int]
    LAST_XID_FIELD_NUMBER: _ClassVar[int]
    LAST_XID_TIME_FIELD_NUMBER: _ClassVar[int]
    gpu_uuid: str
    utilization_percent: int
    memory_used_bytes: int
    power_milliwatts: int
    power_limit_milliwatts: int
    temperature_celsius: int
    ecc_corrected: int
    ecc_uncorrected: int
    remap_pending: bool
    remap_failed: bool
    pcie_generation: int
    pcie_width: int
    pcie_replays: int
    nvlink_errors: int
    throttle_reasons: _containers.RepeatedScalarFieldContainer[str]
    processes: _containers.RepeatedCompositeFieldContainer[GpuProcess]
    health: _node_pb2.GpuHealth
    health_reason: str
    last_xid: int
    last_xid_time: _timestamp_pb2.Timestamp
    def __init__(self, gpu_uuid: _Optional[str] = ..., utilization_percent: _Optional[int] = ..., memory_used_bytes: _Optional[int] = ..., power_milliwatts: _Optional[int] = ..., power_limit_milliwatts: _Optional[int] = ..., temperature_celsius: _Optional[int] = ..., ecc_corrected: _Optional[int] = ..., ecc_uncorrected: _Optional[int] = ..., remap_pending: _Optional[bool] = ..., remap_failed: _Optional[bool] = ..., pcie_generation: _Optional[int] = ..., pcie_width: _Optional[int] = ..., pcie_replays: _Optional[int] = ..., nvlink_errors: _Optional[int] = ..., throttle_reasons: _Optional[_Iterable[str]] = ..., processes: _Optional[_Iterable[_Union[GpuProcess, _Mapping]]] = ..., health: _Optional[_Union[_node_pb2.GpuHealth, str]] = ..., health_reason: _Optional[str] = ..., last_xid: _Optional[int] = ..., last_xid_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class HostSample(_message.Message):
    __slots__ = ("cpu_percent", "memory_total_bytes", "memory_available_bytes", "load1", "disk_free_bytes")
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_AVAILABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOAD1_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    cpu_percent: float
    memory_total_bytes: int
    memory_available_bytes: int
    load1: float
    disk_free_bytes: int
    def __init__(self, cpu_percent: _Optional[float] = ..., memory_total_bytes: _Optional[int] = ..., memory_available_bytes: _Optional[int] = ..., load1: _Optional[float] = ..., disk_free_bytes: _Optional[int] = ...) -> None: ...

class AttemptSample(_message.Message):
    __slots__ = ("attempt_id", "cpu_percent", "memory_bytes")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    cpu_percent: float
    memory_bytes: int
    def __init__(self, attempt_id: _Optional[str] = ..., cpu_percent: _Optional[float] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class NodeSample(_message.Message):
    __slots__ = ("node_name", "sample_time", "host", "gpus", "attempts")
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_TIME_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    node_name: str
    sample_time: _timestamp_pb2.Timestamp
    host: HostSample
    gpus: _containers.RepeatedCompositeFieldContainer[GpuSample]
    attempts: _containers.RepeatedCompositeFieldContainer[AttemptSample]
    def __init__(self, node_name: _Optional[str] = ..., sample_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., host: _Optional[_Union[HostSample, _Mapping]] = ..., gpus: _Optional[_Iterable[_Union[GpuSample, _Mapping]]] = ..., attempts: _Optional[_Iterable[_Union[AttemptSample, _Mapping]]] = ...) -> None: ...
