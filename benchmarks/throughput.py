"""1,000 `true` jobs on 64 slots, from the first submission to the last FINISHED that a client
sees.
"""

from __future__ import annotations

from typing import Any, Final

from benchmarks import machine
from benchmarks.harness import NODE, BenchmarkError, Cluster, Options, run_load, running_cluster
from benchmarks.report import Row, Sample, ratio_at_least

SLOTS: Final = 64
IN_FLIGHT: Final = 64
FLOOR: Final = 0.15


def run_true_jobs(cluster: Cluster, count: int, width: int | str, slots: int) -> dict[str, Any]:
    """What `loads/submitting.py` says of so many jobs on so many slots."""
    return run_load(
        "submitting",
        cluster.address,
        count,
        width,
        cluster.cpu_milli_for_slots(slots),
        env=cluster.load_env,
    )


def check_recorded(cluster: Cluster, ids: list[str]) -> None:
    """Of each: one attempt on our node with exit code 0, and its whole (empty) output archived."""
    client = cluster.client()
    wanted = set(ids)
    found = 0
    set_ids = sorted({i.rsplit(".", 1)[0] for i in ids if i.count(".") > 1})
    for listing in set_ids or [""]:
        for experiment in client.experiments.list(set_id=listing, with_jobs=True, page_size=1000):
            if experiment.id not in wanted:
                continue
            found += 1
            attempts = [a for job in experiment.jobs for a in job.attempts]
            recorded = [(a.node_name, a.exit_code) for a in attempts if a.HasField("exit_code")]
            if recorded != [(NODE, 0)]:
                raise BenchmarkError(f"{experiment.id}: recorded ends are {recorded}")
    if found != len(wanted):
        raise BenchmarkError(f"{found} of {len(wanted)} are recorded")
    for experiment_id in ids[:: max(1, len(ids) // 100)]:
        ends = [r.eof.final_offset for r in client.logs.tail(experiment_id) if r.HasField("eof")]
        if ends != [0]:
            raise BenchmarkError(f"{experiment_id}: its output ends at {ends}")


def measure(options: Options) -> list[Row]:
    """Each repeat on a fresh cluster, with the spawns beside it."""
    ours, spawns, submitting, as_set = [], [], [], []
    count = options.count(1_000, 300)
    for _ in range(options.repeats):
        spawns.append(machine.spawns_per_second(options)[0])
        with running_cluster(options, "throughput") as cluster:
            run_true_jobs(cluster, 64, IN_FLIGHT, SLOTS)
            result = run_true_jobs(cluster, count, IN_FLIGHT, SLOTS)
            check_recorded(cluster, result["ids"])
            ours.append(count / result["seconds"])
            submitting.append(result["submit_seconds"] / result["seconds"])
            result = run_true_jobs(cluster, count, "set", SLOTS)
            check_recorded(cluster, result["ids"])
            as_set.append(count / result["seconds"])
    share = sum(submitting) / len(submitting)
    return [
        Row(
            f"{count:,} `true` jobs, 64 slots, submit to all FINISHED",
            Sample("/s", tuple(ours)),
            Sample("/s", tuple(spawns)),
            "asyncio spawn + pipe",
            ratio_at_least(FLOOR),
            (
                "exit code 0 recorded for each, output archived",
                f"the last was submitted after {share:.0%} of the time; aim 0.28",
            ),
        ),
        Row(
            f"the same as one set of {count:,} children",
            Sample("/s", tuple(as_set)),
            Sample("/s", tuple(spawns)),
            "asyncio spawn + pipe",
        ),
    ]
