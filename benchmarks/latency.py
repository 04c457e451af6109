"""From submission to the start of the process on an idle node: the client's clock just before the
RPC against the time that the shim recorded at exec, on one machine and so on one clock."""

from __future__ import annotations

import statistics
import time
from typing import Final

from benchmarks.harness import ENDED, BenchmarkError, Cluster, Options, running_cluster
from benchmarks.loads.jobs import true_job
from benchmarks.report import Row, Sample, at_most, percentile
from riseml.convert import train_spec_from_proto
from riseml.v1 import state_pb2

P50_MS: Final = 6.0
P95_MS: Final = 12.0


def start_milliseconds(cluster: Cluster, count: int) -> tuple[list[float], list[float]]:
    """Of single submissions, one after the other: until the process started; until the RPC
    answered.
    """
    client = cluster.client()
    spec = train_spec_from_proto(true_job(cpu_milli=100))
    number = client.experiments.get(client.experiments.create(spec).experiment.id).change_number
    changes = iter(client.experiments.watch(change_number=number))
    started, answered = [], []
    for _ in range(count):
        before = time.time()
        experiment_id = client.experiments.create(spec).experiment.id
        answered.append((time.time() - before) * 1e3)
        for change in changes:
            if change.experiment.id == experiment_id and change.experiment.state in ENDED:
                break
        if change.experiment.state != state_pb2.STATE_FINISHED:
            raise BenchmarkError(f"{experiment_id} failed: {change.experiment.message}")
        attempt = change.experiment.jobs[0].attempts[0]
        started.append((attempt.start_time.ToNanoseconds() / 1e9 - before) * 1e3)
        time.sleep(0.01)
    return started, answered


def measure(options: Options) -> list[Row]:
    """Each repeat on a fresh cluster."""
    half, most, answer = [], [], []
    count = options.count(200, 60)
    for _ in range(options.repeats):
        with running_cluster(options, "latency") as cluster:
            start_milliseconds(cluster, 10)
            started, answered = start_milliseconds(cluster, count)
        if min(started) <= 0:
            raise BenchmarkError(f"a process started {-min(started):.2f} ms before its submission")
        half.append(percentile(started, 50))
        most.append(percentile(started, 95))
        answer.append(percentile(answered, 50))
    note = f"{count} single submissions; the RPC answers after {statistics.median(answer):.1f} ms"
    return [
        Row(
            "submit to process start, idle node, p50",
            Sample("ms", tuple(half)),
            asked=at_most(P50_MS),
            notes=(note,),
        ),
        Row(
            "submit to process start, idle node, p95",
            Sample("ms", tuple(most)),
            asked=at_most(P95_MS),
        ),
    ]
