from riseml.v1 import telemetry_pb2 as _telemetry_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetTelemetryRequest(_message.Message):
    __slots__ = ("node_names", "history_seconds")
    NODE_NAMES_FIELD_NUMBER: _ClassVar[int]
    HISTORY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    node_names: _containers.RepeatedScalarFieldContainer[str]
    history_seconds: int
    def __init__(self, node_names: _Optional[_Iterable[str]] = ..., history_seconds: _Optional[int] = ...) -> None: ...

class GetTelemetryResponse(_message.Message):
    __slots__ = ("samples",)
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    samples: _containers.RepeatedCompositeFieldContainer[_telemetry_pb2.NodeSample]
    def __init__(self, samples: _Optional[_Iterable[_Union[_telemetry_pb2.NodeSample, _Mapping]]] = ...) -> None: ...

class WatchTelemetryRequest(_message.Message):
    __slots__ = ("node_names",)
    NODE_NAMES_FIELD_NUMBER: _ClassVar[int]
    node_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node_names: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchTelemetryResponse(_message.Message):
    __slots__ = ("sample",)
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    sample: _telemetry_pb2.NodeSample
    def __init__(self, sample: _Optional[_Union[_telemetry_pb2.NodeSample, _Mapping]] = ...) -> None: ...
