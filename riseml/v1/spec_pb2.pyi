from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Resources(_message.Message):
    __slots__ = ("cpu_milli", "memory_bytes", "gpu_milli", "gpu_model", "gpu_min_memory_bytes", "shm_bytes")
    CPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    GPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    GPU_MIN_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHM_BYTES_FIELD_NUMBER: _ClassVar[int]
    cpu_milli: int
    memory_bytes: int
    gpu_milli: int
    gpu_model: str
    gpu_min_memory_bytes: int
    shm_bytes: int
    def __init__(self, cpu_milli: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., gpu_milli: _Optional[int] = ..., gpu_model: _Optional[str] = ..., gpu_min_memory_bytes: _Optional[int] = ..., shm_bytes: _Optional[int] = ...) -> None: ...

class Role(_message.Message):
    __slots__ = ("name", "count", "resources")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    name: str
    count: int
    resources: Resources
    def __init__(self, name: _Optional[str] = ..., count: _Optional[int] = ..., resources: _Optional[_Union[Resources, _Mapping]] = ...) -> None: ...

class ParameterValues(_message.Message):
    __slots__ = ("name", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...

class Parameter(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class RetryPolicy(_message.Message):
    __slots__ = ("on_events", "max_retries")
    ON_EVENTS_FIELD_NUMBER: _ClassVar[int]
    MAX_RETRIES_FIELD_NUMBER: _ClassVar[int]
    on_events: _containers.RepeatedScalarFieldContainer[str]
    max_retries: int
    def __init__(self, on_events: _Optional[_Iterable[str]] = ..., max_retries: _Optional[int] = ...) -> None: ...

class UtilizationPolicy(_message.Message):
    __slots__ = ("min_gpu_utilization_percent", "time_window_seconds")
    MIN_GPU_UTILIZATION_PERCENT_FIELD_NUMBER: _ClassVar[int]
    TIME_WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    min_gpu_utilization_percent: int
    time_window_seconds: int
    def __init__(self, min_gpu_utilization_percent: _Optional[int] = ..., time_window_seconds: _Optional[int] = ...) -> None: ...

class Search(_message.Message):
    __slots__ = ("method", "metric", "goal", "max_trials")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    GOAL_FIELD_NUMBER: _ClassVar[int]
    MAX_TRIALS_FIELD_NUMBER: _ClassVar[int]
    method: str
    metric: str
    goal: str
    max_trials: int
    def __init__(self, method: _Optional[str] = ..., metric: _Optional[str] = ..., goal: _Optional[str] = ..., max_trials: _Optional[int] = ...) -> None: ...

class EnvVar(_message.Message):
    __slots__ = ("name", "value", "secret")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    secret: bool
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ..., secret: _Optional[bool] = ...) -> None: ...

class Volume(_message.Message):
    __slots__ = ("name", "mount_path", "read_only")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MOUNT_PATH_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    name: str
    mount_path: str
    read_only: bool
    def __init__(self, name: _Optional[str] = ..., mount_path: _Optional[str] = ..., read_only: _Optional[bool] = ...) -> None: ...

class TrainSpec(_message.Message):
    __slots__ = ("project", "framework", "framework_version", "tensorboard", "image", "install", "run", "roles", "parameters", "concurrency", "search", "env", "secrets", "priority", "queue", "max_duration_seconds", "grace_period_seconds", "retry", "utilization_policy", "volumes", "labels", "node_selector")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class NodeSelectorEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FRAMEWORK_FIELD_NUMBER: _ClassVar[int]
    FRAMEWORK_VERSION_FIELD_NUMBER: _ClassVar[int]
    TENSORBOARD_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    INSTALL_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    UTILIZATION_POLICY_FIELD_NUMBER: _ClassVar[int]
    VOLUMES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    NODE_SELECTOR_FIELD_NUMBER: _ClassVar[int]
    project: str
    framework: str
    framework_version: str
    tensorboard: bool
    image: str
    install: _containers.RepeatedScalarFieldContainer[str]
    run: _containers.RepeatedScalarFieldContainer[str]
    roles: _containers.RepeatedCompositeFieldContainer[Role]
    parameters: _containers.RepeatedCompositeFieldContainer[ParameterValues]
    concurrency: int
    search: Search
    env: _containers.RepeatedCompositeFieldContainer[EnvVar]
    secrets: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    queue: str
    max_duration_seconds: int
    grace_period_seconds: int
    retry: RetryPolicy
    utilization_policy: UtilizationPolicy
    volumes: _containers.RepeatedCompositeFieldContainer[Volume]
    labels: _containers.ScalarMap[str, str]
    node_selector: _containers.ScalarMap[str, str]
    def __init__(self, project: _Optional[str] = ..., framework: _Optional[str] = ..., framework_version: _Optional[str] = ..., tensorboard: _Optional[bool] = ..., image: _Optional[str] = ..., install: _Optional[_Iterable[str]] = ..., run: _Optional[_Iterable[str]] = ..., roles: _Optional[_Iterable[_Union[Role, _Mapping]]] = ..., parameters: _Optional[_Iterable[_Union[ParameterValues, _Mapping]]] = ..., concurrency: _Optional[int] = ..., search: _Optional[_Union[Search, _Mapping]] = ..., env: _Optional[_Iterable[_Union[EnvVar, _Mapping]]] = ..., secrets: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ..., queue: _Optional[str] = ..., max_duration_seconds: _Optional[int] = ..., grace_period_seconds: _Optional[int] = ..., retry: _Optional[_Union[RetryPolicy, _Mapping]] = ..., utilization_policy: _Optional[_Union[UtilizationPolicy, _Mapping]] = ..., volumes: _Optional[_Iterable[_Union[Volume, _Mapping]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., node_selector: _Optional[_Mapping[str, str]] = ...) -> None: ...
