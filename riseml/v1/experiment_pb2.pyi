import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from riseml.v1 import job_pb2 as _job_pb2
from riseml.v1 import spec_pb2 as _spec_pb2
from riseml.v1 import state_pb2 as _state_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Experiment(_message.Message):
    __slots__ = ("id", "user_name", "number", "child_number", "project", "revision_id", "state", "reason", "message", "generation", "parameters", "priority", "queue", "set", "create_time", "start_time", "end_time", "spec", "jobs", "pending_reasons")
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_NAME_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CHILD_NUMBER_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    REVISION_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    PENDING_REASONS_FIELD_NUMBER: _ClassVar[int]
    id: str
    user_name: str
    number: int
    child_number: int
    project: str
    revision_id: str
    state: _state_pb2.State
    reason: str
    message: str
    generation: int
    parameters: _containers.RepeatedCompositeFieldContainer[_spec_pb2.Parameter]
    priority: int
    queue: str
    set: SetSummary
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    spec: _spec_pb2.TrainSpec
    jobs: _containers.RepeatedCompositeFieldContainer[_job_pb2.Job]
    pending_reasons: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., user_name: _Optional[str] = ..., number: _Optional[int] = ..., child_number: _Optional[int] = ..., project: _Optional[str] = ..., revision_id: _Optional[str] = ..., state: _Optional[_Union[_state_pb2.State, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., generation: _Optional[int] = ..., parameters: _Optional[_Iterable[_Union[_spec_pb2.Parameter, _Mapping]]] = ..., priority: _Optional[int] = ..., queue: _Optional[str] = ..., set: _Optional[_Union[SetSummary, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., spec: _Optional[_Union[_spec_pb2.TrainSpec, _Mapping]] = ..., jobs: _Optional[_Iterable[_Union[_job_pb2.Job, _Mapping]]] = ..., pending_reasons: _Optional[_Iterable[str]] = ...) -> None: ...

class SetSummary(_message.Message):
    __slots__ = ("child_count", "waiting_count", "running_count", "finished_count", "failed_count", "killed_count")
    CHILD_COUNT_FIELD_NUMBER: _ClassVar[int]
    WAITING_COUNT_FIELD_NUMBER: _ClassVar[int]
    RUNNING_COUNT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    KILLED_COUNT_FIELD_NUMBER: _ClassVar[int]
    child_count: int
    waiting_count: int
    running_count: int
    finished_count: int
    failed_count: int
    killed_count: int
    def __init__(self, child_count: _Optional[int] = ..., waiting_count: _Optional[int] = ..., running_count: _Optional[int] = ..., finished_count: _Optional[int] = ..., failed_count: _Optional[int] = ..., killed_count: _Optional[int] = ...) -> None: ...
