"""A small Kubernetes API server that really speaks HTTP, on a port of its own, and fails on order.

It holds what the launcher leans on: versions that only grow, pages of one snapshot, watches with
bookmarks, selectors, uid preconditions, bindings, deletion with a grace period, and logs as a
kubelet sends them. There is no kubelet: tests play it (`set_status`, `finish`, `FakeLog`).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from riseml import cri
from tests.unit.kubernetes.fake_objects import FakeObjects, refused, status_of

_END, _CUT = "end", "cut"


@dataclass
class Fault:
    """What becomes of the next request of a verb, once."""

    verb: str
    status: int = 0
    reason: str = "InternalError"
    message: str = "a fault on order"
    retry_after: int = 0
    reset: bool = False
    acted: bool = False
    """The reset comes after the request was acted upon: the answer is lost."""
    skip: int = 0
    """So many requests go well before it."""
    hold: asyncio.Event | None = None
    """The answer waits for it."""


@dataclass
class Request:
    verb: str
    path: str
    query: dict[str, str]
    body: Any


@dataclass
class FakeLog:
    """One container's log file, as the kubelet reads it."""

    lines: list[tuple[int, bytes, bool]] = field(default_factory=list)
    ended: bool = False
    streams: list[asyncio.Queue[str]] = field(default_factory=list)

    def write(self, time_ns: int, text: bytes, *, partial: bool = False) -> None:
        self.lines.append((time_ns, text, partial))
        self.tell("")

    def rotate(self) -> None:
        """The file is moved away; those who follow have read it."""
        self.lines = []

    def end(self) -> None:
        self.ended = True
        self.tell("")

    def end_streams(self) -> None:
        self.tell(_END)

    def cut_streams(self) -> None:
        self.tell(_CUT)

    def tell(self, word: str) -> None:
        for stream in self.streams:
            stream.put_nowait(word)


