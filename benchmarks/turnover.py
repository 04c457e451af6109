"""Turnover: 500 `true` jobs on 4 slots, where each end must bring the next start."""

from __future__ import annotations

from typing import Final

from benchmarks.harness import Options, running_cluster
from benchmarks.report import Row, Sample, at_least
from benchmarks.throughput import IN_FLIGHT, check_recorded, run_true_jobs

SLOTS: Final = 4
FLOOR: Final = 250.0


def measure(options: Options) -> list[Row]:
    """Each repeat on a fresh cluster."""
    count = options.count(500, 200)
    rates = []
    for _ in range(options.repeats):
        with running_cluster(options, "turnover") as cluster:
            run_true_jobs(cluster, 64, IN_FLIGHT, SLOTS)
            result = run_true_jobs(cluster, count, IN_FLIGHT, SLOTS)
            check_recorded(cluster, result["ids"])
            rates.append(count / result["seconds"])
    return [
        Row(
            f"turnover: {count} `true` jobs on 4 slots",
            Sample("/s", tuple(rates)),
            asked=at_least(FLOOR),
        )
    ]
