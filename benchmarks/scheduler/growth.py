"""How speed and memory of the scheduler grow with the cluster: a table and a plot.

    python -m benchmarks.scheduler.growth [--plot FILE.svg]

Decisions are as in `make bench ONLY=scheduler`: one job a cycle, and a thousand jobs in one cycle
on nodes with 8 GPUs each, words on why included. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.scheduler import decide

NODES: Final = (128, 500, 1_213, 2_500, 5_000, 10_000)
JOBS: Final = 4_000
AT_ONCE: Final = 1_000


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scheduler.growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--plot", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    print("| nodes | decisions/s | memory | 1,000 jobs: first cycle | a later one |")
    print("| --- | --- | --- | --- | --- |")
    found = []
    for nodes in NODES:
        single = decide("one-by-one", nodes, min(JOBS, 8 * nodes))
        together = decide("at-once", nodes, AT_ONCE)
        found.append((single, together))
        print(
            f"| {nodes:,} | {single['per_second']:,.0f} | {single['resident_mb']:.0f} MB "
            f"| {together['cold_ms']:.0f} ms | {together['warm_ms']:.0f} ms |",
            flush=True,
        )
    if given.plot:
        _plot(found, given.plot)
    return 0


def _plot(found: Sequence[tuple[dict[str, Any], dict[str, Any]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    # Equal figures give equal files.
    matplotlib.rcParams.update({"svg.hashsalt": "riseml", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.2))
    singles = [single for single, _ in found]
    axes[0].plot(NODES, [one["per_second"] for one in singles], marker="o", color="#1b7f5c")
    axes[0].plot([1_213, 5_000], [2_000, 900], "x", color="#c1552c", label="at least")
    axes[0].set(title="decisions a second, one a cycle")
    axes[0].legend(frameon=False)
    for key, label, colour in (("cold_ms", "first", "#c1552c"), ("warm_ms", "later", "#1b7f5c")):
        values = [together[key] for _, together in found]
        axes[1].plot(NODES, values, marker="o", color=colour, label=label)
    axes[1].axhline(500, color="#999999", linestyle=":")
    axes[1].set(title="a cycle with 1,000 jobs, ms")
    axes[1].legend(frameon=False)
    axes[2].plot(NODES, [one["resident_mb"] for one in singles], marker="o", color="#5470a8")
    axes[2].set(title="memory of the process, MB")
    for axis in axes:
        axis.set(xlabel="nodes", ylim=(0, None))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
