import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from riseml.v1 import job_pb2 as _job_pb2
from riseml.v1 import node_pb2 as _node_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LogKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOG_KIND_UNSPECIFIED: _ClassVar[LogKind]
    LOG_KIND_OUTPUT: _ClassVar[LogKind]
    LOG_KIND_RESULTS: _ClassVar[LogKind]
LOG_KIND_UNSPECIFIED: LogKind
LOG_KIND_OUTPUT: LogKind
LOG_KIND_RESULTS: LogKind

class EnvironmentOrder(_message.Message):
    __slots__ = ("install", "build_attempt_id")
    INSTALL_FIELD_NUMBER: _ClassVar[int]
    BUILD_ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    install: _containers.RepeatedScalarFieldContainer[str]
    build_attempt_id: str
    def __init__(self, install: _Optional[_Iterable[str]] = ..., build_attempt_id: _Optional[str] = ...) -> None: ...

class Peer(_message.Message):
    __slots__ = ("job_type", "job_number", "rank", "host", "port", "gpu_count")
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    JOB_NUMBER_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    GPU_COUNT_FIELD_NUMBER: _ClassVar[int]
    job_type: str
    job_number: int
    rank: int
    host: str
    port: int
    gpu_count: int
    def __init__(self, job_type: _Optional[str] = ..., job_number: _Optional[int] = ..., rank: _Optional[int] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., gpu_count: _Optional[int] = ...) -> None: ...

class AttemptOrder(_message.Message):
    __slots__ = ("attempt_id", "job_id", "experiment_id", "user_name", "project", "generation", "revision_id", "run", "env", "secret_env_names", "parameters", "cpu_milli", "memory_bytes", "shm_bytes", "gpus", "grace_period_milliseconds", "contact_timeout_milliseconds", "environment", "framework", "peers", "rank", "job_type", "job_number", "output_path")
    class EnvEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_ID_FIELD_NUMBER: _ClassVar[int]
    USER_NAME_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REVISION_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    SECRET_ENV_NAMES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    CPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHM_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    CONTACT_TIMEOUT_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    FRAMEWORK_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    JOB_NUMBER_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PATH_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    job_id: str
    experiment_id: str
    user_name: str
    project: str
    generation: int
    revision_id: str
    run: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.ScalarMap[str, str]
    secret_env_names: _containers.RepeatedScalarFieldContainer[str]
    parameters: _containers.ScalarMap[str, str]
    cpu_milli: int
    memory_bytes: int
    shm_bytes: int
    gpus: _containers.RepeatedCompositeFieldContainer[_job_pb2.GpuShare]
    grace_period_milliseconds: int
    contact_timeout_milliseconds: int
    environment: EnvironmentOrder
    framework: str
    peers: _containers.RepeatedCompositeFieldContainer[Peer]
    rank: int
    job_type: str
    job_number: int
    output_path: str
    def __init__(self, attempt_id: _Optional[str] = ..., job_id: _Optional[str] = ..., experiment_id: _Optional[str] = ..., user_name: _Optional[str] = ..., project: _Optional[str] = ..., generation: _Optional[int] = ..., revision_id: _Optional[str] = ..., run: _Optional[_Iterable[str]] = ..., env: _Optional[_Mapping[str, str]] = ..., secret_env_names: _Optional[_Iterable[str]] = ..., parameters: _Optional[_Mapping[str, str]] = ..., cpu_milli: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., shm_bytes: _Optional[int] = ..., gpus: _Optional[_Iterable[_Union[_job_pb2.GpuShare, _Mapping]]] = ..., grace_period_milliseconds: _Optional[int] = ..., contact_timeout_milliseconds: _Optional[int] = ..., environment: _Optional[_Union[EnvironmentOrder, _Mapping]] = ..., framework: _Optional[str] = ..., peers: _Optional[_Iterable[_Union[Peer, _Mapping]]] = ..., rank: _Optional[int] = ..., job_type: _Optional[str] = ..., job_number: _Optional[int] = ..., output_path: _Optional[str] = ...) -> None: ...

class AttemptReport(_message.Message):
    __slots__ = ("attempt_id", "state", "reason", "message", "exit_code", "exit_signal", "start_time", "end_time", "final_log_offset", "final_results_offset")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    EXIT_SIGNAL_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    FINAL_LOG_OFFSET_FIELD_NUMBER: _ClassVar[int]
    FINAL_RESULTS_OFFSET_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    state: _job_pb2.AttemptState
    reason: str
    message: str
    exit_code: int
    exit_signal: int
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    final_log_offset: int
    final_results_offset: int
    def __init__(self, attempt_id: _Optional[str] = ..., state: _Optional[_Union[_job_pb2.AttemptState, str]] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., exit_code: _Optional[int] = ..., exit_signal: _Optional[int] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., final_log_offset: _Optional[int] = ..., final_results_offset: _Optional[int] = ...) -> None: ...

class NodeInventory(_message.Message):
    __slots__ = ("node_name", "boot_id", "daemon_version", "cpu_milli", "memory_bytes", "gpus", "labels", "capabilities", "address", "first_port", "last_port")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    DAEMON_VERSION_FIELD_NUMBER: _ClassVar[int]
    CPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FIRST_PORT_FIELD_NUMBER: _ClassVar[int]
    LAST_PORT_FIELD_NUMBER: _ClassVar[int]
    node_name: str
    boot_id: str
    daemon_version: str
    cpu_milli: int
    memory_bytes: int
    gpus: _containers.RepeatedCompositeFieldContainer[_node_pb2.Gpu]
    labels: _containers.ScalarMap[str, str]
    capabilities: _node_pb2.NodeCapabilities
    address: str
    first_port: int
    last_port: int
    def __init__(self, node_name: _Optional[str] = ..., boot_id: _Optional[str] = ..., daemon_version: _Optional[str] = ..., cpu_milli: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., gpus: _Optional[_Iterable[_Union[_node_pb2.Gpu, _Mapping]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., capabilities: _Optional[_Union[_node_pb2.NodeCapabilities, _Mapping]] = ..., address: _Optional[str] = ..., first_port: _Optional[int] = ..., last_port: _Optional[int] = ...) -> None: ...
