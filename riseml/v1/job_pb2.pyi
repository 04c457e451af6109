import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from riseml.v1 import spec_pb2 as _spec_pb2
from riseml.v1 import state_pb2 as _state_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttemptState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTEMPT_STATE_UNSPECIFIED: _ClassVar[AttemptState]
    ATTEMPT_STATE_ASSIGNED: _ClassVar[AttemptState]
    ATTEMPT_STATE_PREPARING: _ClassVar[AttemptState]
    ATTEMPT_STATE_RUNNING: _ClassVar[AttemptState]
    ATTEMPT_STATE_STOPPING: _ClassVar[AttemptState]
    ATTEMPT_STATE_EXITED: _ClassVar[AttemptState]
    ATTEMPT_STATE_PREEMPTED: _ClassVar[AttemptState]
    ATTEMPT_STATE_LOST: _ClassVar[AttemptState]
ATTEMPT_STATE_UNSPECIFIED: AttemptState
ATTEMPT_STATE_ASSIGNED: AttemptState
ATTEMPT_STATE_PREPARING: AttemptState
ATTEMPT_STATE_RUNNING: AttemptState
ATTEMPT_STATE_STOPPING: AttemptState
ATTEMPT_STATE_EXITED: AttemptState
ATTEMPT_STATE_PREEMPTED: AttemptState
ATTEMPT_STATE_LOST: AttemptState

class GpuShare(_message.Message):
    __slots__ = ("gpu_uuid", "milli")
    GPU_UUID_FIELD_NUMBER: _ClassVar[int]
    MILLI_FIELD_NUMBER: _ClassVar[int]
    gpu_uuid: str
    milli: int
    def __init__(self, gpu_uuid: _Optional[str] = ..., milli: _Optional[int] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("id", "job_id", "generation", "node_name", "gpus", "state", "reason", "message", "node_lost", "exit_code", "exit_signal", "create_time", "start_time", "end_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    NODE_LOST_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    EXIT_SIGNAL_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    job_id: str
    generation: int
    node_name: str
    gpus: _containers.RepeatedCompositeFieldContainer[GpuShare]
    state: AttemptState
    reason: str
    message: str
    node_lost: bool
    exit_code: int
    exit_signal: int
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., job_id: _Optional[str] = ..., generation: _Optional[int] = ..., node_name: _Optional[str] = ..., gpus: _Optional[_Iterable[_Union[GpuShare, _Mapping]]] = ..., state: _Optional[_Union[AttemptState, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., node_lost: _Optional[bool] = ..., exit_code: _Optional[int] = ..., exit_signal: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "experiment_id", "type", "number", "state", "reason", "message", "resources", "attempts")
    ID_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    experiment_id: str
    type: str
    number: int
    state: _state_pb2.State
    reason: str
    message: str
    resources: _spec_pb2.Resources
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    def __init__(self, id: _Optional[str] = ..., experiment_id: _Optional[str] = ..., type: _Optional[str] = ..., number: _Optional[int] = ..., state: _Optional[_Union[_state_pb2.State, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., resources: _Optional[_Union[_spec_pb2.Resources, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ...) -> None: ...
