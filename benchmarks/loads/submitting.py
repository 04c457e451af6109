"""A client that submits jobs and sees them end through the watch, as a user's program would.

    TARGET COUNT IN_FLIGHT CPU_MILLI     COUNT `true` jobs, one CreateExperiment each
    TARGET COUNT set CPU_MILLI           one set of COUNT children, 64 at once

Prints seconds from the first submission to the last FINISHED seen, and the ids. Fails where one
ends in another state.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from typing import Any

import grpc
import grpc.aio

from benchmarks.loads.calling import in_flight
from benchmarks.loads.jobs import true_job
from riseml.v1 import experiment_service_pb2 as pb
from riseml.v1 import spec_pb2, state_pb2

DEADLINE_SECONDS = 240
SERVICE = "/riseml.v1.ExperimentService/"


class Watched:
    """What the watch has told so far."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self.finished: set[str] = set()
        self.messages = 0
        self.all_finished = asyncio.Event()
        self.last_seen = 0.0

    async def follow(self, stream: Any) -> None:
        async for answer in stream:
            self.messages += 1
            experiment = answer.experiment
            if experiment.HasField("set"):
                continue
            if experiment.state == state_pb2.STATE_FINISHED:
                self.finished.add(experiment.id)
                if len(self.finished) == self._wanted:
                    self.last_seen = time.perf_counter()
                    self.all_finished.set()
            elif experiment.state in (state_pb2.STATE_FAILED, state_pb2.STATE_KILLED):
                raise RuntimeError(f"{experiment.id} failed: {experiment.message}")


async def submit(channel: grpc.aio.Channel, count: int, width: int | None, cpu_milli: int) -> None:
    metadata = (("authorization", f"Bearer {os.environ['RISEML_API_KEY']}"),)
    create: Any = channel.unary_unary(
        f"{SERVICE}CreateExperiment",
        request_serializer=pb.CreateExperimentRequest.SerializeToString,
        response_deserializer=pb.CreateExperimentResponse.FromString,
    )
    listing: Any = channel.unary_unary(
        f"{SERVICE}ListExperiments",
        request_serializer=pb.ListExperimentsRequest.SerializeToString,
        response_deserializer=pb.ListExperimentsResponse.FromString,
    )
    watching: Any = channel.unary_stream(
        f"{SERVICE}WatchExperiments",
        request_serializer=pb.WatchExperimentsRequest.SerializeToString,
        response_deserializer=pb.WatchExperimentsResponse.FromString,
    )
    spec = true_job(cpu_milli)
    now = await listing(pb.ListExperimentsRequest(page_size=1), metadata=metadata)
    request = pb.WatchExperimentsRequest(change_number=now.change_number)
    watched = Watched(count)
    follow = asyncio.create_task(watched.follow(watching(request, metadata=metadata)))

    async def call() -> bool:
        await create(
            pb.CreateExperimentRequest(request_id=uuid.uuid4().hex, spec=spec), metadata=metadata
        )
        return True

    begin = time.perf_counter()
    if width is None:
        spec.parameters.append(
            spec_pb2.ParameterValues(name="n", values=[str(n) for n in range(count)])
        )
        spec.concurrency = 64
        await call()
    else:
        await in_flight(count, width, call)
    submitted = time.perf_counter()
    complete = asyncio.create_task(watched.all_finished.wait())
    done, _ = await asyncio.wait(
        {complete, follow}, timeout=DEADLINE_SECONDS, return_when=asyncio.FIRST_COMPLETED
    )
    if follow in done:
        follow.result()
    if complete not in done:
        raise RuntimeError(f"{len(watched.finished)} of {count} finished, then the watch ended")
    follow.cancel()
    result = {
        "seconds": watched.last_seen - begin,
        "submit_seconds": submitted - begin,
        "watch_messages": watched.messages,
        "ids": sorted(watched.finished),
    }
    sys.stdout.write(json.dumps(result) + "\n")


async def main(target: str, count: str, width: str, cpu_milli: str) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        await asyncio.wait_for(channel.channel_ready(), 20)
        await submit(channel, int(count), None if width == "set" else int(width), int(cpu_milli))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
