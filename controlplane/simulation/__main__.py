"""`riseml-simulate`: the scheduler on traces, on trouble, and on recorded cycles."""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from controlplane.domain import recording
from controlplane.scheduler.policy import POLICIES, Policy
from controlplane.simulation import allocation, recorded, replay, report, steadiness
from controlplane.simulation.progress import Progress, Report, unheard
from controlplane.simulation.traces import (
    TraceNode,
    TraceTask,
    UnreadableTrace,
    read_nodes,
    read_tasks,
    uniform_nodes,
)
from controlplane.simulation.workload import DAY, MINUTE, Load, NothingFits

_Result = TypeVar("_Result")
_Made = TypeVar("_Made", covariant=True)


class _Run(Protocol[_Made]):
    """One seed of something long."""

    def __call__(self, seed: int, /, *, report: Report = unheard) -> _Made: ...


# Allocations per collection: the state is many small objects that are not cyclic.
GC_THRESHOLDS: Final = (50_000, 20, 100)


class Unusable(Exception):
    """What was asked for cannot be done; the text says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 if a recorded plan is not the same again or an invariant broke; 2 if it
    cannot be run as asked.
    """
    parser = _parser()
    given = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    if given.snapshot is None and given.command is None:
        parser.error("say what to simulate: allocation, replay, steadiness, or --snapshot FILE")
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        return int(_again(given) if given.command is None else given.run(given))
    except (Unusable, UnreadableTrace, NothingFits, recording.UnreadableJson, OSError) as wrong:
        sys.stderr.write(f"riseml-simulate: {wrong}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="riseml-simulate",
        description="Runs the scheduler, the applier and the reactor of RiseML under a clock that "
        "jumps, on nodes and jobs from files.",
    )
    parser.add_argument(
        "--snapshot",
        metavar="FILE",
        type=Path,
        help="plan a cycle again that `riseml system schedule --save FILE` wrote, and compare",
    )
    _add_policy(parser)
    _add_format(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    one = commands.add_parser(
        "allocation",
        help="tasks arrive until they have asked for 130%% of all GPUs; how much is allocated",
    )
    _add_traces(one)
    _add_seeds(one, 10)
    one.add_argument(
        "--shuffle-nodes", action="store_true", help="other names and another order for each seed"
    )
    one.set_defaults(run=_allocation)

    two = commands.add_parser("replay", help="tasks come and go for days; who waits how long")
    _add_traces(two)
    _add_seeds(two, 1)
    defaults = Load()
    two.add_argument(
        "--load",
        type=_positive,
        default=1.0,
        metavar="X",
        help="GPU time asked for, as a part of what there is (default 1.0)",
    )
    two.add_argument(
        "--sample",
        type=int,
        default=128,
        metavar="N",
        help="so many of the nodes, drawn by the seed (default 128; 0: all)",
    )
    two.add_argument("--warm-up-days", type=float, default=defaults.warm_up_seconds / DAY)
    two.add_argument("--days", type=_positive, default=defaults.measured_seconds / DAY)
    two.add_argument(
        "--overestimate",
        type=float,
        default=defaults.overestimate,
        metavar="X",
        help="users say 1 to X times what a task takes (default 3)",
    )
    two.add_argument("--users", type=int, default=1, metavar="N", help="the busiest 1/n of them")
    two.add_argument(
        "--priorities", action="store_true", help="of the trace, or drawn where it has none"
    )
    two.add_argument(
        "--checkpoints",
        type=_positive,
        metavar="MINUTES",
        help="how often tasks write one, to go on from when they were stopped (default: never)",
    )
    two.add_argument(
        "--pause",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="between two cycles at least, of virtual time (default 0)",
    )
    two.set_defaults(run=_replay)

    three = commands.add_parser(
        "steadiness", help="nodes lost, telemetry flapping, quotas changing: what must always hold"
    )
    _add_policy(three)
    _add_format(three)
    three.add_argument("--events", type=int, default=100_000, metavar="N")
    three.add_argument("--seed", type=int, default=1)
    three.add_argument("--nodes", type=int, default=24, metavar="N")
    three.set_defaults(run=_steadiness)
    return parser


def _add_traces(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nodes",
        required=True,
        metavar="FILE",
        help="CSV with sn,cpu_milli,memory_mib,gpu,model; or a cluster such as 128x8:V100",
    )
    parser.add_argument(
        "--tasks", required=True, type=Path, metavar="FILE", help="openb CSV, or a Philly job list"
    )
    _add_policy(parser)
    _add_format(parser)


def _add_policy(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", choices=sorted(POLICIES), default="riseml")


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "json"), default="text")


