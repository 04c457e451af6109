"""Calls about a user's own work: accounts, projects, experiments, logs. Reached through
``riseml.client``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from riseml.convert import train_spec_to_proto
from riseml.spec.model import TrainSpec
from riseml.transport import AnswerStream, Transport
from riseml.v1 import (
    experiment_pb2,
    experiment_service_pb2,
    log_service_pb2,
    project_pb2,
    project_service_pb2,
    state_pb2,
    user_pb2,
    user_service_pb2,
)

PAGE_SIZE: Final = 500
SLOW_CALL_SECONDS: Final = 120.0

Item = TypeVar("Item")


def new_request_id() -> str:
    """An id for a creating call; sending it again gives the first answer again."""
    return uuid.uuid4().hex


def pages(fetch: Callable[[str], tuple[Sequence[Item], str]]) -> Iterator[Item]:
    """All items of a list, fetched page by page as they are asked for."""
    token = ""
    while True:
        items, token = fetch(token)
        yield from items
        if not token:
            return


class Calls:
    """Calls of one service over a shared transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport


class Users(Calls):
    """Accounts and API keys."""

    _SERVICE = "UserService"

    def caller(self) -> user_pb2.User:
        """Who this client is."""
        pb = user_service_pb2
        return self._transport.call(
            self._SERVICE, "GetCaller", pb.GetCallerRequest(), pb.GetCallerResponse
        ).user

    def create(
        self, name: str, *, email: str = "", admin: bool = False, request_id: str = ""
    ) -> user_service_pb2.CreateUserResponse:
        """A user with a first API key, which is in the answer and never shown again. Admins
        only.
        """
        pb = user_service_pb2
        request = pb.CreateUserRequest(
            request_id=request_id or new_request_id(), name=name, email=email, admin=admin
        )
        return self._transport.call(self._SERVICE, "CreateUser", request, pb.CreateUserResponse)

    def get(self, name: str) -> user_pb2.User:
        """One user."""
        pb = user_service_pb2
        return self._transport.call(
            self._SERVICE, "GetUser", pb.GetUserRequest(name=name), pb.GetUserResponse
        ).user

    def list(self) -> Iterator[user_pb2.User]:
        """All users."""
        pb = user_service_pb2

        def fetch(token: str) -> tuple[Sequence[user_pb2.User], str]:
            request = pb.ListUsersRequest(page_size=PAGE_SIZE, page_token=token)
            page = self._transport.call(self._SERVICE, "ListUsers", request, pb.ListUsersResponse)
            return page.users, page.next_page_token

        return pages(fetch)

    def update(
        self,
        name: str,
        *,
        email: str | None = None,
        admin: bool | None = None,
        enabled: bool | None = None,
    ) -> user_pb2.User:
        """Change what is given; the rest stays."""
        pb = user_service_pb2
        request = pb.UpdateUserRequest(name=name, email=email, admin=admin, enabled=enabled)
        return self._transport.call(
            self._SERVICE, "UpdateUser", request, pb.UpdateUserResponse
        ).user

    def create_key(
        self, *, user_name: str = "", description: str = "", request_id: str = ""
    ) -> user_service_pb2.CreateApiKeyResponse:
        """A further API key, for oneself or, by an admin, for anyone."""
        pb = user_service_pb2
        request = pb.CreateApiKeyRequest(
            request_id=request_id or new_request_id(), user_name=user_name, description=description
        )
        return self._transport.call(self._SERVICE, "CreateApiKey", request, pb.CreateApiKeyResponse)

    def list_keys(self, user_name: str = "") -> Iterator[user_pb2.ApiKey]:
        """The API keys of a user (empty: the caller), without their text."""
        pb = user_service_pb2

        def fetch(token: str) -> tuple[Sequence[user_pb2.ApiKey], str]:
            request = pb.ListApiKeysRequest(
                user_name=user_name, page_size=PAGE_SIZE, page_token=token
            )
            page = self._transport.call(
                self._SERVICE, "ListApiKeys", request, pb.ListApiKeysResponse
            )
            return page.keys, page.next_page_token

        return pages(fetch)

    def delete_key(self, key_id: str) -> None:
        """Revoke an API key at once."""
        pb = user_service_pb2
        self._transport.call(
            self._SERVICE,
            "DeleteApiKey",
            pb.DeleteApiKeyRequest(id=key_id),
            pb.DeleteApiKeyResponse,
        )


