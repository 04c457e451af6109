"""Tables and plots of what schedulers do with traces that nobody here wrote.

    python -m benchmarks.scheduler.traces allocation --openb DIR --results DIR --plot FILE.svg
    python -m benchmarks.scheduler.traces waiting --openb DIR --philly DIR --results DIR \
        --plot FILE.svg

Every figure is what `riseml-simulate` printed. Runs take from seconds to an hour; what is in
`--results` already is not run again, so all of it may be stopped and gone on with. The table is
printed as Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import ROOT, BenchmarkError

Found = dict[str, Any]

WORKLOADS: Final = ("default", "cpu050", "gpushare40", "gpuspec10", "multigpu20")
PLACEMENTS: Final = ("riseml", "fgd", "best-fit", "random")
ORDERS: Final = ("riseml", "easy", "priority", "fifo")
LOADS: Final = (0.9, 1.0, 1.1)
PHILLY_CLUSTER: Final = "128x8:V100"
HOUR: Final = 3600.0

COLOURS: Final = {
    "riseml": "#1b7f5c",
    "fgd": "#c1552c",
    "easy": "#c1552c",
    "best-fit": "#5470a8",
    "priority": "#5470a8",
    "random": "#999999",
    "fifo": "#999999",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One call of `riseml-simulate`, and the file that keeps what it printed."""

    name: str
    words: tuple[str, ...]

    def found(self, results: Path) -> Found:
        """Of this time, or of an earlier one."""
        path = results / f"{self.name}.json"
        if not path.exists():
            command = [sys.executable, "-m", "controlplane.simulation", *self.words]
            process = subprocess.run(
                [*command, "--format", "json"],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            if process.returncode:
                raise BenchmarkError(f"{self.name}: {process.stderr[-2000:]}")
            path.write_text(process.stdout)
            sys.stderr.write(f"{self.name}\n")
        found: Found = json.loads(path.read_text())
        return found


def all_found(runs: Sequence[Run], results: Path, workers: int) -> list[Found]:
    """Of all runs, some at a time."""
    results.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda run: run.found(results), runs))


# ------------------------------------------------------------------------------------ allocation


def allocation(given: argparse.Namespace) -> None:
    nodes = given.openb / "openb_node_list_gpu_node.csv"
    keys = [(workload, policy) for workload in WORKLOADS for policy in PLACEMENTS]
    runs = [
        Run(
            f"allocation-{workload}-{policy}-{given.seeds}",
            (
                *("allocation", "--nodes", str(nodes)),
                *("--tasks", str(given.openb / f"openb_pod_list_{workload}.csv")),
                *("--policy", policy, "--seeds", str(given.seeds), "--shuffle-nodes"),
            ),
        )
        for workload, policy in keys
    ]
    found = dict(zip(keys, all_found(runs, given.results, given.workers), strict=True))
    sys.stdout.write("\n".join(_allocation_table(found)) + "\n")
    if given.plot:
        _plot_allocation(found, given.plot)


def _allocation_table(found: Mapping[tuple[str, str], Found]) -> Iterator[str]:
    yield f"| workload | at | {' | '.join(PLACEMENTS)} |"
    yield "| --- | --- |" + " --- |" * len(PLACEMENTS)
    for workload in WORKLOADS:
        for percent in (100, 130):
            cells = []
            for policy in PLACEMENTS:
                one = found[workload, policy]
                deviation = one["stdev" if percent == 130 else "stdev_at_100"]
                cells.append(f"{one[f'at_{percent}']:.2f} ± {deviation:.2f}")
            yield f"| {workload} | {percent} % | {' | '.join(cells)} |"


def _plot_allocation(found: Mapping[tuple[str, str], Found], path: Path) -> None:
    plots = _pyplot()
    figure, axes = plots.subplots(1, len(WORKLOADS), figsize=(15, 3.6), sharey=True)
    for axis, workload in zip(axes, WORKLOADS, strict=True):
        for policy in PLACEMENTS:
            curve = found[workload, policy]["curve"]
            axis.plot(range(len(curve)), curve, color=COLOURS[policy], label=policy)
        axis.plot([0, 100], [0, 100], color="black", linewidth=0.5, linestyle=":")
        axis.set(title=workload, xlabel="asked for, % of all GPUs", xlim=(75, 130), ylim=(75, 100))
    axes[0].set_ylabel("allocated, % of all GPUs")
    axes[0].legend(frameon=False, loc="lower right")
    _save(figure, path)


# --------------------------------------------------------------------------------------- waiting


def waiting(given: argparse.Namespace) -> None:
    traces = [("openb", given.openb / "openb_pod_list_default.csv")]
    traces += [(path.stem, path) for path in sorted(given.philly.glob("*.trace"))]
    nodes = given.openb / "openb_node_list_gpu_node.csv"
    keys = [
        (trace, load, policy) for trace, _ in traces for load in LOADS for policy in given.policies
    ]
    paths = dict(traces)
    runs = [
        Run(
            f"waiting-{trace}-{load}-{policy}-{seed}",
            (
                *("replay", "--nodes", str(nodes) if trace == "openb" else PHILLY_CLUSTER),
                *("--tasks", str(paths[trace]), "--load", str(load), "--policy", policy),
                *("--first-seed", str(seed)),
            ),
        )
        for trace, load, policy in keys
        for seed in range(1, given.seeds + 1)
    ]
    results = all_found(runs, given.results, given.workers)
    found = {
        key: results[place * given.seeds : (place + 1) * given.seeds]
        for place, key in enumerate(keys)
    }
    names = [trace for trace, _ in traces]
    sys.stdout.write("\n".join(_waiting_table(found, names, given.policies)) + "\n")
    sys.stdout.write("\n" + "\n".join(_sizes_table(found, names)) + "\n")
    if given.plot:
        _plot_waiting(found, names, given.policies, given.plot)


