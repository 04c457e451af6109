"""Tables and plots of what schedulers do with traces that nobody here wrote.

    python -m benchmarks.scheduler.traces allocation --openb DIR --results DIR --plot FILE.svg
    python -m benchmarks.scheduler.traces waiting --openb DIR --philly DIR --results DIR \
        --plot FILE.svg
    python -m benchmarks.scheduler.traces priorities --philly DIR --results DIR

Every figure is what `riseml-simulate` printed. Runs take from seconds to an hour; what is in
`--results` already is not run again, so all of it may be stopped and gone on with. The table is
printed as Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import ROOT, BenchmarkError

Found = dict[str, Any]
# By trace, load and policy: what was found for each seed.
Waits = dict[tuple[str, float, str], dict[int, Found]]

WORKLOADS: Final = ("default", "cpu050", "gpushare40", "gpuspec10", "multigpu20")
PLACEMENTS: Final = ("riseml", "fgd", "best-fit", "random")
ORDERS: Final = ("riseml", "easy", "priority", "fifo")
# Policy, and how often tasks write a checkpoint (minutes; 0: never).
PRIORITY_RUNS: Final = (
    ("easy", 0),
    ("priority", 0),
    ("riseml-no-preemption", 0),
    ("riseml", 0),
    ("riseml", 60),
)
USERS: Final = 20
LEAST_BUSY: Final = 10
LOADS: Final = (0.9, 1.0, 1.1)
PHILLY_CLUSTER: Final = "128x8:V100"
# Seconds of virtual time between two cycles: one for each of so many short tasks would take hours.
OPENB_PAUSE: Final = "10"
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


def all_found(runs: Sequence[Run], given: argparse.Namespace) -> dict[str, Found]:
    """By name: of all runs, some at a time; with `--no-runs` of those alone that are there."""
    results: Path = given.results
    results.mkdir(parents=True, exist_ok=True)
    if given.no_runs:
        runs = [run for run in runs if (results / f"{run.name}.json").exists()]
    with ThreadPoolExecutor(given.workers) as pool:
        found = pool.map(lambda run: run.found(results), runs)
        return dict(zip([run.name for run in runs], found, strict=True))


# ------------------------------------------------------------------------------------ allocation


def allocation(given: argparse.Namespace) -> None:
    nodes = given.openb / "openb_node_list_gpu_node.csv"
    keys = [(workload, policy) for workload in WORKLOADS for policy in PLACEMENTS]
    seeds = dict.fromkeys(PLACEMENTS, given.peer_seeds or given.seeds) | {"riseml": given.seeds}
    runs = [
        Run(
            f"allocation-{workload}-{policy}-{seeds[policy]}",
            (
                *("allocation", "--nodes", str(nodes)),
                *("--tasks", str(given.openb / f"openb_pod_list_{workload}.csv")),
                *("--policy", policy, "--seeds", str(seeds[policy]), "--shuffle-nodes"),
            ),
        )
        for workload, policy in keys
    ]
    by_name = all_found(runs, given)
    found = {
        key: by_name[run.name] for key, run in zip(keys, runs, strict=True) if run.name in by_name
    }
    sys.stdout.write("\n".join(_allocation_table(found)) + "\n")
    if given.plot:
        _plot_allocation(found, given.plot)


def _allocation_table(found: Mapping[tuple[str, str], Found]) -> Iterator[str]:
    policies = _there(PLACEMENTS, [policy for _, policy in found])
    yield f"| workload | at | {' | '.join(policies)} |"
    yield "| --- | --- |" + " --- |" * len(policies)
    for workload in _there(WORKLOADS, [workload for workload, _ in found]):
        for percent in (100, 130):
            cells = []
            for policy in policies:
                one = found.get((workload, policy))
                deviation = "stdev" if percent == 130 else "stdev_at_100"
                cells.append(f"{one[f'at_{percent}']:.2f} ± {one[deviation]:.2f}" if one else "")
            yield f"| {workload} | {percent} % | {' | '.join(cells)} |"


def _plot_allocation(found: Mapping[tuple[str, str], Found], path: Path) -> None:
    plots = _pyplot()
    workloads = _there(WORKLOADS, [workload for workload, _ in found])
    figure, rows = plots.subplots(
        1, len(workloads), figsize=(3.2 * len(workloads), 3.6), sharey=True, squeeze=False
    )
    for axis, workload in zip(rows[0], workloads, strict=True):
        for policy in PLACEMENTS:
            if (workload, policy) in found:
                curve = found[workload, policy]["curve"]
                axis.plot(range(len(curve)), curve, color=COLOURS[policy], label=policy)
        axis.plot([0, 100], [0, 100], color="black", linewidth=0.5, linestyle=":")
        axis.set(title=workload, xlabel="asked for, % of all GPUs", xlim=(75, 130), ylim=(75, 100))
    rows[0][0].set_ylabel("allocated, % of all GPUs")
    rows[0][0].legend(frameon=False, loc="lower right")
    _save(figure, path)


def _there(names: Sequence[str], found: Sequence[str]) -> list[str]:
    """Those of the names that were found, in their order."""
    return [name for name in names if name in found]


# --------------------------------------------------------------------------------------- waiting


def waiting(given: argparse.Namespace) -> None:
    openb = f"openb{given.openb_nodes}"
    traces = [(openb, given.openb / "openb_pod_list_default.csv")]
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
                *("replay", "--nodes", str(nodes) if trace == openb else PHILLY_CLUSTER),
                *("--tasks", str(paths[trace]), "--load", str(load), "--policy", policy),
                *("--first-seed", str(seed)),
                *(
                    ("--sample", str(given.openb_nodes), "--pause", OPENB_PAUSE)
                    if trace == openb
                    else ()
                ),
            ),
        )
        for trace, load, policy in keys
        for seed in range(1, given.seeds + 1)
    ]
    by_name = all_found(runs, given)
    found: Waits = {}
    for trace, load, policy in keys:
        seeds = {
            seed: by_name[name]
            for seed in range(1, given.seeds + 1)
            for name in [f"waiting-{trace}-{load}-{policy}-{seed}"]
            if name in by_name
        }
        if seeds:
            found[trace, load, policy] = seeds
    sys.stdout.write("\n".join(_waiting_table(found)) + "\n")
    sys.stdout.write("\n" + "\n".join(_sizes_table(found)) + "\n")
    if given.plot:
        _plot_waiting(found, given.plot)


def _mean(found: Iterable[Found], name: str) -> float:
    values = [float(one[name]) for one in found]
    return sum(values) / len(values)


def _hours(found: Sequence[Found], name: str) -> str:
    return f"{_mean(found, f'wait_{name}_seconds') / HOUR:.2f}"


def _waiting_table(found: Waits) -> Iterator[str]:
    yield (
        "| tasks | load | policy | seeds | mean | p50 | p95 | max | slowdown | GPUs held "
        "| better than easy: mean, p95 |"
    )
    yield "| --- |" + " --- |" * 10
    for (trace, load, policy), seeds in found.items():
        ours, easy = list(seeds.values()), found.get((trace, load, "easy"), {})
        both = [(one, easy[seed]) for seed, one in seeds.items() if seed in easy]
        better = [
            sum(a[name] < b[name] for a, b in both)
            for name in ("wait_mean_seconds", "wait_p95_seconds")
        ]
        cells = [
            str(len(ours)),
            *(_hours(ours, name) for name in ("mean", "p50", "p95", "max")),
            f"{_mean(ours, 'slowdown_mean'):.2f}",
            f"{_mean(ours, 'utilization'):.1f} %",
            f"{better[0]}, {better[1]} of {len(both)}" if both and policy != "easy" else "",
        ]
        yield f"| {trace} | {load} | {policy} | {' | '.join(cells)} |"


def _sizes_table(found: Waits) -> Iterator[str]:
    """Who pays: by GPUs, ours after EASY, over the seeds of both."""
    yield "| tasks | load | GPUs | count | easy: mean, p95, max | riseml | slowdown |"
    yield "| --- |" + " --- |" * 6
    for (trace, load, policy), easy in found.items():
        ours = found.get((trace, load, "riseml"), {})
        both = [(one, ours[seed]) for seed, one in easy.items() if seed in ours]
        if policy != "easy" or not both:
            continue
        for size in both[0][0]["by_gpus"]:
            before = [a["by_gpus"][size] for a, _ in both if size in a["by_gpus"]]
            after = [b["by_gpus"][size] for _, b in both if size in b["by_gpus"]]
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


def _plot_waiting(found: Waits, path: Path) -> None:
    plots = _pyplot()
    traces = list(dict.fromkeys(trace for trace, _, _ in found))
    figure, axes = plots.subplots(
        2, len(traces), figsize=(3.4 * len(traces), 6), sharex=True, squeeze=False
    )
    for column, trace in enumerate(traces):
        for axis, name in ((axes[0][column], "mean"), (axes[1][column], "p95")):
            for policy in ORDERS:
                loads = [load for load in LOADS if (trace, load, policy) in found]
                values = [
                    [
                        one[f"wait_{name}_seconds"] / HOUR
                        for one in found[trace, load, policy].values()
                    ]
                    for load in loads
                ]
                middle = [sum(group) / len(group) for group in values]
                axis.plot(loads, middle, color=COLOURS[policy], label=policy, marker="o")
                least, most = [min(group) for group in values], [max(group) for group in values]
                axis.fill_between(loads, least, most, color=COLOURS[policy], alpha=0.15)
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


# ------------------------------------------------------------------------------------ priorities


def priorities(given: argparse.Namespace) -> None:
    """What priorities, fair share and preemption add: users and priorities drawn by the seed."""
    keys = [(load, *each) for load in (0.9, 1.0) for each in PRIORITY_RUNS]
    runs = [
        Run(
            f"priorities-{given.trace}-{load}-{policy}-{checkpoints or 'never'}",
            (
                *("replay", "--nodes", PHILLY_CLUSTER),
                *("--tasks", str(given.philly / f"{given.trace}.trace"), "--load", str(load)),
                *("--policy", policy, "--priorities", "--users", str(USERS)),
                *(("--checkpoints", str(checkpoints)) if checkpoints else ()),
            ),
        )
        for load, policy, checkpoints in keys
    ]
    by_name = all_found(runs, given)
    found = [
        (key, by_name[run.name]) for key, run in zip(keys, runs, strict=True) if run.name in by_name
    ]
    sys.stdout.write("\n".join(_priorities_table(found)) + "\n")


def _priorities_table(found: Sequence[tuple[tuple[float, str, int], Found]]) -> Iterator[str]:
    yield (
        "| load | policy | all: mean, p95 | priority 80 | 50 | 30 | busiest user | the 10 least "
        "busy | preempted | GPU hours lost | GPUs held |"
    )
    yield "| --- |" + " --- |" * 10
    for (load, policy, checkpoints), one in found:
        often = f", a checkpoint every {checkpoints} min" if checkpoints else ""
        groups = [one, *(one["by_priority"][name] for name in ("80", "50", "30"))]
        # Their names go from the busiest to the one with the least.
        users = [one["by_user"][name] for name in sorted(one["by_user"])]
        few = users[-LEAST_BUSY:]
        waited = sum(user["wait_mean_seconds"] * user["tasks"] for user in few)
        cells = [
            *(f"{_hours([group], 'mean')}, {_hours([group], 'p95')}" for group in groups),
            _hours(users[:1], "mean"),
            f"{waited / sum(user['tasks'] for user in few) / HOUR:.2f}",
            f"{one['preemptions']:,.0f}",
            f"{one['lost_gpu_hours']:,.0f}",
            f"{one['utilization']:.1f} %",
        ]
        yield f"| {load} | {policy}{often} | {' | '.join(cells)} |"


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
    for run in (allocation, waiting, priorities):
        command = commands.add_parser(run.__name__)
        command.set_defaults(run=run)
        command.add_argument("--results", type=Path, required=True, metavar="DIR")
        command.add_argument("--workers", type=int, default=1, metavar="N")
        command.add_argument(
            "--no-runs", action="store_true", help="of what is in --results already alone"
        )
        if run is priorities:
            command.add_argument("--trace", default="7f04ca", metavar="NAME")
        else:
            seeds = 10 if run is allocation else 3
            command.add_argument("--openb", type=Path, required=True, metavar="DIR")
            command.add_argument("--seeds", type=int, default=seeds, metavar="N")
            command.add_argument("--plot", type=Path, metavar="FILE")
        if run is allocation:
            command.add_argument("--peer-seeds", type=int, metavar="N", help="of the others")
        else:
            command.add_argument("--philly", type=Path, required=True, metavar="DIR")
        if run is waiting:
            command.add_argument(
                "--openb-nodes",
                type=int,
                default=128,
                metavar="N",
                help="so many of them, drawn by the seed: 128 take an hour, 32 some minutes",
            )
            command.add_argument("--policies", nargs="+", default=list(ORDERS))
    given = parser.parse_args(arguments)
    given.run(given)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
