"""What we use of the Kubernetes API: plain JSON in and out, and one tree of errors.

Objects are dicts as the server sends them: nothing is lost that a typed model does not know, and
nothing is refused that it does not expect. Lists, watches and logs are what the page "API concepts"
(https://kubernetes.io/docs/reference/using-api/api-concepts/) describes. `http_api.py` talks to a
cluster; tests put their own beside it.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol, TypeAlias


class ApiError(Exception):
    """The server refused a request, or did not answer it.

    `status` is that of HTTP, 0 without an answer; `reason` is one of the API's words such as
    `AlreadyExists`; `message` is the server's sentence, for people.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({status} {reason})" if status else message)
        self.status = status
        self.reason = reason
        self.message = message


class Conflict(ApiError):
    """409: the name is taken (`AlreadyExists`), or the object is not what the request takes it for:
    it has another uid or version, or is bound already (`Conflict`)."""


class NotFound(ApiError):
    """404: there is no such object (any more)."""


class Gone(ApiError):
    """410: the version or the page asked for is forgotten; list again."""


class Refused(ApiError):
    """401, 403 and 422: not without a change of rights, quota or object. `message` says which."""


class Unavailable(ApiError):
    """No connection, 429, or 5xx: later it may work."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        retry_after: float = 0.0,
        untouched: bool = False,
    ) -> None:
        super().__init__(status, reason, message)
        self.retry_after = retry_after
        """Seconds that the server wants to be left alone; 0 when it did not say."""
        self.untouched = untouched
        """The request has certainly not been acted upon; else nobody knows."""


Object: TypeAlias = dict[str, Any]


class Kind(enum.Enum):
    """Kinds of objects in the core group; the value is their name in paths."""

    POD = "pods"
    NODE = "nodes"
    CONFIG_MAP = "configmaps"
    SERVICE = "services"
    SECRET = "secrets"

    @property
    def namespaced(self) -> bool:
        return self is not Kind.NODE


class Page(NamedTuple):
    """One page of a list."""

    items: list[Object]
    resource_version: str
    """Of the whole list: where a watch takes over."""
    continue_token: str
    """Of the next page; empty after the last."""


class WatchEvent(NamedTuple):
    """What a watch tells. `type`: ADDED, MODIFIED, DELETED; BOOKMARK (the object has just a
    version); ERROR (the object is a Status; `error_of_status` makes an exception of it)."""

    type: str
    object: Object


class Api(Protocol):
    """The calls. All raise ApiError; an empty namespace stands for all of them."""

    async def list_page(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
    ) -> Page:
        """At most `limit` objects (0: all). With no version: the newest state there is."""
        ...

    def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        timeout_seconds: int,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> AbstractAsyncContextManager[AsyncIterator[WatchEvent]]:
        """What happens after a version, with bookmarks. Entered when the server has begun to
        answer; the iteration ends when the server ends it, after `timeout_seconds` at the latest.
        """
        ...

    async def get(self, kind: Kind, namespace: str, name: str) -> Object: ...

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        """The object as the server made it. After Unavailable it may exist."""
        ...

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        """Merges (RFC 7386): null removes, lists are replaced."""
        ...

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str,
        grace_period_seconds: int | None = None,
    ) -> None:
        """Begins a deletion. Conflict if the name belongs to another uid; NotFound also after an
        earlier try that seemed to fail."""
        ...

    async def bind_pod(self, namespace: str, name: str, uid: str, node_name: str) -> None:
        """Gives a pod its node for good. Conflict if it has one, or the uid is another's."""
        ...

    async def review_token(self, token: str, audience: str) -> Object:
        """The status of a TokenReview: whose token it is, if it is one and for this audience."""
        ...

    def read_log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool = False,
        timestamps: bool = False,
        since_time: str = "",
        previous: bool = False,
        limit_bytes: int | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A container's output in chunks of any size, both streams in one. `since_time` (RFC 3339)
        counts in whole seconds. Before the container has started: ApiError with status 400."""
        ...


def error_of(status: int, reason: str, message: str, *, retry_after: float = 0.0) -> ApiError:
    """The exception for an answer of the server."""
    if status == 429 or status >= 500:
        return Unavailable(
            status, reason, message, retry_after=retry_after, untouched=status == 429
        )
    kinds = {401: Refused, 403: Refused, 404: NotFound, 409: Conflict, 410: Gone, 422: Refused}
    return kinds.get(status, ApiError)(status, reason, message)


def error_of_status(
    status: Object, *, http_status: int = 500, retry_after: float = 0.0
) -> ApiError:
    """The exception for a `Status` object, from an answer's body or an ERROR of a watch."""
    code = status.get("code")
    details = status.get("details") or {}
    return error_of(
        code if isinstance(code, int) and code > 0 else http_status,
        str(status.get("reason") or "Unknown"),
        str(status.get("message") or "the server gave no reason"),
        retry_after=max(retry_after, float(details.get("retryAfterSeconds") or 0)),
    )
