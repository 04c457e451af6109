"""Resident memory: idle, and after 10,000 experiments that really ran."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.harness import Options, resident_mb, running_cluster
from benchmarks.report import Row, Sample, at_most
from benchmarks.throughput import IN_FLIGHT, SLOTS, run_true_jobs

CONTROL_PLANE_MB: Final = 80.0
NODED_MB: Final = 50.0
BATCH: Final = 1_000


def measure(options: Options) -> list[Row]:
    """Nothing is prepared by other means: 10,000 `true` jobs are submitted, run and end."""
    idle, node_idle = [], []
    for _ in range(options.repeats):
        with running_cluster(options, "memory-idle") as cluster:
            time.sleep(3)
            idle.append(resident_mb(cluster.control_plane.pid))
            node_idle.append(resident_mb(cluster.node.pid))
    count = options.count(10_000, 1_000)
    with running_cluster(options, "memory") as cluster:
        for _ in range(count // BATCH):
            run_true_jobs(cluster, BATCH, IN_FLIGHT, SLOTS)
        time.sleep(3)
        after = resident_mb(cluster.control_plane.pid)
        node_after = resident_mb(cluster.node.pid)
        cluster.control_plane.stop()
        cluster.start_control_plane()
        time.sleep(3)
        restarted = resident_mb(cluster.control_plane.pid)
    return [
        Row(
            "resident memory, control plane, idle",
            Sample("MB", tuple(idle)),
            asked=at_most(CONTROL_PLANE_MB),
        ),
        Row(
            f"resident memory, control plane that ran {count:,} experiments",
            Sample("MB", (after,)),
            asked=at_most(CONTROL_PLANE_MB),
            notes=("each was submitted by an RPC and ran as a process",),
        ),
        Row(
            f"resident memory, control plane started on {count:,} finished experiments",
            Sample("MB", (restarted,)),
            asked=at_most(CONTROL_PLANE_MB),
        ),
        Row(
            "resident memory, noded, idle", Sample("MB", tuple(node_idle)), asked=at_most(NODED_MB)
        ),
        Row(
            f"resident memory, noded that ran {count:,} jobs",
            Sample("MB", (node_after,)),
            asked=at_most(NODED_MB),
        ),
    ]
