import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LogCursor(_message.Message):
    __slots__ = ("attempt_id", "offset")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    offset: int
    def __init__(self, attempt_id: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class TailLogsRequest(_message.Message):
    __slots__ = ("id", "cursors", "follow", "tail_lines", "since_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    CURSORS_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    TAIL_LINES_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    cursors: _containers.RepeatedCompositeFieldContainer[LogCursor]
    follow: bool
    tail_lines: int
    since_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., cursors: _Optional[_Iterable[_Union[LogCursor, _Mapping]]] = ..., follow: _Optional[bool] = ..., tail_lines: _Optional[int] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TailLogsResponse(_message.Message):
    __slots__ = ("attempt_id", "chunk", "eof", "gap")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    EOF_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    chunk: LogChunk
    eof: LogEof
    gap: LogGap
    def __init__(self, attempt_id: _Optional[str] = ..., chunk: _Optional[_Union[LogChunk, _Mapping]] = ..., eof: _Optional[_Union[LogEof, _Mapping]] = ..., gap: _Optional[_Union[LogGap, _Mapping]] = ...) -> None: ...

class LogChunk(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class LogEof(_message.Message):
    __slots__ = ("final_offset", "node_lost")
    FINAL_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NODE_LOST_FIELD_NUMBER: _ClassVar[int]
    final_offset: int
    node_lost: bool
    def __init__(self, final_offset: _Optional[int] = ..., node_lost: _Optional[bool] = ...) -> None: ...

class LogGap(_message.Message):
    __slots__ = ("offset", "length_bytes", "reason")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    offset: int
    length_bytes: int
    reason: str
    def __init__(self, offset: _Optional[int] = ..., length_bytes: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
