"""Around every RPC: who calls, may they, and what an error becomes on the wire."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from controlplane.core.cluster import Cluster
from controlplane.domain.errors import DomainError, PermissionDenied
from controlplane.job_tokens import JobTokens
from controlplane.rpc.access import ACCESS, Access
from controlplane.rpc.caller import (
    DaemonAccounts,
    identify,
    identify_observer,
    set_caller,
)
from controlplane.rpc.errors import INTERNAL_MESSAGE, status_code, trailing_metadata

logger = logging.getLogger(__name__)


async def abort(context: Any, error: DomainError) -> None:
    """Ends the call with the error's status."""
    await context.abort(status_code(error), error.message, trailing_metadata(error))


class Gatekeeper(grpc.aio.ServerInterceptor):
    """Identifies the caller, refuses what the access table does not allow, maps errors once.

    Handlers are wrapped once per method, not per call.
    """

    def __init__(
        self,
        cluster: Callable[[], Cluster],
        job_tokens: JobTokens,
        now: Callable[[], float],
        accounts: DaemonAccounts | None = None,
    ) -> None:
        """`accounts`: of daemons that observe nodes of Kubernetes; None: there are none."""
        self._accounts = accounts
        self._cluster = cluster
        self._job_tokens = job_tokens
        self._now = now
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method = handler_call_details.method
        handler = self._wrapped.get(method)
        if handler is None:
            inner = await continuation(handler_call_details)
            if inner is None:
                return None
            handler = self._wrapped[method] = self._wrap(inner, ACCESS.get(method))
        return handler

    async def _admit(self, context: Any, access: Access | None) -> None:
        if access is None:
            raise PermissionDenied("This method is in no access table.", reason="METHOD_CLOSED")
        if access is Access.ANYONE:
            return
        authorization = None
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                authorization = value
        caller = await identify_observer(self._accounts, authorization, access)
        if caller is None:
            caller = identify(self._cluster(), self._job_tokens, authorization, access, self._now())
        set_caller(caller)

    def _wrap(self, inner: Any, access: Access | None) -> Any:
        codec = {
            "request_deserializer": inner.request_deserializer,
            "response_serializer": inner.response_serializer,
        }
        if inner.response_streaming:
            serve_stream = inner.stream_stream if inner.request_streaming else inner.unary_stream

            async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
                try:
                    await self._admit(context, access)
                    async for answer in serve_stream(request, context):
                        yield answer
                except DomainError as error:
                    await abort(context, error)
                except grpc.aio.AbortError:
                    raise
                except Exception:
                    logger.exception("unexpected error")
                    await context.abort(grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)

            make = (
                grpc.stream_stream_rpc_method_handler
                if inner.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(stream, **codec)

        serve = inner.stream_unary if inner.request_streaming else inner.unary_unary

        async def unary(request: Any, context: Any) -> Any:
            try:
                await self._admit(context, access)
                return await serve(request, context)
            except DomainError as error:
                await abort(context, error)
            except grpc.aio.AbortError:
                raise
            except Exception:
                logger.exception("unexpected error")
                await context.abort(grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE)

        make_unary = (
            grpc.stream_unary_rpc_method_handler
            if inner.request_streaming
            else grpc.unary_unary_rpc_method_handler
        )
        return make_unary(unary, **codec)
