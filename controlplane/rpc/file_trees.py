"""Trees of files behind `data://` and `output://`: on this host, or on a node behind its daemon."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from controlplane.domain import errors
from controlplane.rpc.convert import seconds, timestamp
from controlplane.rpc.daemon_storage import ERRORS, DaemonStorage
from riseml.files.area import FileArea, FileEntry, FileStatus, Finish, ReadResult
from riseml.files.errors import FileAreaError
from riseml.v1 import daemon_service_pb2 as pb
from riseml.v1 import storage_service_pb2


class FileTree(Protocol):
    """The operations of riseml.files.area.FileArea, below one folder, off the event loop."""

    async def list_files(
        self, path: str, recursive: bool, after_path: str, limit: int
    ) -> list[FileEntry]: ...

    async def stat(self, path: str) -> FileStatus: ...

    async def read(self, path: str, offset: int, length: int) -> ReadResult: ...

    async def write(
        self, path: str, offset: int, data: bytes, finish: Finish | None
    ) -> FileStatus: ...

    async def remove(self, path: str, recursive: bool) -> int: ...


class LocalTree:
    """A folder on this host."""

    def __init__(self, area: FileArea) -> None:
        self._area = area

    async def list_files(
        self, path: str, recursive: bool, after_path: str, limit: int
    ) -> list[FileEntry]:
        with _translated():
            return await asyncio.to_thread(
                self._area.list_files,
                path,
                recursive=recursive,
                after_path=after_path,
                limit=limit,
            )

    async def stat(self, path: str) -> FileStatus:
        with _translated():
            return await asyncio.to_thread(self._area.stat, path)

    async def read(self, path: str, offset: int, length: int) -> ReadResult:
        with _translated():
            return await asyncio.to_thread(self._area.read, path, offset, length)

    async def write(self, path: str, offset: int, data: bytes, finish: Finish | None) -> FileStatus:
        with _translated():
            return await asyncio.to_thread(self._area.write, path, offset, data, finish)

    async def remove(self, path: str, recursive: bool) -> int:
        with _translated():
            return await asyncio.to_thread(self._area.remove, path, recursive=recursive)


@dataclass(frozen=True, slots=True)
class NodeTree:
    """A folder below a node's output root, reached through its daemon."""

    storage: DaemonStorage
    node_name: str
    user_name: str
    # Of the experiment, relative to the output root.
    folder: str

    def _order(self, path: str) -> pb.ServeStorageResponse:
        full = f"{self.folder}/{path}" if path else self.folder
        return pb.ServeStorageResponse(path=full, user_name=self.user_name)

    def _entry(self, info: storage_service_pb2.FileInfo) -> FileEntry:
        return FileEntry(
            info.path.removeprefix(self.folder).lstrip("/"),
            info.directory,
            info.size_bytes,
            seconds(info.modify_time),
        )

    async def list_files(
        self, path: str, recursive: bool, after_path: str, limit: int
    ) -> list[FileEntry]:
        order = self._order(path)
        after = f"{self.folder}/{after_path}" if after_path else ""
        order.list.CopyFrom(pb.ListOperation(recursive=recursive, after_path=after))
        reply = await self.storage.call(self.node_name, order)
        return [self._entry(info) for info in reply.files[:limit]]

    async def stat(self, path: str) -> FileStatus:
        order = self._order(path)
        order.stat.SetInParent()
        return self._status(await self.storage.call(self.node_name, order))

    async def read(self, path: str, offset: int, length: int) -> ReadResult:
        order = self._order(path)
        order.read.CopyFrom(pb.ReadOperation(offset=offset, length_bytes=length))
        reply = await self.storage.call(self.node_name, order)
        return ReadResult(reply.data, reply.size_bytes)

    async def write(self, path: str, offset: int, data: bytes, finish: Finish | None) -> FileStatus:
        order = self._order(path)
        order.write.CopyFrom(pb.WriteOperation(offset=offset, data=data))
        if finish is not None:
            order.write.finish = True
            order.write.total_size_bytes = finish.total_size_bytes
            order.write.sha256 = finish.sha256
        return self._status(await self.storage.call(self.node_name, order))

    async def remove(self, path: str, recursive: bool) -> int:
        order = self._order(path)
        order.remove.CopyFrom(pb.RemoveOperation(recursive=recursive))
        return (await self.storage.call(self.node_name, order)).removed_count

    def _status(self, reply: pb.ServeStorageRequest) -> FileStatus:
        entry = self._entry(reply.files[0]) if reply.files else None
        return FileStatus(entry, reply.partial_size_bytes)


def file_info(entry: FileEntry) -> storage_service_pb2.FileInfo:
    return storage_service_pb2.FileInfo(
        path=entry.path,
        directory=entry.directory,
        size_bytes=entry.size_bytes,
        modify_time=timestamp(entry.modify_time),
    )


class _translated:
    """Turns errors of the file area into those of the domain."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileAreaError):
            domain_error = ERRORS.get(error.code, errors.FailedPrecondition)
            raise domain_error(str(error), reason=f"STORAGE_{error.code}") from None
