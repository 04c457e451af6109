"""StorageService: files of `data://` and of experiments' outputs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from controlplane.core.orders import output_path
from controlplane.domain.errors import (
    DomainError,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    PermissionDenied,
)
from controlplane.domain.model import Experiment
from controlplane.rpc.backend import Backend, page_size, read_experiment_id
from controlplane.rpc.caller import Caller, current_caller
from controlplane.rpc.daemon_storage import DaemonStorage
from controlplane.rpc.file_trees import FileTree, LocalTree, NodeTree, file_info
from riseml.files.area import FileArea, Finish
from riseml.v1 import storage_service_pb2 as pb
from riseml.v1 import storage_service_pb2_grpc

DATA: Final = "data://"
OUTPUT: Final = "output://"
READ_BYTES: Final = 256 * 1024
MAX_WRITE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a URI leads: a tree and the path in it."""

    tree: FileTree
    path: str
    uri: str
    """Of the tree."""
    folder: str = ""
    """Of the tree, below what paths in the messages of whoever serves it are relative to."""

    @contextlib.contextmanager
    def in_words_of_caller(self) -> Iterator[None]:
        """Lets messages name the URI that the caller knows, not where the files lie."""
        try:
            yield
        except DomainError as error:
            path, colon, what = error.message.partition(": ")
            asked = f"{self.folder}/{self.path}".strip("/")
            if colon and asked and f"{path}/".startswith(f"{asked}/"):
                inside = path.removeprefix(self.folder).strip("/")
                error.message = f"{f'{self.uri}{inside}'.rstrip('/')}: {what}"
            raise


@dataclass(frozen=True, slots=True)
class Outputs:
    """Who serves what jobs write."""

    root: Path | None = None
    """Where this process sees all outputs itself; None: their nodes serve them."""
    of_pods: bool = False
    """There is no daemon on their nodes that could."""


