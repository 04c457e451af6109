"""What holds of every cluster, whatever happened to it. For tests, and for who suspects a fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from controlplane.core.derive import (
    Decision,
    experiment_standing,
    judge,
    members_of,
    set_standing,
)
from controlplane.core.usage import Account, UseLedger
from controlplane.core.views import GPU_MILLI, NodeUsage
from controlplane.domain.model import Attempt, Experiment, GpuHealthName
from controlplane.domain.states import State
from riseml.spec.system_test import gpu_under_test

if TYPE_CHECKING:
    from controlplane.core.cluster import Cluster


class InvariantViolated(AssertionError):
    """A fault in the reactor; the message names all that does not hold."""


def check_invariants(cluster: Cluster) -> None:
    """Raises InvariantViolated unless all of them hold."""
    faults = [
        *_node_faults(cluster),
        *_attempt_faults(cluster),
        *_index_faults(cluster),
        *_quarantine_faults(cluster),
        *_use_faults(cluster),
    ]
    for experiment in cluster.experiments.values():
        if experiment.is_set:
            faults.extend(_set_faults(cluster, experiment))
        else:
            faults.extend(_experiment_faults(cluster, experiment))
    if faults:
        raise InvariantViolated("; ".join(faults))


def _live(cluster: Cluster) -> list[Attempt]:
    return [attempt for attempt in cluster.attempts.values() if not attempt.state.ended]


def _node_faults(cluster: Cluster) -> Iterator[str]:
    held: dict[str, NodeUsage] = {}
    ports: set[tuple[str, int]] = set()
    for attempt in _live(cluster):
        held.setdefault(attempt.node_name, NodeUsage()).add(attempt)
        if attempt.port:
            if (attempt.node_name, attempt.port) in ports:
                yield f"port {attempt.port} of {attempt.node_name} is given twice"
            ports.add((attempt.node_name, attempt.port))
    for name in held.keys() | cluster.usage.keys():
        usage = held.get(name, NodeUsage())
        if cluster.usage_of(name) != usage:
            yield f"usage of {name} is not what its attempts hold"
        for uuid, milli in usage.gpu_milli.items():
            if milli > GPU_MILLI:
                yield f"GPU {uuid} is given {milli} thousandths"
        node = cluster.nodes.get(name)
        if node is None or name in cluster.overfull:
            continue
        if usage.cpu_milli > node.inventory.cpu_milli:
            yield f"CPUs of {name} are over capacity"
        if usage.memory_bytes > node.inventory.memory_bytes:
            yield f"memory of {name} is over capacity"
        if usage.shm_bytes > node.inventory.shm_bytes > 0:
            yield f"shared memory of {name} is over capacity"


def _attempt_faults(cluster: Cluster) -> Iterator[str]:
    live_jobs: set[str] = set()
    for attempt in cluster.attempts.values():
        if attempt.experiment_id not in cluster.experiments:
            yield f"{attempt.id} has no experiment"
        if attempt.job_id not in cluster.jobs:
            yield f"{attempt.id} has no job"
        if attempt.state.ended:
            if attempt.end_time is None or attempt.node_lost:
                yield f"{attempt.id} has not ended properly"
            continue
        if attempt.job_id in live_jobs:
            yield f"{attempt.job_id} has two live attempts"
        live_jobs.add(attempt.job_id)
        if attempt.node_name not in cluster.nodes:
            yield f"{attempt.id} lives on an unknown node"
        job = cluster.jobs.get(attempt.job_id)
        if job is not None and job.state.ended:
            yield f"{job.id} has ended, but {attempt.id} lives"


def _index_faults(cluster: Cluster) -> Iterator[str]:
    live = {(a.node_name, a.id) for a in _live(cluster)}
    if live != {(node, i) for node, ids in cluster.live_by_node.items() for i in ids}:
        yield "the index of live attempts by node is wrong"
    if not cluster.checkpoints.keys() <= {attempt.id for attempt in _live(cluster)}:
        yield "checkpoints are kept of attempts that have ended"
    if set(cluster.jobs) != {i for ids in cluster.jobs_by_experiment.values() for i in ids}:
        yield "the index of jobs by experiment is wrong"
    indexed = {i for ids in cluster.attempts_by_experiment.values() for i in ids}
    if set(cluster.attempts) != indexed:
        yield "the index of attempts by experiment is wrong"


def _use_faults(cluster: Cluster) -> Iterator[str]:
    """The accounts of queues and users, against a recount of all that lives."""
    ledger = cluster.use
    recount = UseLedger(ledger.half_life_seconds)
    for node in cluster.nodes.values():
        recount.node_changed(None, node.inventory, None)
    for experiment in cluster.experiments.values():
        if not experiment.is_set:
            recount.moved(experiment, None, experiment.state)
    for attempt in _live(cluster):
        owner = cluster.experiments.get(attempt.experiment_id)
        if owner is not None:
            recount.take(owner, attempt, attempt.create_time)
    if ledger.capacity != recount.capacity:
        yield f"the cluster's capacity is not {ledger.capacity}, but {recount.capacity}"
    known, counted = dict(ledger.accounts()), dict(recount.accounts())
    for key in known.keys() | counted.keys():
        is_said, follows = (each.get(key, Account()).standing for each in (known, counted))
        if is_said != follows:
            yield f"the account of {key} says {is_said}, but follows as {follows}"
        if not known.get(key, Account()).seconds >= 0.0:
            yield f"the account of {key} used {known[key].seconds} seconds"
    for queue, _ in ledger.accounts():
        if cluster.queue(queue[0]) is None:
            yield f"there is an account of {queue}, but no such queue"


def _quarantine_faults(cluster: Cluster) -> Iterator[str]:
    if set(cluster.quarantined) != {n for n, node in cluster.nodes.items() if node.quarantines}:
        yield "the index of nodes with quarantines is wrong"
    tests: set[str] = set()
    for node in cluster.nodes.values():
        known = {quarantine.uuid: quarantine for quarantine in node.quarantines}
        if len(known) != len(node.quarantines):
            yield f"a GPU of {node.name} is quarantined twice"
        for gpu in node.inventory.gpus:
            quarantine = known.get(gpu.uuid)
            if gpu.health == GpuHealthName.HEALTHY and quarantine is not None:
                yield f"{gpu.uuid} is given to jobs before it was tested"
            if gpu.health == GpuHealthName.PROBATION and quarantine is None:
                yield f"{gpu.uuid} is in probation for nothing"
        for quarantine in node.quarantines:
            if quarantine.test_id:
                tests.add(quarantine.test_id)
                test = cluster.experiments.get(quarantine.test_id)
                if test is None or test.state.ended or gpu_under_test(test.spec) != quarantine.uuid:
                    yield f"{quarantine.uuid} waits for {quarantine.test_id}, which tests it not"
    for experiment in cluster.experiments.values():
        stray = gpu_under_test(experiment.spec) and experiment.id not in tests
        if stray and not experiment.state.ended and not experiment.kill_requested:
            yield f"nobody waits for the test {experiment.id}"


def _experiment_faults(cluster: Cluster, experiment: Experiment) -> Iterator[str]:
    jobs, attempts = cluster.jobs_of(experiment.id), cluster.attempts_of(experiment.id)
    members = members_of(jobs, attempts, experiment.generation)
    builds = [a for a in attempts if cluster.jobs[a.job_id].rank < 0]
    if not members:
        yield f"{experiment.id} has no jobs"
        return
    live = [a for a in attempts if not a.state.ended]
    placed = [a for _, a in members if a is not None]
    if len(placed) not in (0, len(members)):
        yield f"{experiment.id} is half placed"
    if any(a.generation > experiment.generation for a in attempts):
        yield f"{experiment.id} has attempts of generations to come"
    if any(a.generation < experiment.generation for a in live):
        yield f"{experiment.id} runs two generations at once"
    if experiment.state.ended and live:
        yield f"{experiment.id} has ended, but {live[0].id} lives"
    if experiment.state.ended != (experiment.end_time is not None):
        yield f"{experiment.id} has an end without a time, or a time without an end"
    if experiment.state.ended and not all(job.state.ended for job in jobs):
        yield f"{experiment.id} has ended, but some of its jobs have not"
    if experiment.state is State.PENDING and live:
        yield f"{experiment.id} waits, but {live[0].id} lives"
    standing = experiment_standing(experiment, members, builds)
    stored = (experiment.state, experiment.reason, experiment.message)
    if stored != (standing.state, standing.reason, standing.message):
        yield f"{experiment.id} is {stored}, but follows as {standing}"
    if live and judge(experiment, members).decision not in (Decision.GO_ON, Decision.FINISH):
        for _, attempt in members:
            if attempt is not None and not attempt.state.ended and not attempt.stop_reason:
                yield f"{attempt.id} has to be stopped, but is not"


def _set_faults(cluster: Cluster, experiment: Experiment) -> Iterator[str]:
    progress = cluster.sets.get(experiment.id)
    if progress is None:
        yield f"the set {experiment.id} has no progress"
        return
    if sum(progress.counts.values()) != experiment.child_count:
        yield f"the children of {experiment.id} are counted wrong: {progress.counts}"
    active = sum(
        count
        for state, count in progress.counts.items()
        if state is not State.CREATED and not state.ended
    )
    if active > experiment.spec.concurrency:
        yield f"{active} children of {experiment.id} run at once"
    if not experiment.kill_requested and active < experiment.spec.concurrency and progress.waiting:
        yield f"a child of {experiment.id} waits, but could have its turn"
    if experiment.state is not set_standing(experiment, progress.counts).state:
        yield f"the set {experiment.id} is {experiment.state}, which does not follow"
