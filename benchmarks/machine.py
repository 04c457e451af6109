"""The limits of this machine, measured with programs that do nothing else."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.harness import Options, bare_server, run_load
from benchmarks.report import Row, Sample, percentile

IN_FLIGHT: Final = 64
LINE_BYTES: Final = 100
LINES_PER_MESSAGE: Final = 256


def echo_per_second(options: Options) -> float:
    """gRPC aio, two processes, 64 calls in flight."""
    with bare_server() as (address, _):
        result = run_load("calling", "echo", address, options.count(20_000, 5_000), IN_FLIGHT)
    return float(result["per_second"])


def stream_lines_per_second(options: Options) -> float:
    """One gRPC aio stream between two processes, 256 lines of 100 bytes in a message."""
    with bare_server() as (address, _):
        size = LINES_PER_MESSAGE * LINE_BYTES
        result = run_load("calling", "flow", address, options.count(20_000, 5_000), size)
    return float(result["per_second"]) * LINES_PER_MESSAGE


def spawns_per_second(options: Options) -> tuple[float, float]:
    """asyncio with a pipe at 8 in flight; posix_spawn one after the other."""
    result = run_load("spawning", options.count(2_000, 500))
    return float(result["asyncio_per_second"]), float(result["posix_per_second"])


def sync_milliseconds(options: Options) -> list[float]:
    """write of 4 KiB + fdatasync at the end of a file, in the folder where homes are made."""
    descriptor, name = tempfile.mkstemp(prefix="riseml-bench-", dir=options.directory)
    took = []
    try:
        for _ in range(options.count(300, 100)):
            begin = time.perf_counter()
            os.write(descriptor, b"x" * 4096)
            os.fdatasync(descriptor)
            took.append((time.perf_counter() - begin) * 1e3)
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            Path(name).unlink()
    return took


def measure(options: Options) -> list[Row]:
    """The limits as rows of their own, for reading beside the rest."""
    echoes, streams, spawns, posix, half, worst = [], [], [], [], [], []
    for _ in range(options.repeats):
        echoes.append(echo_per_second(options))
        streams.append(stream_lines_per_second(options) / 1e6)
        with_pipe, plain = spawns_per_second(options)
        spawns.append(with_pipe)
        posix.append(plain)
        took = sync_milliseconds(options)
        half.append(percentile(took, 50))
        worst.append(percentile(took, 99))
    return [
        Row("limit: gRPC aio echo, 64 in flight", Sample("/s", tuple(echoes))),
        Row("limit: one gRPC stream, 256 lines a message", Sample("M lines/s", tuple(streams))),
        Row("limit: asyncio spawn + pipe, 8 in flight", Sample("/s", tuple(spawns))),
        Row("limit: posix_spawn + wait", Sample("/s", tuple(posix))),
        Row("limit: 4 KiB + fdatasync, p50", Sample("ms", tuple(half))),
        Row("limit: 4 KiB + fdatasync, p99", Sample("ms", tuple(worst))),
    ]