class StorageService(storage_service_pb2_grpc.StorageServiceServicer):
    """See the contract for what each call means."""

    def __init__(
        self,
        backend: Backend,
        data_folder: Path,
        nodes: DaemonStorage,
        outputs: Outputs = Outputs(),
    ) -> None:
        self._backend = backend
        self._outputs = outputs
        data_folder.mkdir(parents=True, exist_ok=True)
        self._data = LocalTree(FileArea(data_folder))
        self._nodes = nodes

    async def ListFiles(self, request: pb.ListFilesRequest, context: Any) -> pb.ListFilesResponse:
        place = await self._place(request.uri, current_caller(), write=False)
        size = page_size(request.page_size)
        with place.in_words_of_caller():
            entries = await place.tree.list_files(
                place.path, request.recursive, request.page_token, size
            )
        return pb.ListFilesResponse(
            files=[file_info(e) for e in entries],
            next_page_token=entries[-1].path if len(entries) == size else "",
        )

    async def StatFile(self, request: pb.StatFileRequest, context: Any) -> pb.StatFileResponse:
        place = await self._place(request.uri, current_caller(), write=False)
        with place.in_words_of_caller():
            status = await place.tree.stat(place.path)
        if status.entry is None and not status.partial_size_bytes:
            raise NotFound(f"{request.uri}: no such file or directory.", reason="FILE_NOT_FOUND")
        return pb.StatFileResponse(
            file=file_info(status.entry) if status.entry else None,
            partial_size_bytes=status.partial_size_bytes,
        )

    async def ReadFile(
        self, request: pb.ReadFileRequest, context: Any
    ) -> AsyncIterator[pb.ReadFileResponse]:
        place = await self._place(request.uri, current_caller(), write=False)
        offset = request.offset
        first = True
        while True:
            with place.in_words_of_caller():
                found = await place.tree.read(place.path, offset, READ_BYTES)
            if found.data or first:
                yield pb.ReadFileResponse(
                    offset=offset, data=found.data, total_size_bytes=found.total_size_bytes
                )
            first = False
            offset += len(found.data)
            if not found.data or offset >= found.total_size_bytes:
                return

    async def WriteFile(
        self, request_iterator: AsyncIterator[pb.WriteFileRequest], context: Any
    ) -> pb.WriteFileResponse:
        caller = current_caller()
        place: _Place | None = None
        offset = 0
        async for request in request_iterator:
            if place is None:
                place = await self._place(request.uri, caller, write=True)
                offset = request.offset
            if len(request.data) > MAX_WRITE_BYTES:
                raise InvalidRequest("At most 1 MiB a message.", reason="CHUNK_TOO_LARGE")
            finish = Finish(request.total_size_bytes, request.sha256) if request.finish else None
            with place.in_words_of_caller():
                status = await place.tree.write(place.path, offset, request.data, finish)
            offset += len(request.data)
            if finish is not None:
                entry = status.entry
                return pb.WriteFileResponse(file=file_info(entry) if entry else None)
        raise FailedPrecondition(
            f"The copy ended early; {offset} bytes are kept and the same command goes on there.",
            reason="UPLOAD_UNFINISHED",
            metadata={"offset": str(offset)},
        )

    async def RemoveFile(
        self, request: pb.RemoveFileRequest, context: Any
    ) -> pb.RemoveFileResponse:
        place = await self._place(request.uri, current_caller(), write=True)
        with place.in_words_of_caller():
            removed = await place.tree.remove(place.path, request.recursive)
        return pb.RemoveFileResponse(removed_count=removed)

    async def _place(self, uri: str, caller: Caller, *, write: bool) -> _Place:
        """What a URI names, if the caller may touch it."""
        if uri.startswith(DATA):
            if write and not caller.admin:
                raise PermissionDenied(
                    "Only admins change data://; your own files go to output:// of an experiment.",
                    reason="DATA_READ_ONLY",
                )
            return _Place(self._data, uri.removeprefix(DATA).strip("/"), DATA)
        if uri.startswith(OUTPUT):
            name, _, path = uri.removeprefix(OUTPUT).partition("/")
            if not name:
                raise InvalidRequest(
                    "Name an experiment: output://17 or output://17/model.joblib.",
                    reason="INVALID_URI",
                )
            experiment = await self._backend.own_experiment(
                caller, read_experiment_id(name, caller)
            )
            if experiment.is_set:
                child, _, path = path.partition("/")
                experiment = await self._child(experiment, child)
            tree, folder = await self._output_tree(experiment)
            return _Place(
                tree,
                path.strip("/"),
                f"{OUTPUT}{experiment.id}/",
                folder,
            )
        raise InvalidRequest(
            f"{uri!r} is neither data://PATH nor output://ID/PATH.", reason="INVALID_URI"
        )

    async def _child(self, experiment: Experiment, child: str) -> Experiment:
        if not child.isdigit() or not 1 <= int(child) <= experiment.child_count:
            raise InvalidRequest(
                f"{experiment.id} is a set: name a child, output://{experiment.id}.1 to "
                f"output://{experiment.id}.{experiment.child_count}.",
                reason="CHILD_EXPECTED",
            )
        return await self._backend.experiment(f"{experiment.id}.{int(child)}")

    async def _output_tree(self, experiment: Experiment) -> tuple[FileTree, str]:
        """Outputs lie where we see them ourselves, or on the node of the newest attempt (of rank
        0), or on any where they are shared. With the folder that its messages name.
        """
        attempts = await self._backend.read(self._backend.store.attempts, [experiment.id])
        main = [a for a in attempts if ".build." not in a.id]
        if not main:
            raise NotFound(
                f"{experiment.id} has not run yet, so it has no output.", reason="NO_OUTPUT_YET"
            )
        if self._outputs.root is not None:
            return LocalTree(FileArea(self._outputs.root / output_path(experiment))), ""
        if self._outputs.of_pods:
            raise FailedPrecondition(
                "What pods write lies in their output volume, which the control plane does not see:"
                " an admin has to mount it there and set output_root.",
                reason="OUTPUT_NOT_MOUNTED",
            )
        newest = max(a.generation for a in main)
        node_name = min((a for a in main if a.generation == newest), key=lambda a: a.id).node_name
        nodes = self._backend.runtime.cluster.nodes
        node = nodes.get(node_name)
        if node is not None and node.inventory.capabilities.output_root == "shared":
            connected = [
                n
                for n in self._nodes.connected()
                if n in nodes and nodes[n].inventory.capabilities.output_root == "shared"
            ]
            if node_name not in connected and connected:
                node_name = connected[0]
        folder = output_path(experiment)
        return NodeTree(self._nodes, node_name, experiment.user_name, folder), folder
