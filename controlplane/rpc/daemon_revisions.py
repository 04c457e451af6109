"""Code for nodes and jobs: a node gets revisions of attempts that are assigned to it, a job the one
of its own attempt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from controlplane.code.blobs import Blobs
from controlplane.domain.errors import NotFound
from controlplane.domain.model import Attempt
from controlplane.rpc.backend import Backend
from controlplane.rpc.caller import Caller
from controlplane.rpc.project_service import ProjectService, blob_chunks, manifest_entries
from riseml.v1 import daemon_service_pb2 as pb


class DaemonRevisions:
    """Serves DaemonService.FetchRevision."""

    def __init__(self, backend: Backend, projects: ProjectService, blobs: Blobs) -> None:
        self._backend = backend
        self._projects = projects
        self._blobs = blobs

    async def serve(
        self, caller: Caller, request: pb.FetchRevisionRequest
    ) -> AsyncIterator[pb.FetchRevisionResponse]:
        cluster = self._backend.runtime.cluster
        attempt = cluster.attempts.get(request.attempt_id)
        experiment = cluster.experiments.get(attempt.experiment_id) if attempt else None
        if (
            attempt is None
            or experiment is None
            or not _uses(caller, attempt)
            or experiment.revision_id != request.revision_id
        ):
            raise NotFound(
                f"Attempt {request.attempt_id}, asked for by {_words(caller)}, uses no such "
                "revision, or is over.",
                reason="REVISION_NOT_FOUND",
            )
        owner = experiment.user_name
        _, files = await self._projects.files_of(owner, request.revision_id)
        yield pb.FetchRevisionResponse(
            manifest=pb.RevisionManifest(entries=manifest_entries(files))
        )
        if request.manifest_only:
            return
        sent = set(request.have_sha256)
        for file in files:
            if file.sha256 in sent:
                continue
            sent.add(file.sha256)
            async for first, data, last in blob_chunks(
                self._blobs, owner, file.sha256, file.size_bytes
            ):
                yield pb.FetchRevisionResponse(
                    chunk=pb.BlobChunk(sha256=file.sha256 if first else b"", data=data, last=last)
                )


def _uses(caller: Caller, attempt: Attempt) -> bool:
    """Whether an attempt's code is for this caller.

    A job's token outlives its attempt, so there the attempt has to be live as well.
    """
    if caller.attempt_id:
        return attempt.id == caller.attempt_id and not attempt.state.ended
    return bool(caller.node_name) and attempt.node_name == caller.node_name


def _words(caller: Caller) -> str:
    return f"job {caller.attempt_id}" if caller.attempt_id else f"node {caller.node_name}"