def _mean(found: Sequence[Found], name: str) -> float:
    return float(sum(one[name] for one in found) / len(found))


def _hours(found: Sequence[Found], name: str) -> str:
    return f"{_mean(found, f'wait_{name}_seconds') / HOUR:.2f}"


def _waiting_table(
    found: Mapping[tuple[str, float, str], list[Found]],
    traces: Sequence[str],
    policies: Sequence[str],
) -> Iterator[str]:
    yield (
        "| tasks | load | policy | mean | p50 | p95 | max | slowdown | GPUs held "
        "| seeds better than easy: mean, p95 |"
    )
    yield "| --- |" + " --- |" * 9
    for trace in traces:
        for load in LOADS:
            easy = found.get((trace, load, "easy"), [])
            for policy in policies:
                ours = found[trace, load, policy]
                better = [
                    sum(a[name] < b[name] for a, b in zip(ours, easy, strict=False))
                    for name in ("wait_mean_seconds", "wait_p95_seconds")
                ]
                cells = [
                    *(_hours(ours, name) for name in ("mean", "p50", "p95", "max")),
                    f"{_mean(ours, 'slowdown_mean'):.2f}",
                    f"{_mean(ours, 'utilization'):.1f} %",
                    "" if policy == "easy" else f"{better[0]}, {better[1]} of {len(ours)}",
                ]
                yield f"| {trace} | {load} | {policy} | {' | '.join(cells)} |"


def _sizes_table(
    found: Mapping[tuple[str, float, str], list[Found]], traces: Sequence[str]
) -> Iterator[str]:
    """Who pays: by GPUs, ours after EASY."""
    yield "| tasks | load | GPUs | tasks of all seeds | easy: mean, p95, max | riseml | slowdown |"
    yield "| --- |" + " --- |" * 6
    for trace in traces:
        for load in LOADS:
            easy, ours = found[trace, load, "easy"], found[trace, load, "riseml"]
            for size in easy[0]["by_gpus"]:
                pairs = [
                    (a["by_gpus"][size], b["by_gpus"][size])
                    for a, b in zip(easy, ours, strict=True)
                    if size in a["by_gpus"]
                ]
                before, after = [a for a, _ in pairs], [b for _, b in pairs]
                cells = [
                    ", ".join(_hours(group, name) for name in ("mean", "p95", "max"))
                    for group in (before, after)
                ]
                slowdowns = [f"{_mean(one, 'slowdown_mean'):.2f}" for one in (before, after)]
                count = sum(one["tasks"] for one in before)
                yield (
                    f"| {trace} | {load} | {size} | {count:,} | {' | '.join(cells)} "
                    f"| {' to '.join(slowdowns)} |"
                )


def _plot_waiting(
    found: Mapping[tuple[str, float, str], list[Found]],
    traces: Sequence[str],
    policies: Sequence[str],
    path: Path,
) -> None:
    plots = _pyplot()
    figure, axes = plots.subplots(2, len(traces), figsize=(3.4 * len(traces), 6), sharex=True)
    for column, trace in enumerate(traces):
        for axis, name in ((axes[0][column], "mean"), (axes[1][column], "p95")):
            for policy in policies:
                values = [
                    [one[f"wait_{name}_seconds"] / HOUR for one in found[trace, load, policy]]
                    for load in LOADS
                ]
                middle = [sum(group) / len(group) for group in values]
                axis.plot(LOADS, middle, color=COLOURS[policy], label=policy, marker="o")
                least, most = [min(group) for group in values], [max(group) for group in values]
                axis.fill_between(LOADS, least, most, color=COLOURS[policy], alpha=0.15)
            # Zero has its place: nobody waits on many of these.
            axis.set_yscale("symlog", linthresh=0.1)
            axis.set_ylim(bottom=0)
            axis.set_xticks(LOADS)
        axes[0][column].set_title(trace)
        axes[1][column].set_xlabel("load")
    axes[0][0].set_ylabel("mean wait, hours")
    axes[1][0].set_ylabel("95th percentile of waits, hours")
    axes[0][0].legend(frameon=False)
    _save(figure, path)


# ----------------------------------------------------------------------------------------- plots


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    # Equal figures give equal files.
    matplotlib.rcParams.update({"svg.hashsalt": "riseml", "font.size": 9})
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scheduler.traces",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    for name, run, seeds in (("allocation", allocation, 10), ("waiting", waiting, 3)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--openb", type=Path, required=True, metavar="DIR")
        command.add_argument("--results", type=Path, required=True, metavar="DIR")
        command.add_argument("--seeds", type=int, default=seeds, metavar="N")
        command.add_argument("--workers", type=int, default=1, metavar="N")
        command.add_argument("--plot", type=Path, metavar="FILE")
        if run is waiting:
            command.add_argument("--philly", type=Path, required=True, metavar="DIR")
            command.add_argument("--policies", nargs="+", default=list(ORDERS))
    given = parser.parse_args(arguments)
    given.run(given)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
