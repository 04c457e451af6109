"""A bare gRPC server in a process of its own: what this machine can do when nothing is done.

Echo (unary, bytes as they are), Flow (streams equal messages), and DaemonService.Session as a
fan-in that reads and parses what daemons say and drops it. Prints its port; ends with its standard
input.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from riseml.v1 import daemon_service_pb2 as pb

FLOW = "/riseml.bench.Bare/Flow"
ECHO = "/riseml.bench.Bare/Echo"


async def _echo(request: bytes, context: Any) -> bytes:
    return request


async def _flow(request: bytes, context: Any) -> AsyncIterator[bytes]:
    """`COUNT SIZE`: so many messages of so many bytes."""
    count, size = map(int, request.split())
    message = b"x" * size
    for _ in range(count):
        yield message


async def _session(
    requests: AsyncIterator[pb.SessionRequest], context: Any
) -> AsyncIterator[pb.SessionResponse]:
    """Reads and parses what a daemon says, and does nothing with it."""
    async for request in requests:
        if request.HasField("hello"):
            yield pb.SessionResponse(
                welcome=pb.Welcome(cluster_id="bare", heartbeat_interval_milliseconds=1000)
            )


async def serve() -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, Any] = {
        "Echo": grpc.unary_unary_rpc_method_handler(_echo),
        "Flow": grpc.unary_stream_rpc_method_handler(_flow),
    }
    session: Any = grpc.stream_stream_rpc_method_handler(
        _session,
        request_deserializer=pb.SessionRequest.FromString,
        response_serializer=pb.SessionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("riseml.bench.Bare", handlers),
            grpc.method_handlers_generic_handler("riseml.v1.DaemonService", {"Session": session}),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(serve())