class FakeApi(FakeObjects):
    """`async with FakeApi() as server:`; `server.kubeconfig(folder)` leads to it."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.logs: dict[tuple[str, str], FakeLog] = {}
        self.token = ""
        # What a TokenReview says, by token; of others it says no.
        self.reviews: dict[str, dict[str, Any]] = {}
        self._watches: list[asyncio.Queue[str]] = []
        self._asked = asyncio.Condition()

    async def __aenter__(self) -> FakeApi:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for stream in [*self._watches, *(s for log in self.logs.values() for s in log.streams)]:
            stream.put_nowait(_CUT)
        await self._runner.cleanup()

    def kubeconfig(self, folder: Path, token: str = "") -> str:
        """Writes a file that leads here."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"token": token} if token else {}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config))
        return str(path)

    # ---------------------------------------------------------------- what tests order and await
    def fail(self, verb: str, status: int = 0, **how: Any) -> Fault:
        fault = Fault(verb, status, **how)
        self.faults.append(fault)
        return fault

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for what requests bring about."""
        async with self._asked:
            await self._asked.wait_for(condition)

    async def until_watched(self) -> None:
        await self.until(lambda: bool(self._watches))

    def asked(self, verb: str) -> list[Request]:
        return [request for request in self.requests if request.verb == verb]

    def bookmark(self) -> None:
        about = {"metadata": {"resourceVersion": str(self.revision)}}
        self._tell_watches(json.dumps({"type": "BOOKMARK", "object": about}))

    def send_error(self, code: int, reason: str) -> None:
        self._tell_watches(
            json.dumps({"type": "ERROR", "object": status_of(code, reason, "ordered")})
        )

    def send_raw(self, event: str) -> None:
        self._tell_watches(event)

    def end_watches(self) -> None:
        self._tell_watches(_END)

    def cut_watches(self) -> None:
        self._tell_watches(_CUT)

    def _changed(self) -> None:
        self._tell_watches("")

    def _tell_watches(self, word: str) -> None:
        for watch in self._watches:
            watch.put_nowait(word)

    # ---------------------------------------------------------------------------------- requests
    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/apis/authentication.k8s.io/v1/tokenreviews":
            return await self._review(request)
        match = re.fullmatch(
            r"/api/v1(?:/namespaces/([^/]+))?/(\w+)(?:/([^/]+))?(?:/(\w+))?", request.path
        )
        if match is None:
            return refused(404, "NotFound", request.path)
        namespace, resource, name, sub = (part or "" for part in match.groups())
        query = dict(request.query)
        verb = self._verb(request.method, name, sub, query)
        body = await request.json() if request.can_read_body else None
        async with self._asked:
            self.requests.append(Request(verb, request.path, query, body))
            self._asked.notify_all()
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return refused(401, "Unauthorized", "who is that?")
        fault = next((fault for fault in self.faults if fault.verb == verb), None)
        if fault is not None and fault.skip:
            fault.skip -= 1
            fault = None
        if fault is not None:
            self.faults.remove(fault)
            if fault.hold is not None:
                await fault.hold.wait()
            if fault.status:
                return refused(fault.status, fault.reason, fault.message, fault.retry_after)
            if fault.reset and not fault.acted:
                return _cut_off(request)
        if verb == "watch":
            return await self._watch(request, resource, namespace)
        if verb == "log":
            return await self._log(request, self.logs.get((name, query["container"])))
        answer = self.act(verb, resource, namespace, name, query, body)
        return _cut_off(request) if fault is not None and fault.reset else answer

    async def _review(self, request: web.Request) -> web.Response:
        asked = (await request.json())["spec"]
        status = self.reviews.get(asked["token"], {"authenticated": False})
        if status.get("authenticated"):
            status = {**status, "audiences": asked["audiences"]}
        return web.json_response({"kind": "TokenReview", "status": status}, status=201)

    def _verb(self, method: str, name: str, sub: str, query: dict[str, str]) -> str:
        if sub:
            return {"binding": "bind"}.get(sub, sub)
        if method == "GET":
            return "get" if name else "watch" if query.get("watch") == "true" else "list"
        return {"POST": "create", "PATCH": "patch", "DELETE": "delete"}[method]

    # ----------------------------------------------------------------------------------- streams
    async def _watch(
        self, request: web.Request, resource: str, namespace: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        told = int(request.query["resourceVersion"])
        if told < self.oldest_revision:
            gone = {
                "type": "ERROR",
                "object": status_of(410, "Expired", "too old resource version"),
            }
            await response.write(json.dumps(gone).encode() + b"\n")
            return response
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._watches.append(queue)
        async with self._asked:
            self._asked.notify_all()
        word = ""
        try:
            while word not in (_END, _CUT):
                for revision, event in self.events(told, resource, namespace, dict(request.query)):
                    told = revision
                    await response.write(json.dumps(event).encode() + b"\n")
                if word:
                    await response.write(word.encode() + b"\n")
                word = await queue.get()
            if word == _CUT and request.transport is not None:
                await response.write(b'{"type": "MODIF')
                request.transport.abort()
        finally:
            self._watches.remove(queue)
        return response

    async def _log(self, request: web.Request, log: FakeLog | None) -> web.StreamResponse:
        if log is None:
            return refused(400, "BadRequest", "container is waiting to start: ContainerCreating")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        since_ns, queue, word = _since_ns(request.query), asyncio.Queue[str](), ""
        log.streams.append(queue)
        async with self._asked:
            self._asked.notify_all()
        file, at, new_line = log.lines, 0, True
        try:
            while word not in (_END, _CUT):
                if file is not log.lines:
                    file, at, new_line = log.lines, 0, True
                while at < len(file):
                    time_ns, text, partial = file[at]
                    at += 1
                    if time_ns >= since_ns:
                        stamp = cri.format_time(time_ns) + b" " if new_line else b""
                        await response.write(stamp + text + (b"" if partial else b"\n"))
                    new_line = not partial
                if log.ended or request.query.get("follow") != "true":
                    break
                word = await queue.get()
            if word == _CUT and request.transport is not None:
                request.transport.abort()
        finally:
            log.streams.remove(queue)
        return response


def _since_ns(query: Any) -> int:
    since = query.get("sinceTime", "")
    return cri.parse_line(since.encode() + b" stdout F ").time_ns if since else 0


def _cut_off(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