def _add_seeds(parser: argparse.ArgumentParser, count: int) -> None:
    parser.add_argument("--seeds", type=int, default=count, metavar="N")
    parser.add_argument("--first-seed", type=int, default=1, metavar="N")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that share the seeds"
    )


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("it has to be more than 0")
    return value


def _traces(given: argparse.Namespace) -> tuple[list[TraceNode], list[TraceTask]]:
    path = Path(given.nodes)
    nodes = _read(path, read_nodes) if path.exists() else uniform_nodes(given.nodes)
    return nodes, _read(given.tasks, read_tasks)


def _read(path: Path, read: Callable[[Iterable[str]], _Result]) -> _Result:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return read(lines)
    except (UnreadableTrace, UnicodeDecodeError) as wrong:
        raise UnreadableTrace(f"{path}: {wrong}") from None


def _over_seeds(given: argparse.Namespace, run: _Run[_Result]) -> list[_Result]:
    """One result for each seed, in their order."""
    if given.seeds < 1:
        raise Unusable("--seeds has to be 1 or more")
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    progress = Progress(sys.stderr)
    results: list[_Result] = []

    def tell(part: float) -> None:
        done = (len(results) + part) / len(seeds)
        progress.show(done, f"{len(results)} of {len(seeds)} seeds done")

    try:
        if given.workers <= 1:
            for seed in seeds:
                results.append(run(seed, report=tell))
            return results
        tell(0.0)
        with ProcessPoolExecutor(min(given.workers, given.seeds)) as processes:
            for result in processes.map(run, seeds):
                results.append(result)
                tell(0.0)
        return results
    finally:
        progress.clear()


def _allocation(given: argparse.Namespace) -> int:
    nodes, tasks = _traces(given)
    run = partial(_allocate, nodes, tasks, POLICIES[given.policy], given.shuffle_nodes)
    values = report.allocation_values(given.policy, _over_seeds(given, run))
    _print(given, values, report.allocation_text)
    return 0


def _allocate(
    nodes: list[TraceNode],
    tasks: list[TraceTask],
    policy: Policy,
    shuffle: bool,
    seed: int,
    report: Report = unheard,
) -> allocation.Result:
    return allocation.allocate(nodes, tasks, policy, seed, shuffle_nodes=shuffle, report=report)


def _replay(given: argparse.Namespace) -> int:
    nodes, tasks = _traces(given)
    load = Load(
        offered=given.load,
        warm_up_seconds=given.warm_up_days * DAY,
        measured_seconds=given.days * DAY,
        overestimate=given.overestimate,
        users=given.users,
        priorities=given.priorities,
        checkpoint_seconds=None if given.checkpoints is None else given.checkpoints * MINUTE,
    )
    count = given.sample or len(nodes)
    run = partial(_replay_once, nodes, tasks, POLICIES[given.policy], load, count, given.pause)
    values = report.replay_values(given.policy, given.load, _over_seeds(given, run))
    _print(given, values, report.replay_text)
    return 0


def _replay_once(
    nodes: list[TraceNode],
    tasks: list[TraceTask],
    policy: Policy,
    load: Load,
    node_count: int,
    pause: float,
    seed: int,
    report: Report = unheard,
) -> replay.Result:
    return replay.replay(
        nodes,
        tasks,
        policy,
        load,
        seed,
        node_count=node_count,
        pause_seconds=pause,
        report=report,
    )


def _steadiness(given: argparse.Namespace) -> int:
    progress = Progress(sys.stderr)
    try:
        found = steadiness.shake(
            given.events,
            given.seed,
            policy=POLICIES[given.policy],
            node_count=given.nodes,
            report=progress.show,
        )
    finally:
        progress.clear()
    _print(given, found.values(), lambda values: found.text())
    return 1 if found.broken else 0


def _again(given: argparse.Namespace) -> int:
    found = recorded.again(
        recording.read(given.snapshot.read_text(encoding="utf-8")), POLICIES[given.policy]
    )
    _print(given, recorded.values(found), recorded.text)
    return 1 if found.differences else 0


def _print(
    given: argparse.Namespace, values: dict[str, Any], text: Callable[[dict[str, Any]], str]
) -> None:
    sys.stdout.write((json.dumps(values) if given.format == "json" else text(values)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
