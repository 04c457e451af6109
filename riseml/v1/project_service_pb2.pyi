from riseml.v1 import project_pb2 as _project_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetProjectRequest(_message.Message):
    __slots__ = ("user_name", "name")
    USER_NAME_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    user_name: str
    name: str
    def __init__(self, user_name: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class GetProjectResponse(_message.Message):
    __slots__ = ("project",)
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    project: _project_pb2.Project
    def __init__(self, project: _Optional[_Union[_project_pb2.Project, _Mapping]] = ...) -> None: ...

class ListProjectsRequest(_message.Message):
    __slots__ = ("user_name", "page_size", "page_token")
    USER_NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    user_name: str
    page_size: int
    page_token: str
    def __init__(self, user_name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListProjectsResponse(_message.Message):
    __slots__ = ("projects", "next_page_token")
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    projects: _containers.RepeatedCompositeFieldContainer[_project_pb2.Project]
    next_page_token: str
    def __init__(self, projects: _Optional[_Iterable[_Union[_project_pb2.Project, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class FindMissingBlobsRequest(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, sha256: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FindMissingBlobsResponse(_message.Message):
    __slots__ = ("missing_sha256",)
    MISSING_SHA256_FIELD_NUMBER: _ClassVar[int]
    missing_sha256: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, missing_sha256: _Optional[_Iterable[bytes]] = ...) -> None: ...

class UploadBlobsRequest(_message.Message):
    __slots__ = ("sha256", "size_bytes", "data", "last")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    sha256: bytes
    size_bytes: int
    data: bytes
    last: bool
    def __init__(self, sha256: _Optional[bytes] = ..., size_bytes: _Optional[int] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...

class UploadBlobsResponse(_message.Message):
    __slots__ = ("blobs_stored", "bytes_stored")
    BLOBS_STORED_FIELD_NUMBER: _ClassVar[int]
    BYTES_STORED_FIELD_NUMBER: _ClassVar[int]
    blobs_stored: int
    bytes_stored: int
    def __init__(self, blobs_stored: _Optional[int] = ..., bytes_stored: _Optional[int] = ...) -> None: ...

class CreateRevisionRequest(_message.Message):
    __slots__ = ("request_id", "project", "entries")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    project: str
    entries: _containers.RepeatedCompositeFieldContainer[_project_pb2.ManifestEntry]
    def __init__(self, request_id: _Optional[str] = ..., project: _Optional[str] = ..., entries: _Optional[_Iterable[_Union[_project_pb2.ManifestEntry, _Mapping]]] = ...) -> None: ...

class CreateRevisionResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: _project_pb2.Revision
    def __init__(self, revision: _Optional[_Union[_project_pb2.Revision, _Mapping]] = ...) -> None: ...

class GetRevisionRequest(_message.Message):
    __slots__ = ("id", "user_name", "page_size", "page_token")
    ID_FIELD_NUMBER: _ClassVar[int]
    USER_NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    id: str
    user_name: str
    page_size: int
    page_token: str
    def __init__(self, id: _Optional[str] = ..., user_name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class GetRevisionResponse(_message.Message):
    __slots__ = ("revision", "entries", "next_page_token")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    revision: _project_pb2.Revision
    entries: _containers.RepeatedCompositeFieldContainer[_project_pb2.ManifestEntry]
    next_page_token: str
    def __init__(self, revision: _Optional[_Union[_project_pb2.Revision, _Mapping]] = ..., entries: _Optional[_Iterable[_Union[_project_pb2.ManifestEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class DownloadBlobsRequest(_message.Message):
    __slots__ = ("revision_id", "user_name", "sha256")
    REVISION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    revision_id: str
    user_name: str
    sha256: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, revision_id: _Optional[str] = ..., user_name: _Optional[str] = ..., sha256: _Optional[_Iterable[bytes]] = ...) -> None: ...

class DownloadBlobsResponse(_message.Message):
    __slots__ = ("sha256", "data", "last")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    sha256: bytes
    data: bytes
    last: bool
    def __init__(self, sha256: _Optional[bytes] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ...) -> None: ...
