"""The daemon's side of the storage commands: file operations below the output root, for the
control plane.

The control plane decides who may do what and names the user whose tree it is; here the kernel is
asked as that user,
and a path that is not in that user's tree is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from noded.convert import file_messages
from noded.errors import WrongUser
from noded.session import Metadata
from noded.uids import Identities, acting_as
from riseml.files.area import FileArea, Finish
from riseml.files.errors import FileAreaError
from riseml.files.filesystem import FileSystem
from riseml.files.paths import parse_path
from riseml.v1.daemon_service_pb2 import (
    ServeStorageRequest,
    ServeStorageResponse,
    StorageError,
)
from riseml.v1.daemon_service_pb2_grpc import DaemonServiceStub

log = logging.getLogger(__name__)


class StorageServer:
    """Executes operations one after the other, in a thread of its own."""

    def __init__(
        self, output_root: Path, identities: Identities, file_system: FileSystem | None = None
    ) -> None:
        self._area = FileArea(output_root, file_system=file_system)
        self._identities = identities
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="storage")

    async def serve(self, stub: DaemonServiceStub, metadata: Metadata) -> None:
        """Keeps one stream of operations open until the session ends."""
        # Written to, not given an iterator: gRPC forgets the task that waits for an iterator's next
        # item when a stream breaks.
        call = stub.ServeStorage(metadata=metadata)
        try:
            with contextlib.suppress(asyncio.InvalidStateError):  # it broke: reading says so
                await call.write(ServeStorageRequest())
                async for operation in call:
                    await call.write(await self.execute_apart(operation))
        finally:
            call.cancel()

    async def execute_apart(self, operation: ServeStorageResponse) -> ServeStorageRequest:
        """Executes off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self.execute, operation)

    def execute(self, operation: ServeStorageResponse) -> ServeStorageRequest:
        """The answer to one operation; errors of the file system are answers too. Blocks."""
        try:
            answer = self._execute(operation)
        except FileAreaError as error:
            answer = _refusal(error.code, str(error))
        except (WrongUser, PermissionError) as error:
            answer = _refusal("PERMISSION_DENIED", str(error))
        except OSError as error:
            log.exception("storage operation on %s failed", operation.path)
            answer = _refusal("UNAVAILABLE", f"{operation.path}: {error.strerror or error}")
        answer.operation_id = operation.operation_id
        return answer

    def _execute(self, operation: ServeStorageResponse) -> ServeStorageRequest:
        path = operation.path
        parts = parse_path(path)
        if not operation.user_name or not parts or parts[0] != operation.user_name:
            return _refusal(
                "PERMISSION_DENIED", f"{path}: is not in the tree of {operation.user_name!r}"
            )
        with acting_as(self._identities.of(operation.user_name)):
            match operation.WhichOneof("operation"):
                case "list":
                    entries = self._area.list_files(
                        path,
                        recursive=operation.list.recursive,
                        after_path=operation.list.after_path,
                    )
                    return ServeStorageRequest(files=file_messages(entries))
                case "stat":
                    status = self._area.stat(path)
                    files = file_messages([status.entry] if status.entry else [])
                    return ServeStorageRequest(
                        files=files,
                        size_bytes=status.entry.size_bytes if status.entry else 0,
                        partial_size_bytes=status.partial_size_bytes,
                    )
                case "read":
                    read = operation.read
                    result = self._area.read(path, read.offset, read.length_bytes)
                    return ServeStorageRequest(data=result.data, size_bytes=result.total_size_bytes)
                case "write":
                    return self._write(operation)
                case "remove":
                    count = self._area.remove(path, recursive=operation.remove.recursive)
                    return ServeStorageRequest(removed_count=count)
                case other:
                    return _refusal("UNIMPLEMENTED", f"this daemon knows no operation {other}")

    def _write(self, operation: ServeStorageResponse) -> ServeStorageRequest:
        write = operation.write
        finish = Finish(write.total_size_bytes, write.sha256) if write.finish else None
        status = self._area.write(operation.path, write.offset, write.data, finish)
        return ServeStorageRequest(
            files=file_messages([status.entry] if status.entry else []),
            size_bytes=status.entry.size_bytes if status.entry else 0,
            partial_size_bytes=status.partial_size_bytes,
        )

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def _refusal(code: str, message: str) -> ServeStorageRequest:
    return ServeStorageRequest(error=StorageError(code=code, message=message))
