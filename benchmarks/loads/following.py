"""Follows the log of one experiment to its end and says what came, and when.

    TARGET ID rate     bytes, lines and SHA-256 of the job's output; seconds from the first to the
    last
                       chunk; whether offsets were contiguous
    TARGET ID lag      lines that begin with the nanosecond at which they were printed: how long
    after
                       that each was received, p50 and p99 in ms

While it is measured it only receives; what came is taken apart afterwards, as nothing is done with
the messages of the bare stream either.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from typing import Any

import grpc
import grpc.aio

from benchmarks.report import percentile
from riseml.cri import CriDecoder, payload
from riseml.v1 import log_service_pb2 as pb


class Gap(Exception):
    """A byte is missing, or came twice."""


async def receive(channel: grpc.aio.Channel, experiment_id: str) -> list[tuple[int, bytes]]:
    """(time of receipt in ns, bytes) of each chunk. Raises Gap."""
    tail: Any = channel.unary_stream(
        "/riseml.v1.LogService/TailLogs",
        request_serializer=pb.TailLogsRequest.SerializeToString,
        response_deserializer=pb.TailLogsResponse.FromString,
    )
    request = pb.TailLogsRequest(id=experiment_id, follow=True)
    metadata = (("authorization", f"Bearer {os.environ['RISEML_API_KEY']}"),)
    chunks: list[tuple[int, bytes]] = []
    end = 0
    async for answer in tail(request, metadata=metadata):
        if answer.HasField("chunk"):
            if answer.chunk.offset != end:
                raise Gap(f"expected offset {end}, got {answer.chunk.offset}")
            end += len(answer.chunk.data)
            chunks.append((time.time_ns(), answer.chunk.data))
        elif answer.HasField("gap"):
            raise Gap(f"a gap of {answer.gap.length_bytes} bytes")
        elif answer.eof.final_offset != end:
            raise Gap(f"the log has {answer.eof.final_offset} bytes, {end} came")
    return chunks


def rate(chunks: list[tuple[int, bytes]]) -> dict[str, Any]:
    output = payload(b"".join(data for _, data in chunks))
    return {
        "seconds": (chunks[-1][0] - chunks[0][0]) / 1e9,
        "first_ns": chunks[0][0],
        "last_ns": chunks[-1][0],
        "chunks": len(chunks),
        "log_bytes": sum(len(data) for _, data in chunks),
        "lines": output.count(b"\n"),
        "sha256": hashlib.sha256(output).hexdigest(),
    }


def lag(chunks: list[tuple[int, bytes]]) -> dict[str, Any]:
    """Of lines printed after the first second: before, the attempt is only just being announced."""
    decoder = CriDecoder()
    printed, logged, first, last, lines, first_ms = [], [], 0, 0, 0, 0.0
    for received, data in chunks:
        for line in decoder.feed(data):
            last = int(line.text.split(b" ", 1)[0])
            lines += 1
            if not first:
                first, first_ms = last, (received - last) / 1e6
            if last - first >= 1e9:
                printed.append((received - last) / 1e6)
                logged.append((received - line.time_ns) / 1e6)
    return {
        "lines": lines,
        "first_line_ms": first_ms,
        "per_second": lines / ((last - first) / 1e9),
        "p50_ms": percentile(printed, 50),
        "p99_ms": percentile(printed, 99),
        "max_ms": max(printed),
        "p99_after_shim_ms": percentile(logged, 99),
    }


async def main(target: str, experiment_id: str, mode: str) -> None:
    options = [("grpc.max_receive_message_length", 16 << 20)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        chunks = await receive(channel, experiment_id)
    result = rate(chunks) if mode == "rate" else lag(chunks)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
