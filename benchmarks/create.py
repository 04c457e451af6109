"""Durable CreateExperiment, one per RPC, 64 in flight; none that was acknowledged is lost to `kill
-9`.
"""

from __future__ import annotations

import os
import subprocess
import threading
from typing import Final

from benchmarks import machine
from benchmarks.harness import (
    ROOT,
    BenchmarkError,
    Cluster,
    Options,
    load_command,
    running_cluster,
    wait_for,
)
from benchmarks.report import Row, Sample, ratio_at_least

IN_FLIGHT: Final = machine.IN_FLIGHT
FLOOR: Final = 0.35


def creating(cluster: Cluster, count: int) -> subprocess.Popen[bytes]:
    """A client process; it writes each acknowledged id to standard error."""
    return subprocess.Popen(
        load_command("calling", "create", cluster.address, count, IN_FLIGHT),
        cwd=ROOT,
        env={**os.environ, **cluster.load_env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def created_per_second(options: Options) -> float:
    """A fresh control plane without nodes: everything it accepts waits."""
    import json

    count = options.count(5_000, 1_500)
    with running_cluster(options, "create", node=False) as cluster:
        process = creating(cluster, count)
        output, acknowledged = process.communicate(timeout=300)
        if process.returncode != 0:
            raise BenchmarkError(acknowledged.decode(errors="replace")[-2000:])
        result = json.loads(output)
        if result["done"] != count:
            raise BenchmarkError(f"{result['done']} of {count} were created")
        return float(result["per_second"])


def survivors_of_kill(options: Options) -> tuple[int, int]:
    """Kills the control plane amid creation: how many were acknowledged, how many are there
    after.
    """
    with running_cluster(options, "create-kill", node=False) as cluster:
        process = creating(cluster, 1_000_000)
        acknowledged: list[str] = []
        assert process.stderr is not None

        def collect() -> None:
            assert process.stderr is not None
            acknowledged.extend(line.decode().strip() for line in process.stderr)

        reader = threading.Thread(target=collect)
        reader.start()
        wait_for(lambda: len(acknowledged) >= options.count(3_000, 500), "creations", 120)
        cluster.control_plane.kill()
        process.wait(60)
        reader.join()
        cluster.start_control_plane()
        there = {e.id for e in cluster.client().experiments.list(page_size=1000)}
        lost = [i for i in acknowledged if i not in there]
        if lost:
            raise BenchmarkError(f"{len(lost)} acknowledged experiments are gone, first {lost[0]}")
        return len(acknowledged), len(there)


def measure(options: Options) -> list[Row]:
    """Each repeat with an echo beside it."""
    ours, echo = [], []
    for _ in range(options.repeats):
        echo.append(machine.echo_per_second(options))
        ours.append(created_per_second(options))
    acknowledged, there = survivors_of_kill(options)
    note = (
        f"kill -9 amid creation: {acknowledged:,} acknowledged, each of them there after the "
        f"restart ({there:,} in all)"
    )
    return [
        Row(
            "durable CreateExperiment, 64 in flight",
            Sample("/s", tuple(ours)),
            Sample("/s", tuple(echo)),
            "gRPC echo",
            ratio_at_least(FLOOR),
            (note,),
        )
    ]
