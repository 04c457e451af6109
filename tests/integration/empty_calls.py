"""Calls with empty requests: whether a credential is let in shows before anything is read."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any, TypeAlias

import grpc

import riseml.v1

Method: TypeAlias = tuple[str, bool, bool]
"""Path, whether requests are a stream, whether answers are."""


def methods() -> list[Method]:
    """Every method of the contract."""
    found = []
    for module in pkgutil.iter_modules(riseml.v1.__path__):
        if module.name.endswith("_pb2"):
            descriptor = importlib.import_module(f"riseml.v1.{module.name}").DESCRIPTOR
            for service in descriptor.services_by_name.values():
                found += [
                    (f"/{service.full_name}/{m.name}", m.client_streaming, m.server_streaming)
                    for m in service.methods
                ]
    return found


def call_empty(
    connection: grpc.Channel, method: Method, key: str | None
) -> tuple[grpc.StatusCode, bytes]:
    """Calls a method with an empty request: the code, and the rich status behind it."""
    # Raw bytes in and out: the stubs of grpcio know no calls without serializers.
    channel: Any = connection
    path, streams_in, streams_out = method
    metadata = (("authorization", f"Bearer {key}"),) if key is not None else ()
    try:
        if streams_in and streams_out:
            list(channel.stream_stream(path)(iter(()), timeout=10, metadata=metadata))
        elif streams_in:
            channel.stream_unary(path)(iter(()), timeout=10, metadata=metadata)
        elif streams_out:
            next(iter(channel.unary_stream(path)(b"", timeout=2, metadata=metadata)), None)
        else:
            channel.unary_unary(path)(b"", timeout=10, metadata=metadata)
    except grpc.RpcError as error:
        trailing: Any = error.trailing_metadata() or ()
        details = dict(trailing).get("grpc-status-details-bin", b"")
        return error.code(), details
    return grpc.StatusCode.OK, b""
