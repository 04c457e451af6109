"""One channel to one control plane: the credential on every call, deadlines, repetition, errors of
our own tree.

Plain text is for loopback only; anything else is TLS, checked against the CA of the credentials or
the system's. The stubs' classes are not used: a call is its name, its request and the type of its
answer.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

import grpc
from google.protobuf.message import Message

from riseml.credentials import Credentials
from riseml.errors import RisemlError, Unavailable, from_rpc_error
from riseml.retry import CALL, Backoff, may_repeat

CALL_SECONDS: Final = 30.0
"""Deadline of a single call."""

MAX_RECEIVE_BYTES: Final = 32 << 20
KEEPALIVE_MS: Final = 30_000

Answer = TypeVar("Answer", bound=Message)
Answer_co = TypeVar("Answer_co", bound=Message, covariant=True)


class AnswerStream(Protocol[Answer_co]):
    """Answers as they come. Iterating raises RisemlError; ``cancel`` ends it from any thread."""

    def __iter__(self) -> Iterator[Answer_co]: ...

    def cancel(self) -> None:
        """End the call; the iterator stops."""
        ...


def client_version() -> str:
    """Version of this installation; ``0`` where it runs from plain sources."""
    try:
        return importlib.metadata.version("riseml-platform")
    except importlib.metadata.PackageNotFoundError:
        return "0"


class Transport:
    """Calls to one server as one user. Safe to use from several threads; connects when first
    used.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        backoff: Backoff = CALL,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server = credentials.server
        self._backoff = backoff
        self._sleep = sleep
        self._metadata = (("authorization", f"Bearer {credentials.api_key}"),)
        self._channel = _open_channel(credentials)

    def close(self) -> None:
        """End all calls and the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def is_serving(self, seconds: float = 2.0) -> bool:
        """Whether the server says that it is ready (grpc.health.v1); needs no credential."""
        check: Any = self._channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            # An empty request asks for the whole server; the answer's one field is SERVING = 1.
            return bool(check(b"", timeout=seconds) == b"\x08\x01")
        except grpc.RpcError:
            return False

    def call(
        self,
        service: str,
        method: str,
        request: Message,
        answer: type[Answer],
        *,
        seconds: float = CALL_SECONDS,
    ) -> Answer:
        """One request, one answer, within ``seconds``; repeated after UNAVAILABLE where that is
        harmless.

        Raises RisemlError.
        """
        send: Any = self._channel.unary_unary(
            f"/riseml.v1.{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        has_id = bool(getattr(request, "request_id", ""))
        backoff = self._backoff if may_repeat(method, has_id) else Backoff(tries=1)
        pauses = backoff.pauses()
        while True:
            try:
                received: Answer = send(request, timeout=seconds, metadata=self._metadata)
                return received
            except ValueError as error:
                raise self._closed() from error
            except grpc.RpcError as error:
                failure = from_rpc_error(error, server=self.server, method=method)
                pause = next(pauses, None) if isinstance(failure, Unavailable) else None
                if pause is None:
                    raise failure from error
            self._sleep(pause)

    def stream(
        self,
        service: str,
        method: str,
        request: Message,
        answer: type[Answer],
        *,
        seconds: float | None = None,
    ) -> AnswerStream[Answer]:
        """One request, many answers; no deadline unless given. Not repeated: only the reader knows
        where it was.
        """
        send: Any = self._channel.unary_stream(
            f"/riseml.v1.{service}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            call = send(request, timeout=seconds, metadata=self._metadata)
        except ValueError as error:
            raise self._closed() from error
        return _Stream(call, self.server, method)

    def upload(
        self,
        service: str,
        method: str,
        requests: Iterable[Message],
        request: type[Message],
        answer: type[Answer],
        *,
        seconds: float,
    ) -> Answer:
        """Many requests, one answer. An error that ``requests`` itself raises comes through
        unchanged.
        """
        send: Any = self._channel.stream_unary(
            f"/riseml.v1.{service}/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        source = _Source(requests)
        try:
            received: Answer = send(iter(source), timeout=seconds, metadata=self._metadata)
            return received
        except ValueError as error:
            raise self._closed() from error
        except grpc.RpcError as error:
            if source.failure is not None:
                raise source.failure from error
            raise from_rpc_error(error, server=self.server, method=method) from error

    def _closed(self) -> Unavailable:
        """gRPC raises ValueError for a call on a channel that this side has closed."""
        return Unavailable(f"The connection to {self.server} was closed here.")


class _Source:
    """Requests of an upload; gRPC swallows what an iterator raises, so it is kept here."""

    def __init__(self, requests: Iterable[Message]) -> None:
        self._requests = requests
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[Message]:
        try:
            yield from self._requests
        except (RisemlError, OSError) as error:
            self.failure = error
            raise


class _Stream:
    """Answers of a stream with gRPC's errors turned into ours."""

    def __init__(self, call: Any, server: str, method: str) -> None:
        self._call = call
        self._server = server
        self._method = method
        self._cancelled = False

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._call
        except grpc.RpcError as error:
            if not self._cancelled:
                raise from_rpc_error(error, server=self._server, method=self._method) from error
        finally:
            self._call.cancel()

    def cancel(self) -> None:
        self._cancelled = True
        self._call.cancel()


def _open_channel(credentials: Credentials) -> grpc.Channel:
    options: list[tuple[str, Any]] = [
        ("grpc.primary_user_agent", f"riseml/{client_version()}"),
        ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_MS // 2),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    if credentials.loopback:
        options.append(("grpc.enable_http_proxy", 0))
        if not credentials.ca_pem:
            return grpc.insecure_channel(credentials.server, options=options)
    secure = grpc.ssl_channel_credentials(
        root_certificates=credentials.ca_pem.encode("ascii") or None
    )
    return grpc.secure_channel(credentials.server, secure, options=options)
