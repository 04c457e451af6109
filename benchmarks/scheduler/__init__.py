"""How fast the scheduler decides, without a cluster around it, and how that grows with the cluster.

Each measurement runs in a process of its own (`deciding.py`) on made-up nodes and jobs: several
kinds of nodes, 60 kinds of jobs, a third of them with a part of a GPU. `bounds.py` computes how
much of a trace any scheduler could allocate.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

from benchmarks.harness import ROOT, BenchmarkError, Options
from benchmarks.report import Bound, Row, Sample, at_least, at_most

DECISIONS_FLOORS: Final[dict[int, Bound | None]] = {
    128: None,
    1_213: at_least(2_000),
    5_000: at_least(900),
    10_000: None,
}
CYCLE_MS: Final = 500.0


def decide(*arguments: object) -> dict[str, Any]:
    """What `deciding.py` found."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.scheduler.deciding", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if process.returncode:
        raise BenchmarkError(process.stderr[-2000:])
    found: dict[str, Any] = json.loads(process.stdout)
    return found


def measure(options: Options) -> list[Row]:
    """Decisions one at a time, then one cycle with a thousand jobs."""
    rows = []
    for nodes, asked in DECISIONS_FLOORS.items():
        number = min(options.count(8_000, 1_000), 8 * nodes)
        found = [decide("one-by-one", nodes, number) for _ in range(options.repeats)]
        memory = max(one["resident_mb"] for one in found)
        rows.append(
            Row(
                f"jobs placed one at a time, a cycle each, {nodes:,} nodes",
                Sample("/s", tuple(one["per_second"] for one in found)),
                asked=asked,
                notes=(f"{number:,} jobs from an empty cluster on; {memory:.0f} MB in all",),
            )
        )
    for first, what in ((True, "first cycle"), (False, "a later cycle")):
        key = "cold_ms" if first else "warm_ms"
        found = [decide("at-once", 10_000, 1_000) for _ in range(options.repeats)]
        rows.append(
            Row(
                f"1,000 waiting jobs, 10,000 nodes with 80,000 GPUs, {what}",
                Sample("ms", tuple(one[key] for one in found)),
                asked=at_most(CYCLE_MS),
                notes=(f"{found[0]['placed']:,} placed",),
            )
        )
    return rows
