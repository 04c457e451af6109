from riseml.v1 import daemon_pb2 as _daemon_pb2
from riseml.v1 import project_pb2 as _project_pb2
from riseml.v1 import storage_service_pb2 as _storage_service_pb2
from riseml.v1 import telemetry_pb2 as _telemetry_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionRequest(_message.Message):
    __slots__ = ("hello", "heartbeat", "sample", "attempt", "inventory")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    INVENTORY_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    sample: _telemetry_pb2.NodeSample
    attempt: _daemon_pb2.AttemptReport
    inventory: _daemon_pb2.NodeInventory
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., sample: _Optional[_Union[_telemetry_pb2.NodeSample, _Mapping]] = ..., attempt: _Optional[_Union[_daemon_pb2.AttemptReport, _Mapping]] = ..., inventory: _Optional[_Union[_daemon_pb2.NodeInventory, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("inventory", "epoch", "cluster_id", "attempts")
    INVENTORY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    inventory: _daemon_pb2.NodeInventory
    epoch: int
    cluster_id: str
    attempts: _containers.RepeatedCompositeFieldContainer[_daemon_pb2.AttemptReport]
    def __init__(self, inventory: _Optional[_Union[_daemon_pb2.NodeInventory, _Mapping]] = ..., epoch: _Optional[int] = ..., cluster_id: _Optional[str] = ..., attempts: _Optional[_Iterable[_Union[_daemon_pb2.AttemptReport, _Mapping]]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class SessionResponse(_message.Message):
    __slots__ = ("welcome", "start", "stop", "forget", "heartbeat_ack")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_ACK_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    start: StartAttempt
    stop: StopAttempt
    forget: ForgetAttempt
    heartbeat_ack: HeartbeatAck
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., start: _Optional[_Union[StartAttempt, _Mapping]] = ..., stop: _Optional[_Union[StopAttempt, _Mapping]] = ..., forget: _Optional[_Union[ForgetAttempt, _Mapping]] = ..., heartbeat_ack: _Optional[_Union[HeartbeatAck, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("cluster_id", "heartbeat_interval_milliseconds", "lease_milliseconds", "desired", "forget", "stopping")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    DESIRED_FIELD_NUMBER: _ClassVar[int]
    FORGET_FIELD_NUMBER: _ClassVar[int]
    STOPPING_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    heartbeat_interval_milliseconds: int
    lease_milliseconds: int
    desired: _containers.RepeatedCompositeFieldContainer[_daemon_pb2.AttemptOrder]
    forget: _containers.RepeatedScalarFieldContainer[str]
    stopping: _containers.RepeatedCompositeFieldContainer[StopAttempt]
    def __init__(self, cluster_id: _Optional[str] = ..., heartbeat_interval_milliseconds: _Optional[int] = ..., lease_milliseconds: _Optional[int] = ..., desired: _Optional[_Iterable[_Union[_daemon_pb2.AttemptOrder, _Mapping]]] = ..., forget: _Optional[_Iterable[str]] = ..., stopping: _Optional[_Iterable[_Union[StopAttempt, _Mapping]]] = ...) -> None: ...

class StartAttempt(_message.Message):
    __slots__ = ("order",)
    ORDER_FIELD_NUMBER: _ClassVar[int]
    order: _daemon_pb2.AttemptOrder
    def __init__(self, order: _Optional[_Union[_daemon_pb2.AttemptOrder, _Mapping]] = ...) -> None: ...

class StopAttempt(_message.Message):
    __slots__ = ("attempt_id", "grace_period_milliseconds", "reason")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    GRACE_PERIOD_MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    grace_period_milliseconds: int
    reason: str
    def __init__(self, attempt_id: _Optional[str] = ..., grace_period_milliseconds: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ForgetAttempt(_message.Message):
    __slots__ = ("attempt_id",)
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    def __init__(self, attempt_id: _Optional[str] = ...) -> None: ...

class HeartbeatAck(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class AppendLogRequest(_message.Message):
    __slots__ = ("attempt_id", "kind", "offset", "data", "final")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    kind: _daemon_pb2.LogKind
    offset: int
    data: bytes
    final: bool
    def __init__(self, attempt_id: _Optional[str] = ..., kind: _Optional[_Union[_daemon_pb2.LogKind, str]] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., final: _Optional[bool] = ...) -> None: ...

class AppendLogResponse(_message.Message):
    __slots__ = ("attempt_id", "kind", "next_offset", "error", "unknown")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    kind: _daemon_pb2.LogKind
    next_offset: int
    error: str
    unknown: bool
    def __init__(self, attempt_id: _Optional[str] = ..., kind: _Optional[_Union[_daemon_pb2.LogKind, str]] = ..., next_offset: _Optional[int] = ..., error: _Optional[str] = ..., unknown: _Optional[bool] = ...) -> None: ...

class FetchRevisionRequest(_message.Message):
    __slots__ = ("revision_id", "attempt_id", "manifest_only", "have_sha256")
    REVISION_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_ONLY_FIELD_NUMBER: _ClassVar[int]
    HAVE_SHA256_FIELD_NUMBER: _ClassVar[int]
    revision_id: str
    attempt_id: str
    manifest_only: bool
    have_sha256: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, revision_id: _Optional[str] = ..., attempt_id: _Optional[str] = ..., manifest_only: _Optional[bool] = ..., have_sha256: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FetchRevisionResponse(_message.Message):
    __slots__ = ("manifest", "chunk")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    manifest: RevisionManifest
    chunk: BlobChunk
    def __init__(self, manifest: _Optional[_Union[RevisionManifest, _Mapping]] = ..., chunk: _Optional[_Union[BlobChunk, _Mapping]] = ...) -> None: ...

class RevisionManifest(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[_project_pb2.ManifestEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[_project_pb2.ManifestEntry, _Mapping]]] = ...) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("sha256", "data", "last")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    sha256: bytes
    data: bytes
    last: bool
    def __init__(self, sha256: _Optional[bytes] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class ServeStorageRequest(_message.Message):
    __slots__ = ("operation_id", "error", "files", "data", "size_bytes", "partial_size_bytes", "removed_count")
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    REMOVED_COUNT_FIELD_NUMBER: _ClassVar[int]
    operation_id: int
    error: StorageError
    files: _containers.RepeatedCompositeFieldContainer[_storage_service_pb2.FileInfo]
    data: bytes
    size_bytes: int
    partial_size_bytes: int
    removed_count: int
    def __init__(self, operation_id: _Optional[int] = ..., error: _Optional[_Union[StorageError, _Mapping]] = ..., files: _Optional[_Iterable[_Union[_storage_service_pb2.FileInfo, _Mapping]]] = ..., data: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., partial_size_bytes: _Optional[int] = ..., removed_count: _Optional[int] = ...) -> None: ...

class StorageError(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class ServeStorageResponse(_message.Message):
    __slots__ = ("operation_id", "path", "user_name", "list", "stat", "read", "write", "remove")
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    USER_NAME_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    STAT_FIELD_NUMBER: _ClassVar[int]
    READ_FIELD_NUMBER: _ClassVar[int]
    WRITE_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    operation_id: int
    path: str
    user_name: str
    list: ListOperation
    stat: StatOperation
    read: ReadOperation
    write: WriteOperation
    remove: RemoveOperation
    def __init__(self, operation_id: _Optional[int] = ..., path: _Optional[str] = ..., user_name: _Optional[str] = ..., list: _Optional[_Union[ListOperation, _Mapping]] = ..., stat: _Optional[_Union[StatOperation, _Mapping]] = ..., read: _Optional[_Union[ReadOperation, _Mapping]] = ..., write: _Optional[_Union[WriteOperation, _Mapping]] = ..., remove: _Optional[_Union[RemoveOperation, _Mapping]] = ...) -> None: ...

class ListOperation(_message.Message):
    __slots__ = ("recursive", "after_path")
    RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    AFTER_PATH_FIELD_NUMBER: _ClassVar[int]
    recursive: bool
    after_path: str
    def __init__(self, recursive: _Optional[bool] = ..., after_path: _Optional[str] = ...) -> None: ...

class StatOperation(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadOperation(_message.Message):
    __slots__ = ("offset", "length_bytes")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    offset: int
    length_bytes: int
    def __init__(self, offset: _Optional[int] = ..., length_bytes: _Optional[int] = ...) -> None: ...

class WriteOperation(_message.Message):
    __slots__ = ("offset", "data", "finish", "total_size_bytes", "sha256")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    finish: bool
    total_size_bytes: int
    sha256: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., finish: _Optional[bool] = ..., total_size_bytes: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class RemoveOperation(_message.Message):
    __slots__ = ("recursive",)
    RECURSIVE_FIELD_NUMBER: _ClassVar[int]
    recursive: bool
    def __init__(self, recursive: _Optional[bool] = ...) -> None: ...
