"""A client at a server's limit: so many unary calls in flight, or one stream read to its end.

    echo   TARGET COUNT IN_FLIGHT        calls/s of the bare echo
    flow   TARGET COUNT SIZE             messages/s of one bare stream
    create TARGET COUNT IN_FLIGHT        CreateExperiment, one per call, each with a request id of
    its
                                         own; the id of each answer is written to standard error at
                                         once, so that a reader knows what was acknowledged

RISEML_API_KEY is the credential of `create`. `create` ends without a fault when the server goes
away.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from benchmarks.loads.jobs import true_job
from benchmarks.loads.serving import ECHO, FLOW
from riseml.v1 import experiment_service_pb2 as pb

PAYLOAD = b"x" * 128


async def in_flight(count: int, width: int, call: Callable[[], Awaitable[bool]]) -> int:
    """Makes `count` calls, `width` at a time; returns how many succeeded. Stops at a failure."""
    left, succeeded, failed = count, 0, False

    async def work() -> None:
        nonlocal left, succeeded, failed
        while left > 0 and not failed:
            left -= 1
            if await call():
                succeeded += 1
            else:
                failed = True

    await asyncio.gather(*(work() for _ in range(width)))
    return succeeded


async def echo(channel: grpc.aio.Channel, count: int, width: int) -> dict[str, Any]:
    method: Any = channel.unary_unary(ECHO)

    async def call() -> bool:
        await method(PAYLOAD)
        return True

    await in_flight(width * 8, width, call)
    begin = time.perf_counter()
    done = await in_flight(count, width, call)
    return {"per_second": done / (time.perf_counter() - begin)}


async def flow(channel: grpc.aio.Channel, count: int, size: int) -> dict[str, Any]:
    method: Any = channel.unary_stream(FLOW)
    async for _ in method(b"100 %d" % size):
        pass
    begin = time.perf_counter()
    received = 0
    async for message in method(b"%d %d" % (count, size)):
        received += len(message)
    return {"per_second": received / size / (time.perf_counter() - begin)}


async def create(channel: grpc.aio.Channel, count: int, width: int) -> dict[str, Any]:
    method: Any = channel.unary_unary(
        "/riseml.v1.ExperimentService/CreateExperiment",
        request_serializer=pb.CreateExperimentRequest.SerializeToString,
        response_deserializer=pb.CreateExperimentResponse.FromString,
    )
    spec = true_job(cpu_milli=100)
    metadata = (("authorization", f"Bearer {os.environ['RISEML_API_KEY']}"),)

    async def call() -> bool:
        request = pb.CreateExperimentRequest(request_id=uuid.uuid4().hex, spec=spec)
        try:
            answer = await method(request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return False
            raise
        os.write(2, answer.experiment.id.encode() + b"\n")
        return True

    begin = time.perf_counter()
    done = await in_flight(count, width, call)
    seconds = time.perf_counter() - begin
    return {"per_second": done / seconds, "done": done, "seconds": seconds}


MODES = {"echo": echo, "flow": flow, "create": create}


async def main(mode: str, target: str, count: str, width: str) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        await asyncio.wait_for(channel.channel_ready(), 20)
        result = await MODES[mode](channel, int(count), int(width))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
