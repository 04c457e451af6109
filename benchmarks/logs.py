"""The relay of output: file -> daemon -> control plane -> follower. Its rate, with every byte
checked, and its lag at 10,000 lines a second."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.harness import (
    NODE,
    ROOT,
    BenchmarkError,
    Cluster,
    Options,
    load_command,
    run_load,
    running_cluster,
    wait_for,
)
from benchmarks.loads.jobs import job
from benchmarks.report import Row, Sample, at_most, ratio_at_least
from riseml.convert import train_spec_from_proto
from riseml.v1 import state_pb2

FLOOR: Final = 0.25
LAG_P99_MS: Final = 100.0
LAG_LINES_PER_SECOND: Final = 10_000

# Lines of 100 bytes with their number, so that nothing can be lost, doubled or moved unseen.
PRINT: Final = """
import sys
for first in range(0, {count}, 1000):
    sys.stdout.write("".join("%012d %s\\n" % (n, "x" * 86) for n in range(first, first + 1000)))
"""
PRINT_PACED: Final = """
import os, time
begin = time.monotonic()
for step in range({seconds} * 200):
    ahead = begin + step / 200 - time.monotonic()
    if ahead > 0:
        time.sleep(ahead)
    for _ in range({per_second} // 200):
        os.write(1, (b"%d " % time.time_ns()).ljust(99, b"x") + b"\\n")
"""


def printing(program: str) -> str:
    """A shell command that runs a Python program."""
    return f"python3 -u - <<'END_OF_PROGRAM'\n{program}\nEND_OF_PROGRAM"


def expected_sha256(count: int) -> str:
    """Of what PRINT prints."""
    digest = hashlib.sha256()
    for first in range(0, count, 1000):
        text = "".join(f"{n:012d} {'x' * 86}\n" for n in range(first, first + 1000))
        digest.update(text.encode())
    return digest.hexdigest()


def submit(cluster: Cluster, program: str) -> str:
    spec = train_spec_from_proto(job(printing(program), cpu_milli=1000))
    return cluster.client().experiments.create(spec).experiment.id


def wait_running(cluster: Cluster, experiment_id: str) -> None:
    client = cluster.client()
    states = (state_pb2.STATE_RUNNING, state_pb2.STATE_FINISHED)
    wait_for(
        lambda: client.experiments.get(experiment_id).experiment.state in states,
        f"{experiment_id} to run",
    )


def spooled_bytes(cluster: Cluster) -> int:
    """How much output lies on the node, shipped or not."""
    attempts = cluster.home / "node" / NODE / "attempts"
    return sum(file.stat().st_size for file in attempts.glob("**/log/*.log"))


def shim_ended(cluster: Cluster) -> bool:
    """Whether no shim of this cluster's node lives any more."""
    prefix = f"{cluster.home}/node/".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if len(arguments) > 1 and arguments[1].startswith(prefix):
                return False
    return True


def check(result: dict[str, Any], count: int) -> None:
    if (result["lines"], result["sha256"]) != (count, expected_sha256(count)):
        raise BenchmarkError(f"{count} lines were printed; what came is not that: {result}")


def follow(cluster: Cluster, experiment_id: str, mode: str) -> dict[str, Any]:
    return run_load("following", cluster.address, experiment_id, mode, env=cluster.load_env)


def relay(options: Options, count: int) -> dict[str, Any]:
    """The job prints while its daemon is down; measured is how the file then gets to a follower."""
    with running_cluster(options, "logs") as cluster:
        gate = cluster.home / "gate"
        hold = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
        experiment_id = submit(cluster, hold + PRINT.format(count=count))
        wait_running(cluster, experiment_id)
        cluster.node.kill()
        gate.touch()
        wait_for(lambda: shim_ended(cluster), "the job to end", 120)
        follower = subprocess.Popen(
            load_command("following", cluster.address, experiment_id, "rate"),
            cwd=ROOT,
            env={**os.environ, **cluster.load_env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        cluster.start_node()
        output, _ = follower.communicate(timeout=300)
        if follower.returncode != 0:
            raise BenchmarkError("the follower failed")
        result: dict[str, Any] = json.loads(output)
        check(result, count)
        return result


def live(options: Options, count: int) -> dict[str, Any]:
    """All at once: the job prints as fast as it can, and somebody follows."""
    with running_cluster(options, "logs-live") as cluster:
        experiment_id = submit(cluster, PRINT.format(count=count))
        result = follow(cluster, experiment_id, "rate")
        check(result, count)
        return result


def lag(options: Options) -> dict[str, Any]:
    """A job that prints 10,000 lines a second, each with the time at which it was printed."""
    seconds = options.count(10, 4)
    with running_cluster(options, "logs-lag") as cluster:
        program = PRINT_PACED.format(seconds=seconds, per_second=LAG_LINES_PER_SECOND)
        experiment_id = submit(cluster, program)
        result = follow(cluster, experiment_id, "lag")
        if result["lines"] != seconds * LAG_LINES_PER_SECOND:
            raise BenchmarkError(f"lines came: {result['lines']}")
        return result


def measure(options: Options) -> list[Row]:
    """Each repeat with the bare stream beside it."""
    count = options.count(2_000_000, 500_000)
    relayed, alive, streams, chunks = [], [], [], 0
    half, most, rates, firsts = [], [], [], []
    for _ in range(options.repeats):
        streams.append(machine.stream_lines_per_second(options) / 1e6)
        result = relay(options, count)
        chunks = result["chunks"]
        relayed.append(count / result["seconds"] / 1e6)
        alive.append(count / live(options, count)["seconds"] / 1e6)
        result = lag(options)
        half.append(result["p50_ms"])
        most.append(result["p99_ms"])
        rates.append(result["per_second"])
        firsts.append(result["first_line_ms"])
    stream = Sample("M lines/s", tuple(streams))
    return [
        Row(
            "log relay file -> daemon -> control plane -> follower, lines of 100 bytes",
            Sample("M lines/s", tuple(relayed)),
            stream,
            "one gRPC stream",
            ratio_at_least(FLOOR),
            (
                f"{count:,} lines printed while the daemon was down, then relayed in {chunks:,} "
                "chunks; line count and SHA-256 are the job's, offsets contiguous",
            ),
        ),
        Row(
            "the same while the job prints (job and shim share the cores)",
            Sample("M lines/s", tuple(alive)),
            stream,
            "one gRPC stream",
        ),
        Row(
            "log lag at 10,000 lines/s, p50",
            Sample("ms", tuple(half)),
            notes=(
                f"paced at {statistics.median(rates):,.0f} lines/s, no line lost; of lines printed "
                "after the first second (the very first line of a job came after "
                f"{statistics.median(firsts):.0f} ms)",
            ),
        ),
        Row("log lag at 10,000 lines/s, p99", Sample("ms", tuple(most)), asked=at_most(LAG_P99_MS)),
    ]
