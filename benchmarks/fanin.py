"""1,000 simulated daemons, 8 GPUs each, that report once a second: what they cost the control
plane, beside a bare gRPC server that reads and parses the same streams and drops what it read."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from benchmarks.harness import (
    ROOT,
    BenchmarkError,
    Options,
    bare_server,
    cpu_seconds,
    load_command,
    resident_mb,
    running_cluster,
)
from benchmarks.report import Row, Sample, at_most, ratio_at_most

NODES: Final = 1000
CPU_RATIO: Final = 2.0
RESIDENT_MB: Final = 160.0
# The control plane keeps samples of the last five minutes.
HISTORY_SECONDS: Final = 310.0


@dataclass(slots=True)
class Cost:
    """Of one server, per window. `settled_mb`: once all that it keeps of the past is there."""

    cpu_percent: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    settled_mb: float = 0.0


class Fleet:
    """`loads/daemons.py`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def sent(self) -> int:
        """Samples sent so far."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise BenchmarkError("the simulated daemons ended early")
        return int(json.loads(answer)["sent"])


@contextlib.contextmanager
def fleet(address: str, tokens: list[tuple[str, str]]) -> Iterator[Fleet]:
    """Daemons that are all welcomed and report."""
    with tempfile.NamedTemporaryFile("w", prefix="riseml-bench-") as file:
        file.write("".join(f"{name} {token}\n" for name, token in tokens))
        file.flush()
        process = subprocess.Popen(
            load_command("daemons", address, file.name),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            if process.stdout.readline().strip() != "ready":
                raise BenchmarkError("the simulated daemons were not welcomed")
            yield Fleet(process)
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def observe(daemons: Fleet, pid: int, options: Options, cost: Cost) -> None:
    """Adds windows of a server at work."""
    time.sleep(options.count(5, 3))
    for _ in range(options.repeats):
        sent, used, begin = daemons.sent(), cpu_seconds(pid), time.perf_counter()
        time.sleep(options.count(12, 4))
        seconds = time.perf_counter() - begin
        cost.cpu_percent.append((cpu_seconds(pid) - used) / seconds * 100)
        cost.per_second.append((daemons.sent() - sent) / seconds)
        cost.resident_mb.append(resident_mb(pid))


def measure(options: Options) -> list[Row]:
    """First the bare server, then the control plane, with the same program as load."""
    count = options.count(NODES, NODES)
    bare, ours = Cost(), Cost()
    with bare_server() as (address, pid):
        with fleet(address, [(f"sim-{n}", "-") for n in range(count)]) as daemons:
            observe(daemons, pid, options, bare)
    with running_cluster(options, "fanin", node=False) as cluster:
        client = cluster.client()
        tokens = [
            (name, client.nodes.create_token(name).token)
            for name in (f"sim-{n}" for n in range(count))
        ]
        with fleet(cluster.address, tokens) as daemons:
            begin = time.monotonic()
            observe(daemons, cluster.control_plane.pid, options, ours)
            if not options.quick:
                time.sleep(max(0.0, begin + HISTORY_SECONDS - time.monotonic()))
            ours.settled_mb = resident_mb(cluster.control_plane.pid)
            ready = sum(n.state == 1 for n in client.nodes.list())
            newest = len(client.telemetry.get())
    if (ready, newest) != (count, count):
        raise BenchmarkError(f"{ready} nodes ready, {newest} samples, of {count}")
    rates = f"samples/s: {statistics.median(ours.per_second):,.0f}, bare " + (
        f"{statistics.median(bare.per_second):,.0f}"
    )
    return [
        Row(
            f"{count:,} daemons x 8 GPUs, each once a second: processor time",
            Sample("% of a core", tuple(ours.cpu_percent)),
            Sample("% of a core", tuple(bare.cpu_percent)),
            "bare fan-in",
            ratio_at_most(CPU_RATIO),
            (rates, f"{ready:,} nodes READY and a sample of each at the end"),
        ),
        Row(
            f"{count:,} daemons: resident memory of the control plane",
            Sample("MB", (ours.settled_mb,)),
            Sample("MB", (statistics.median(bare.resident_mb),)),
            "bare fan-in",
            at_most(RESIDENT_MB),
            (
                "after a few seconds only, its history is not full"
                if options.quick
                else f"after {HISTORY_SECONDS:.0f} s, when its history of five minutes is full; "
                f"after {options.repeats * 12} s: {ours.resident_mb[-1]:.0f} MB",
            ),
        ),
    ]
