import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetSystemInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetSystemInfoResponse(_message.Message):
    __slots__ = ("version", "cluster_id", "start_time", "launchers", "store", "tls", "node_count", "ready_node_count", "pending_experiment_count", "running_experiment_count", "warnings")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    LAUNCHERS_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    NODE_COUNT_FIELD_NUMBER: _ClassVar[int]
    READY_NODE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PENDING_EXPERIMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    RUNNING_EXPERIMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    version: str
    cluster_id: str
    start_time: _timestamp_pb2.Timestamp
    launchers: _containers.RepeatedScalarFieldContainer[str]
    store: str
    tls: bool
    node_count: int
    ready_node_count: int
    pending_experiment_count: int
    running_experiment_count: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, version: _Optional[str] = ..., cluster_id: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., launchers: _Optional[_Iterable[str]] = ..., store: _Optional[str] = ..., tls: _Optional[bool] = ..., node_count: _Optional[int] = ..., ready_node_count: _Optional[int] = ..., pending_experiment_count: _Optional[int] = ..., running_experiment_count: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...
