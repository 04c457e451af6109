"""What the simulations found, over seeds: as values for JSON, and as text to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from controlplane.simulation import allocation, replay
from controlplane.simulation.measures import (
    Outcome,
    Summary,
    by_priority,
    by_size,
    by_user,
    mean_and_deviation,
    summary,
)

Values = dict[str, Any]
HOUR = 3600.0

_SUMMARY_NAMES = {
    "mean": "wait_mean_seconds",
    "p50": "wait_p50_seconds",
    "p95": "wait_p95_seconds",
    "longest": "wait_max_seconds",
    "slowdown": "slowdown_mean",
    "slowdown_p95": "slowdown_p95",
}


def allocation_values(policy: str, results: Sequence[allocation.Result]) -> Values:
    """Means over the seeds, in %; `stdev` is that of `at_130`."""
    at_100, deviation_100 = mean_and_deviation([result.at_100 for result in results])
    at_130, deviation_130 = mean_and_deviation([result.at_130 for result in results])
    arrived = sum(result.arrived for result in results)
    curves = zip(*[result.curve for result in results], strict=True)
    return {
        "policy": policy,
        "seeds": len(results),
        "at_100": round(at_100, 3),
        "at_130": round(at_130, 3),
        "stdev": round(deviation_130, 3),
        "stdev_at_100": round(deviation_100, 3),
        "decisions_per_second": round(arrived / sum(result.cycle_seconds for result in results)),
        "arrived": arrived,
        "placed": sum(result.placed for result in results),
        "curve": [round(sum(values) / len(values), 3) for values in curves],
    }


def allocation_text(values: Values) -> str:
    return (
        f"{values['policy']}: {values['at_100']:.2f} % of all GPUs allocated when tasks have asked "
        f"for 100 % of them, {values['at_130']:.2f} % at 130 % (mean of {values['seeds']} seeds, "
        f"standard deviation {values['stdev']:.2f}); "
        f"{values['decisions_per_second']} decisions a second"
    )


def replay_values(policy: str, load: float, results: Sequence[replay.Result]) -> Values:
    """Means over the seeds of what was found for each seed; `stdev` is that over the seeds."""
    summaries = [summary(result.outcomes) for result in results]
    values: Values = {
        "policy": policy,
        "load": load,
        "seeds": len(results),
        "nodes": results[0].node_count,
        "gpus": round(_mean([result.gpu_count for result in results])),
        "tasks": sum(one.count for one in summaries),
        **_of_summaries(summaries),
        "utilization": round(100.0 * _mean([result.utilization for result in results]), 2),
        "preemptions": round(_mean([result.preemptions for result in results]), 1),
        "lost_gpu_hours": round(_mean([result.lost_gpu_seconds for result in results]) / HOUR, 1),
        "unfinished": sum(result.unfinished for result in results),
        "cycles": sum(result.cycles for result in results),
        "cycle_ms": round(
            1e3 * sum(r.cycle_seconds for r in results) / max(1, sum(r.cycles for r in results)), 3
        ),
        "longest_cycle_ms": round(1e3 * max(r.longest_cycle_seconds for r in results), 1),
        "stdev": {
            "wait_mean_seconds": round(mean_and_deviation([s.mean for s in summaries])[1], 1),
            "wait_p95_seconds": round(mean_and_deviation([s.p95 for s in summaries])[1], 1),
        },
        "by_gpus": _grouped(results, by_size),
    }
    first = results[0].outcomes
    if len({outcome.priority for outcome in first}) > 1:
        values["by_priority"] = _grouped(results, by_priority)
    if len({outcome.user_name for outcome in first}) > 1:
        values["by_user"] = _grouped(results, by_user)
    values["each_seed"] = [
        {"wait_mean_seconds": round(one.mean, 1), "wait_p95_seconds": round(one.p95, 1)}
        for one in summaries
    ]
    return values


def _grouped(
    results: Sequence[replay.Result],
    group: Callable[[Sequence[Outcome]], Mapping[str, Summary]],
) -> Values:
    """Each group's figures, over the seeds in which it has tasks."""
    found: dict[str, list[Summary]] = {}
    for result in results:
        for name, one in group(result.outcomes).items():
            found.setdefault(name, []).append(one)
    return {
        name: {"tasks": sum(one.count for one in group), **_of_summaries(group)}
        for name, group in found.items()
    }


def _of_summaries(summaries: Sequence[Summary]) -> Values:
    return {
        name: round(_mean([getattr(one, field) for one in summaries]), 2)
        for field, name in _SUMMARY_NAMES.items()
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def replay_text(values: Values) -> str:
    lines = [
        f"{values['policy']} at load {values['load']:g} on {values['nodes']} nodes with about "
        f"{values['gpus']} GPUs: {values['tasks']} tasks of {values['seeds']} seeds, "
        f"{values['utilization']:.1f} % of the GPUs held, {values['preemptions']:g} preemptions "
        f"with {values['lost_gpu_hours']:g} GPU hours lost, {values['cycle_ms']:.2f} ms a cycle",
        "",
        _row("", "tasks", "mean", "p50", "p95", "max", "slowdown"),
        _summary_row("all", values),
    ]
    for title in ("by_gpus", "by_priority", "by_user"):
        groups = values.get(title, {})
        if groups:
            lines += ["", title.replace("_", " ")]
            lines += [_summary_row(name, group) for name, group in groups.items()]
    lines += ["", "Waits in hours."]
    if values["unfinished"]:
        lines.append(f"{values['unfinished']} tasks had not started when patience ended.")
    return "\n".join(lines)


def _summary_row(name: str, values: Values) -> str:
    hours = [
        f"{values[f'wait_{which}_seconds'] / HOUR:.2f}" for which in ("mean", "p50", "p95", "max")
    ]
    return _row(name, str(values["tasks"]), *hours, f"{values['slowdown_mean']:.2f}")


def _row(first: str, *cells: str) -> str:
    return f"{first:<10}" + "".join(f"{cell:>10}" for cell in cells)
