"""ProjectService: projects, blobs and revisions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from controlplane.code import manifest
from controlplane.code.blobs import Blobs, BlobWriter
from controlplane.domain.errors import FailedPrecondition, InvalidRequest, NotFound
from controlplane.domain.events import RevisionRecorded
from controlplane.domain.model import Revision
from controlplane.rpc import convert
from controlplane.rpc.backend import Backend, check_request_id, page_size
from controlplane.rpc.caller import current_caller
from riseml.spec.errors import InvalidName
from riseml.spec.ids import check_project_name
from riseml.v1 import project_pb2, project_service_pb2_grpc
from riseml.v1 import project_service_pb2 as pb

MAX_HASHES: Final = 50_000
MAX_BLOB_BYTES: Final = manifest.MAX_TOTAL_BYTES
SHA256_BYTES: Final = 32


def manifest_entries(files: tuple[manifest.ManifestFile, ...]) -> list[project_pb2.ManifestEntry]:
    return [
        project_pb2.ManifestEntry(
            path=f.path, mode=f.mode, size_bytes=f.size_bytes, sha256=f.sha256
        )
        for f in files
    ]


class ProjectService(project_service_pb2_grpc.ProjectServiceServicer):
    """See the contract for what each call means."""

    def __init__(self, backend: Backend, blobs: Blobs) -> None:
        self._backend = backend
        self._blobs = blobs

    async def GetProject(
        self, request: pb.GetProjectRequest, context: Any
    ) -> pb.GetProjectResponse:
        owner = request.user_name or current_caller().name
        current_caller().check_owner(owner, f"project {request.name}")
        found = await self._backend.read(self._backend.store.project, owner, request.name)
        if found is None:
            raise NotFound(
                f"There is no project {request.name!r}: `riseml project list` shows yours.",
                reason="PROJECT_NOT_FOUND",
            )
        return pb.GetProjectResponse(project=convert.project(found))

    async def ListProjects(
        self, request: pb.ListProjectsRequest, context: Any
    ) -> pb.ListProjectsResponse:
        caller = current_caller()
        owner: str | None = request.user_name or caller.name
        if owner == "*" and caller.admin:
            owner = None
        else:
            caller.check_owner(owner or "", "project")
        size = page_size(request.page_size)
        user_name, _, name = request.page_token.partition("/")
        found = await self._backend.read(
            self._backend.store.projects, owner, (user_name, name), size + 1
        )
        page = found[:size]
        token = f"{page[-1].user_name}/{page[-1].name}" if len(found) > size else ""
        return pb.ListProjectsResponse(
            projects=[convert.project(p) for p in page], next_page_token=token
        )

    async def FindMissingBlobs(
        self, request: pb.FindMissingBlobsRequest, context: Any
    ) -> pb.FindMissingBlobsResponse:
        if len(request.sha256) > MAX_HASHES:
            raise InvalidRequest(f"At most {MAX_HASHES} hashes a call.", reason="TOO_MANY_HASHES")
        if any(len(sha256) != SHA256_BYTES for sha256 in request.sha256):
            raise InvalidRequest("A SHA-256 has 32 bytes.", reason="INVALID_HASH")
        missing = await asyncio.to_thread(
            self._blobs.missing, current_caller().name, list(request.sha256)
        )
        return pb.FindMissingBlobsResponse(missing_sha256=missing)

    async def UploadBlobs(
        self, request_iterator: AsyncIterator[pb.UploadBlobsRequest], context: Any
    ) -> pb.UploadBlobsResponse:
        user_name = current_caller().name
        writer: BlobWriter | None = None
        stored = stored_bytes = 0
        try:
            async for chunk in request_iterator:
                if writer is None:
                    if len(chunk.sha256) != SHA256_BYTES:
                        raise InvalidRequest(
                            "The first chunk of a blob carries its SHA-256 (32 bytes).",
                            reason="INVALID_HASH",
                        )
                    if not 0 <= chunk.size_bytes <= MAX_BLOB_BYTES:
                        raise InvalidRequest(
                            f"A blob has at most {MAX_BLOB_BYTES} bytes.", reason="BLOB_TOO_LARGE"
                        )
                    writer = self._blobs.writer(user_name, chunk.sha256, chunk.size_bytes)
                if chunk.data:
                    await asyncio.to_thread(writer.write, chunk.data)
                if chunk.last:
                    stored_bytes += await asyncio.to_thread(writer.finish)
                    stored += 1
                    writer.close()
                    writer = None
        except Exception:
            # Nothing of a refused blob takes room any more when its sender hears of it.
            if writer is not None:
                await asyncio.to_thread(writer.close)
            raise
        finally:
            if writer is not None:
                # Cut off, perhaps while a thread writes: the closing waits for that, this doesn't.
                asyncio.get_running_loop().run_in_executor(None, writer.close)
        return pb.UploadBlobsResponse(blobs_stored=stored, bytes_stored=stored_bytes)

    async def CreateRevision(
        self, request: pb.CreateRevisionRequest, context: Any
    ) -> pb.CreateRevisionResponse:
        check_request_id(request.request_id)
        try:
            check_project_name(request.project)
        except InvalidName as wrong:
            raise InvalidRequest(str(wrong), reason="INVALID_PROJECT_NAME") from None
        files = tuple(
            manifest.ManifestFile(e.path, e.mode, e.size_bytes, e.sha256) for e in request.entries
        )
        manifest.check(files)
        user_name = current_caller().name
        revision = await asyncio.to_thread(self._store_manifest, user_name, request.project, files)
        # The runtime knows only revisions recorded since its start.
        known = await self._backend.read(self._backend.store.revision, user_name, revision.id)
        if known is not None:
            return pb.CreateRevisionResponse(revision=convert.revision(known))
        recorded = await self._backend.runtime.submit(RevisionRecorded(revision))
        return pb.CreateRevisionResponse(revision=convert.revision(recorded))

    def _store_manifest(
        self, user_name: str, project: str, files: tuple[manifest.ManifestFile, ...]
    ) -> Revision:
        sizes = self._blobs.sizes(user_name, {f.sha256 for f in files})
        missing = [f for f in files if f.sha256 not in sizes]
        if missing:
            raise FailedPrecondition(
                f"{len(missing)} files are not uploaded yet, {missing[0].path!r} among them.",
                reason="BLOBS_MISSING",
                metadata={"count": str(len(missing)), "first": missing[0].path},
            )
        wrong = [f for f in files if sizes[f.sha256] != f.size_bytes]
        if wrong:
            raise InvalidRequest(
                f"{wrong[0].path!r} has {sizes[wrong[0].sha256]} bytes, not {wrong[0].size_bytes}.",
                reason="SIZE_MISMATCH",
            )
        text = manifest.render(files)
        self._blobs.put(user_name, text)
        return Revision(
            manifest.revision_id(text),
            user_name,
            project,
            len(files),
            sum(f.size_bytes for f in files),
            time.time(),
        )

    async def files_of(
        self, user_name: str, revision_id: str
    ) -> tuple[Revision, tuple[manifest.ManifestFile, ...]]:
        """A revision and its manifest. NotFound if the user has none of that id."""
        revision = await self._backend.read(self._backend.store.revision, user_name, revision_id)
        if revision is None:
            raise NotFound(
                f"There is no revision {revision_id[:12]} of {user_name}.",
                reason="REVISION_NOT_FOUND",
            )
        text = await asyncio.to_thread(
            lambda: b"".join(self._blobs.chunks(user_name, bytes.fromhex(revision_id)))
        )
        return revision, manifest.parse(text)

    async def GetRevision(
        self, request: pb.GetRevisionRequest, context: Any
    ) -> pb.GetRevisionResponse:
        owner = request.user_name or current_caller().name
        current_caller().check_owner(owner, "revision")
        revision, files = await self.files_of(owner, request.id)
        size = page_size(request.page_size)
        rest = [f for f in files if f.path > request.page_token]
        page = rest[:size]
        return pb.GetRevisionResponse(
            revision=convert.revision(revision),
            entries=manifest_entries(tuple(page)),
            next_page_token=page[-1].path if len(rest) > size else "",
        )

    async def DownloadBlobs(
        self, request: pb.DownloadBlobsRequest, context: Any
    ) -> AsyncIterator[pb.DownloadBlobsResponse]:
        owner = request.user_name or current_caller().name
        current_caller().check_owner(owner, "revision")
        _, files = await self.files_of(owner, request.revision_id)
        known = {f.sha256: f.size_bytes for f in files}
        for sha256 in request.sha256:
            if sha256 not in known:
                raise NotFound(
                    f"The revision has no file with hash {sha256.hex()}.", reason="BLOB_NOT_FOUND"
                )
            async for first, data, last in blob_chunks(self._blobs, owner, sha256, known[sha256]):
                yield pb.DownloadBlobsResponse(
                    sha256=sha256 if first else b"", data=data, last=last
                )


async def blob_chunks(
    blobs: Blobs, owner: str, sha256: bytes, size_bytes: int
) -> AsyncIterator[tuple[bool, bytes, bool]]:
    """(first, data, last) for each chunk of a blob, read in a thread."""
    chunks = blobs.chunks(owner, sha256)
    sent = 0
    first = True
    while True:
        data = await asyncio.to_thread(next, chunks, None)
        if data is None:
            return
        sent += len(data)
        yield first, data, sent >= size_bytes
        first = False
