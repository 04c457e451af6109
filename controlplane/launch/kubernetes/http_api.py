"""The Kubernetes API over HTTP: the connection, credentials and timeouts of `kubernetes.aio`, and
bodies that are plain JSON.

Its typed calls are left alone: some raise after the server said yes (bindings), all drop fields
that they do not know. `kubernetes` is imported when a connection is made, for it costs half a
second and 50 MB that other launchers need not pay.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

from controlplane.launch.kubernetes.api import (
    ApiError,
    Kind,
    Object,
    Page,
    Unavailable,
    WatchEvent,
    error_of,
    error_of_status,
)
from riseml.retry import Backoff

CONNECT_SECONDS: Final = 10.0
CALL_SECONDS: Final = 60.0
# A quiet watch has a bookmark every minute, so a longer silence is a dead connection.
QUIET_WATCH_SECONDS: Final = 150.0
WATCH_GRACE_SECONDS: Final = 15.0
# A job may say nothing for hours; reading its log anew costs the lines of its last seconds.
QUIET_LOG_SECONDS: Final = 300.0
LONGEST_RETRY_AFTER: Final = 30.0
CALLS: Final = Backoff(first_seconds=0.2, most_seconds=5.0, tries=4)

Query = Sequence[tuple[str, str]]


class KubernetesApi:
    """One cluster; implements `Api`. Use it as a context manager: it connects and closes.

    What may be done twice is tried again for a few seconds, and whatever the server turned away
    untouched. Streams are not: who reads one knows where to go on.
    """

    def __init__(
        self,
        kubeconfig: str = "",
        *,
        backoff: Backoff = CALLS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        """`kubeconfig` is a file; empty: the service account of the pod that we run in."""
        self._kubeconfig = kubeconfig
        self._backoff = backoff
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._client: Any = None

    async def __aenter__(self) -> KubernetesApi:
        from kubernetes.aio.client import ApiClient, Configuration

        configuration = Configuration()
        # Each log that is followed holds a connection; a limit would make other calls wait for it.
        configuration.connection_pool_maxsize = 0
        await self._load_credentials(configuration)
        self._client = ApiClient(configuration)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    # ------------------------------------------------------------------------------ objects
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
        query = _given(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=str(limit) if limit else "",
            resourceVersion=resource_version,
            **{"continue": continue_token},
        )
        found = await self._call("GET", _path(kind, namespace), query=query)
        about = found.get("metadata") or {}
        return Page(
            found.get("items") or [],
            str(about.get("resourceVersion") or ""),
            str(about.get("continue") or ""),
        )

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        return await self._call("GET", _path(kind, namespace, name))

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        return await self._call("POST", _path(kind, namespace), body=body, repeatable=False)

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        return await self._call(
            "PATCH",
            _path(kind, namespace, name),
            body=patch,
            content_type="application/merge-patch+json",
        )

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str,
        grace_period_seconds: int | None = None,
    ) -> None:
        options: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        await self._call("DELETE", _path(kind, namespace, name), body=options)

    async def bind_pod(self, namespace: str, name: str, uid: str, node_name: str) -> None:
        binding: Object = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node_name},
        }
        path = _path(Kind.POD, namespace, name) + "/binding"
        await self._call("POST", path, body=binding, repeatable=False)

    async def review_token(self, token: str, audience: str) -> Object:
        review: Object = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        status: Object = (await self._call("POST", path, body=review)).get("status") or {}
        return status

    # ------------------------------------------------------------------------------ streams
    @contextlib.asynccontextmanager
    async def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        timeout_seconds: int,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        query = _given(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            timeoutSeconds=str(timeout_seconds),
            labelSelector=label_selector,
            fieldSelector=field_selector,
        )
        limits = (timeout_seconds + WATCH_GRACE_SECONDS, QUIET_WATCH_SECONDS)
        async with (
            self._open("GET", _path(kind, namespace), query=query, limits=limits) as response,
            contextlib.aclosing(_events(_chunks(response))) as events,
        ):
            yield events

    @contextlib.asynccontextmanager
    async def read_log(
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
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        query = _given(
            container=container,
            follow="true" if follow else "",
            timestamps="true" if timestamps else "",
            sinceTime=since_time,
            previous="true" if previous else "",
            limitBytes="" if limit_bytes is None else str(limit_bytes),
        )
        path = _path(Kind.POD, namespace, pod) + "/log"
        limits = (None, QUIET_LOG_SECONDS)
        async with (
            self._open("GET", path, query=query, limits=limits, accept="*/*") as response,
            contextlib.aclosing(_chunks(response)) as chunks,
        ):
            yield chunks

    # ----------------------------------------------------------------------------- requests
    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Object | None = None,
        content_type: str = "application/json",
        repeatable: bool = True,
    ) -> Object:
        pauses = self._backoff.pauses(self._rng)
        while True:
            try:
                async with self._open(
                    method, path, query=query, body=body, content_type=content_type
                ) as response:
                    with _translated():
                        answer: Object = json.loads(await response.read())
                return answer
            except Unavailable as error:
                pause = next(pauses, None)
                may_repeat = repeatable or error.untouched
                if pause is None or not may_repeat or error.retry_after > LONGEST_RETRY_AFTER:
                    raise
                await self._sleep(max(pause, error.retry_after))

    @contextlib.asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: Object | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        limits: tuple[float | None, float | None] = (CALL_SECONDS, None),
    ) -> AsyncIterator[Any]:
        """A response that says yes, not read yet. `limits`: seconds in all, and of silence."""
        response = await self._send(method, path, query, body, content_type, accept, limits)
        try:
            if response.status == 401:
                # Tokens of a kubeconfig end: a file is rotated, a plugin is asked again.
                response.close()
                await self._load_credentials(self._client.configuration)
                response = await self._send(method, path, query, body, content_type, accept, limits)
            if response.status >= 400:
                with _translated():
                    text = await response.read()
                raise _refusal(response.status, response.reason, response.headers, text)
            yield response
        finally:
            # A response that was read to its end has given its connection back.
            response.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: Query,
        body: Object | None,
        content_type: str,
        accept: str,
        limits: tuple[float | None, float | None],
    ) -> Any:
        import aiohttp

        timeout = aiohttp.ClientTimeout(
            total=limits[0], sock_connect=CONNECT_SECONDS, sock_read=limits[1]
        )
        headers = {"Accept": accept, "Content-Type": content_type}
        with _translated():
            request = await self._client.param_serialize(
                method,
                path,
                query_params=list(query),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._client.call_api(*request, _request_timeout=timeout)
        return answer.response

    async def _load_credentials(self, configuration: Any) -> None:
        from kubernetes.aio import config as typed

        config: Any = typed
        try:
            if self._kubeconfig:
                await config.load_kube_config(
                    self._kubeconfig, client_configuration=configuration, persist_config=False
                )
            else:
                # Leaves a hook that reads the token again every minute: the kubelet rotates it.
                config.load_incluster_config(configuration)
        except (config.ConfigException, OSError) as fault:
            place = self._kubeconfig or "the service account of this pod"
            raise ApiError(
                0, "NoCredentials", f"{place} does not tell how to reach Kubernetes: {fault}"
            ) from fault


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    where = f"/namespaces/{quote(namespace, safe='')}" if namespace and kind.namespaced else ""
    return f"/api/v1{where}/{kind.value}" + (f"/{quote(name, safe='')}" if name else "")


def _given(**query: str) -> Query:
    return [(name, value) for name, value in query.items() if value]


async def _chunks(response: Any) -> AsyncGenerator[bytes, None]:
    while True:
        with _translated():
            chunk: bytes = await response.content.readany()
        if not chunk:
            return
        yield chunk


async def _events(chunks: AsyncIterator[bytes]) -> AsyncGenerator[WatchEvent, None]:
    """One JSON text per line. A rest without its newline is what was cut off; it comes again."""
    held = b""
    async for chunk in chunks:
        *lines, held = (held + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                try:
                    event = json.loads(line)
                    told = WatchEvent(event["type"], event["object"])
                except (ValueError, LookupError, TypeError) as fault:
                    raise Unavailable(
                        0, "Garbled", f"a watch sent what is no event: {line[:80]!r}"
                    ) from fault
                yield told


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Makes Unavailable of what goes wrong on the way. Holds no code of a caller, whose errors
    would be taken for the connection's."""
    import aiohttp
    from kubernetes.aio.config import ConfigException

    try:
        yield
    except (aiohttp.ClientError, ConfigException, OSError, ValueError) as fault:
        raise Unavailable(
            0,
            type(fault).__name__,
            f"the Kubernetes API cannot be reached: {str(fault) or type(fault).__name__}",
            untouched=isinstance(fault, aiohttp.ClientConnectorError),
        ) from fault


def _refusal(status: int, reason: str | None, headers: Any, text: bytes) -> ApiError:
    try:
        retry_after = float(headers.get("Retry-After") or 0)
    except ValueError:
        retry_after = 0.0
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if isinstance(told, dict) and told.get("kind") == "Status":
        return error_of_status(told, http_status=status, retry_after=retry_after)
    message = text[:500].decode("utf-8", "replace").strip() or str(reason)
    return error_of(status, str(reason), message, retry_after=retry_after)