class Projects(Calls):
    """Projects and their content-addressed revisions. To send a tree use ``riseml.sync``."""

    _SERVICE = "ProjectService"

    def get(self, name: str, user_name: str = "") -> project_pb2.Project:
        """One project."""
        pb = project_service_pb2
        request = pb.GetProjectRequest(user_name=user_name, name=name)
        return self._transport.call(
            self._SERVICE, "GetProject", request, pb.GetProjectResponse
        ).project

    def list(self, user_name: str = "") -> Iterator[project_pb2.Project]:
        """Projects of a user (empty: the caller; EVERYBODY: all, for admins)."""
        pb = project_service_pb2

        def fetch(token: str) -> tuple[Sequence[project_pb2.Project], str]:
            request = pb.ListProjectsRequest(
                user_name=user_name, page_size=PAGE_SIZE, page_token=token
            )
            page = self._transport.call(
                self._SERVICE, "ListProjects", request, pb.ListProjectsResponse
            )
            return page.projects, page.next_page_token

        return pages(fetch)

    def missing_blobs(self, hashes: Sequence[bytes]) -> Sequence[bytes]:
        """Which of these SHA-256 the caller has not stored yet."""
        pb = project_service_pb2
        missing: list[bytes] = []
        for start in range(0, len(hashes), 50_000):
            request = pb.FindMissingBlobsRequest(sha256=hashes[start : start + 50_000])
            missing += self._transport.call(
                self._SERVICE, "FindMissingBlobs", request, pb.FindMissingBlobsResponse
            ).missing_sha256
        return missing

    def upload_blobs(
        self, chunks: Iterable[project_service_pb2.UploadBlobsRequest], *, seconds: float
    ) -> project_service_pb2.UploadBlobsResponse:
        """Send chunks of blobs; what was whole when a connection breaks is kept."""
        pb = project_service_pb2
        return self._transport.upload(
            self._SERVICE,
            "UploadBlobs",
            chunks,
            pb.UploadBlobsRequest,
            pb.UploadBlobsResponse,
            seconds=seconds,
        )

    def create_revision(
        self, project: str, entries: Iterable[project_pb2.ManifestEntry], request_id: str = ""
    ) -> project_pb2.Revision:
        """Record a tree whose blobs are stored."""
        pb = project_service_pb2
        request = pb.CreateRevisionRequest(
            request_id=request_id or new_request_id(), project=project, entries=entries
        )
        return self._transport.call(
            self._SERVICE,
            "CreateRevision",
            request,
            pb.CreateRevisionResponse,
            seconds=SLOW_CALL_SECONDS,
        ).revision

    def manifest(
        self, revision_id: str, user_name: str = ""
    ) -> Iterator[project_pb2.ManifestEntry]:
        """The files of a revision."""
        pb = project_service_pb2

        def fetch(token: str) -> tuple[Sequence[project_pb2.ManifestEntry], str]:
            request = pb.GetRevisionRequest(
                id=revision_id, user_name=user_name, page_size=PAGE_SIZE, page_token=token
            )
            page = self._transport.call(
                self._SERVICE, "GetRevision", request, pb.GetRevisionResponse
            )
            return page.entries, page.next_page_token

        return pages(fetch)

    def download_blobs(
        self, revision_id: str, hashes: Iterable[bytes], user_name: str = ""
    ) -> AnswerStream[project_service_pb2.DownloadBlobsResponse]:
        """The content of blobs of a revision, chunk by chunk."""
        pb = project_service_pb2
        request = pb.DownloadBlobsRequest(
            revision_id=revision_id, user_name=user_name, sha256=hashes
        )
        return self._transport.stream(
            self._SERVICE, "DownloadBlobs", request, pb.DownloadBlobsResponse
        )


class Experiments(Calls):
    """Experiments and sets."""

    _SERVICE = "ExperimentService"

    def create(
        self, spec: TrainSpec, *, revision_id: str = "", request_id: str = ""
    ) -> experiment_service_pb2.CreateExperimentResponse:
        """Submit; it is durable when this returns. InvalidRequest names wrong fields."""
        pb = experiment_service_pb2
        request = pb.CreateExperimentRequest(
            request_id=request_id or new_request_id(),
            spec=train_spec_to_proto(spec),
            revision_id=revision_id,
        )
        return self._transport.call(
            self._SERVICE, "CreateExperiment", request, pb.CreateExperimentResponse
        )

    def get(self, id: str) -> experiment_service_pb2.GetExperimentResponse:
        """One experiment with spec and jobs, and the change number to watch from."""
        pb = experiment_service_pb2
        return self._transport.call(
            self._SERVICE, "GetExperiment", pb.GetExperimentRequest(id=id), pb.GetExperimentResponse
        )

    def list(
        self,
        *,
        user_name: str = "",
        project: str = "",
        states: Iterable[state_pb2.State.ValueType] = (),
        set_id: str = "",
        with_jobs: bool = False,
        page_size: int = PAGE_SIZE,
    ) -> Iterator[experiment_pb2.Experiment]:
        """Newest first; fetched page by page, so stop reading when you have enough."""
        pb = experiment_service_pb2
        wanted = tuple(states)

        def fetch(token: str) -> tuple[Sequence[experiment_pb2.Experiment], str]:
            request = pb.ListExperimentsRequest(
                user_name=user_name,
                project=project,
                states=wanted,
                set_id=set_id,
                with_jobs=with_jobs,
                page_size=page_size,
                page_token=token,
            )
            page = self._transport.call(
                self._SERVICE, "ListExperiments", request, pb.ListExperimentsResponse
            )
            return page.experiments, page.next_page_token

        return pages(fetch)

    def watch(
        self, id: str = "", change_number: int = 0
    ) -> AnswerStream[experiment_service_pb2.WatchExperimentsResponse]:
        """Changes after ``change_number``, then as they happen; ends only with an error."""
        pb = experiment_service_pb2
        request = pb.WatchExperimentsRequest(id=id, change_number=change_number)
        return self._transport.stream(
            self._SERVICE, "WatchExperiments", request, pb.WatchExperimentsResponse
        )

    def kill(self, id: str, *, force: bool = False) -> experiment_pb2.Experiment:
        """Stop all its jobs; of a set, all children."""
        pb = experiment_service_pb2
        request = pb.KillExperimentRequest(id=id, force=force)
        return self._transport.call(
            self._SERVICE, "KillExperiment", request, pb.KillExperimentResponse
        ).experiment


class Logs(Calls):
    """Raw log streams; ``riseml.logs`` merges them and survives lost connections."""

    def tail(
        self,
        id: str,
        *,
        cursors: Mapping[str, int] | None = None,
        follow: bool = False,
        tail_lines: int = 0,
        since: Timestamp | None = None,
    ) -> AnswerStream[log_service_pb2.TailLogsResponse]:
        """Bytes at offsets per attempt, from the cursors on."""
        pb = log_service_pb2
        request = pb.TailLogsRequest(
            id=id,
            cursors=[
                pb.LogCursor(attempt_id=attempt_id, offset=offset)
                for attempt_id, offset in (cursors or {}).items()
            ],
            follow=follow,
            tail_lines=tail_lines,
            since_time=since,
        )
        return self._transport.stream("LogService", "TailLogs", request, pb.TailLogsResponse)
