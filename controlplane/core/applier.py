"""Makes a plan real, after checking each placement against the cluster as it is now.

A plan was made from a picture that may be old: a placement that no longer fits is rejected, its
experiment waits on, and nothing else is touched. A gang is placed whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from controlplane.core.derive import members_of
from controlplane.core.draft import Draft, Outcome
from controlplane.core.gpu_words import lottery_reason, untestable_reason, unusable_reason
from controlplane.core.lifecycle import advance, is_build, stop_attempt
from controlplane.core.orders import build_order, peers_of, run_commands
from controlplane.core.settings import Settings
from controlplane.core.usage import gang_gpu_milli
from controlplane.core.views import (
    GPU_MILLI,
    NodeUsage,
    closed_reason,
    free_shm_bytes,
    node_labels,
    node_taints,
)
from controlplane.domain import reasons
from controlplane.domain.effects import PlanApplied, RejectedPlacement, StartAttempt
from controlplane.domain.events import PlanMade
from controlplane.domain.model import Attempt, Experiment, GpuShare, Job, Node
from controlplane.domain.plan import Eviction, GangPlacement
from controlplane.domain.snapshot import MemberPlacement
from controlplane.domain.states import AttemptState, State
from riseml.spec.gpus import model_fits, models_in_words
from riseml.spec.model import Resources
from riseml.spec.system_test import gpu_under_test
from riseml.spec.taints import format_taint, untolerated
from riseml.spec.units import format_milli


class _Rejected(Exception):
    """A placement does not fit; its text says why."""


def plan_made(draft: Draft, event: PlanMade, settings: Settings) -> Outcome:
    """Reply: PlanApplied."""
    plan = event.plan
    usage: dict[str, NodeUsage] = {}
    given: dict[str, int] = {}
    started: list[str] = []
    rejected: list[RejectedPlacement] = []
    for placement in plan.placements:
        try:
            _place(draft, placement, usage, given, settings)
        except _Rejected as wrong:
            rejected.append(RejectedPlacement(placement.experiment_id, str(wrong)))
        else:
            started.append(placement.experiment_id)
    evicted = [one.experiment_id for one in plan.evictions if _evict(draft, one)]
    if rejected and not draft.cluster.is_current(plan.version):
        # The picture was old; a new one is worth a try.
        draft.wake_scheduler()
    draft.waiting = plan.waiting
    draft.reservations = plan.reservations
    # What the plan found taken may be free where a placement was rejected.
    draft.waiting_version = 0 if rejected else plan.version
    return draft.outcome(PlanApplied(tuple(started), tuple(rejected), tuple(evicted)))


def _place(
    draft: Draft,
    placement: GangPlacement,
    usage: dict[str, NodeUsage],
    given: dict[str, int],
    settings: Settings,
) -> None:
    """`given` are the thousandths of GPUs that queues got by this plan."""
    experiment = draft.experiment(placement.experiment_id)
    if experiment is None or experiment.state is not State.PENDING or experiment.is_set:
        raise _Rejected("it does not wait any more")
    gang = [job for job in draft.jobs_of(experiment.id) if job.rank >= 0]
    by_job = {member.job_id: member for member in placement.members}
    if len(by_job) != len(placement.members) or by_job.keys() != {job.id for job in gang}:
        raise _Rejected("the placement does not name each of its jobs once")
    queue, gpu_milli = experiment.spec.queue, gang_gpu_milli(experiment.spec)
    _check_limit(draft, queue, given.get(queue, 0), gpu_milli)
    pinned = draft.cluster.pinned_nodes(experiment) if experiment.generation else ()
    generation = experiment.generation + 1
    tests_gpu = gpu_under_test(experiment.spec)
    attempts: list[Attempt] = []
    hosts = _nodes_by_address(draft) if len(gang) > 1 else {}
    try:
        for job in gang:
            member = by_job[job.id]
            if pinned and member.node_name not in pinned:
                raise _Rejected(f"its outputs lie on {', '.join(pinned)}")
            node = _open_node(draft, experiment, member.node_name)
            held = usage.get(node.name)
            if held is None:
                held = usage[node.name] = draft.cluster.usage_of(node.name).copy()
            attempt = _attempt(draft, job, member, node, held, generation, tests_gpu)
            if len(gang) > 1 and not node.inventory.capabilities.pod_network:
                taken = _ports_of_host(draft, node, hosts, usage)
                attempt = replace(attempt, port=_free_port(node, taken))
            held.add(attempt)
            attempts.append(attempt)
    except _Rejected:
        for attempt in attempts:
            usage[attempt.node_name].remove(attempt)
        raise
    given[queue] = given.get(queue, 0) + gpu_milli
    _start(
        draft, replace(experiment, generation=generation, idle_since=None), gang, attempts, settings
    )


def _check_limit(draft: Draft, name: str, given: int, wanted: int) -> None:
    """What asks for no GPUs is within any limit."""
    queue = draft.cluster.queue(name)
    limit = None if queue is None else queue.limit_gpu_milli
    if limit is None or not wanted:
        return
    if draft.cluster.use.account(name).gpu_milli + given + wanted > limit:
        raise _Rejected(f"queue {name} may hold {format_milli(limit)} GPUs at most")


def _open_node(draft: Draft, experiment: Experiment, name: str) -> Node:
    node = draft.node(name)
    if node is None:
        raise _Rejected(f"node {name} is unknown")
    closed = closed_reason(node)
    if closed:
        raise _Rejected(f"node {name} is {closed}")
    capabilities = node.inventory.capabilities
    if capabilities.only_user not in ("", experiment.user_name):
        raise _Rejected(f"node {name} only runs jobs of {capabilities.only_user}")
    spec = experiment.spec
    taint = untolerated(node_taints(node), spec.tolerations)
    if taint is not None:
        raise _Rejected(f"it does not tolerate the taint {format_taint(taint)} of node {name}")
    if spec.image and not capabilities.runs_images:
        raise _Rejected(f"node {name} cannot run images")
    if spec.node_selector:
        labels = dict(node_labels(node))
        for key, value in spec.node_selector:
            if labels.get(key) != value:
                raise _Rejected(f"node {name} has no label {key}={value}")
    return node


def _attempt(
    draft: Draft,
    job: Job,
    member: MemberPlacement,
    node: Node,
    held: NodeUsage,
    generation: int,
    tests_gpu: str,
) -> Attempt:
    resources, inventory = job.resources, node.inventory
    if resources.cpu_milli > inventory.cpu_milli - held.cpu_milli:
        raise _Rejected(f"node {node.name} has too few free CPUs")
    if resources.memory_bytes > inventory.memory_bytes - held.memory_bytes:
        raise _Rejected(f"node {node.name} has too little free memory")
    # Where the size is unknown nothing is counted.
    if inventory.shm_bytes and resources.shm_bytes > free_shm_bytes(inventory, held):
        raise _Rejected(f"node {node.name} has too little free shared memory")
    if resources.gpu_milli or member.gpus:
        _check_gpus(resources, member.gpus, node, held, tests_gpu)
    return Attempt(
        id=f"{job.id}-{generation}",
        job_id=job.id,
        experiment_id=job.experiment_id,
        generation=generation,
        node_name=node.name,
        state=AttemptState.ASSIGNED,
        create_time=draft.now,
        gpus=member.gpus,
        cpu_milli=resources.cpu_milli,
        memory_bytes=resources.memory_bytes,
        shm_bytes=resources.shm_bytes,
    )


def _check_gpus(
    resources: Resources,
    shares: Sequence[GpuShare],
    node: Node,
    held: NodeUsage,
    tests_gpu: str,
) -> None:
    if sum(share.milli for share in shares) != resources.gpu_milli:
        raise _Rejected(f"the placement does not give {resources.gpu_milli} thousandths of GPUs")
    if len({share.uuid for share in shares}) != resources.gpu_count:
        raise _Rejected(f"the placement does not give {resources.gpu_count} different GPUs")
    if node.inventory.capabilities.whole_gpus and resources.gpu_milli % GPU_MILLI:
        raise _Rejected(f"node {node.name} gives whole GPUs only")
    gpus = {gpu.uuid: gpu for gpu in node.inventory.gpus}
    lottery = lottery_reason(node.inventory, held.gpu_milli)
    for share in shares:
        gpu = gpus.get(share.uuid)
        if gpu is None:
            raise _Rejected(f"node {node.name} has no GPU {share.uuid}")
        if tests_gpu:
            unusable = untestable_reason(gpu, tests_gpu)
        else:
            unusable = unusable_reason(gpu) or lottery
        if unusable:
            raise _Rejected(f"GPU {gpu.index} of node {node.name} is unusable: {unusable}")
        if not 0 < share.milli <= GPU_MILLI - held.gpu_milli.get(share.uuid, 0):
            raise _Rejected(f"GPU {gpu.index} of node {node.name} is not free enough")
        if resources.gpu_model and not (
            model_fits(resources.gpu_model, gpu.model) or model_fits(resources.gpu_model, gpu.name)
        ):
            wanted = models_in_words(resources.gpu_model)
            raise _Rejected(f"GPU {gpu.index} of node {node.name} is no {wanted}")
        if gpu.memory_bytes < resources.gpu_min_memory_bytes:
            raise _Rejected(f"GPU {gpu.index} of node {node.name} has too little memory")


def _nodes_by_address(draft: Draft) -> dict[str, list[str]]:
    """Several daemons may run on one host; a node without an address is a host of its own."""
    hosts: dict[str, list[str]] = {}
    for name, node in draft.cluster.nodes.items():
        hosts.setdefault(node.inventory.address or name, []).append(name)
    return hosts


def _ports_of_host(
    draft: Draft, node: Node, hosts: dict[str, list[str]], usage: dict[str, NodeUsage]
) -> set[int]:
    """Rendezvous ports that gangs hold on the node's host, whichever daemon runs them."""
    taken: set[int] = set()
    for name in hosts[node.inventory.address or node.name]:
        taken |= (usage.get(name) or draft.cluster.usage_of(name)).ports
    return taken


def _free_port(node: Node, taken: set[int]) -> int:
    inventory = node.inventory
    if inventory.first_port > 0:
        for port in range(inventory.first_port, inventory.last_port + 1):
            if port not in taken:
                return port
    raise _Rejected(f"node {node.name} has no free rendezvous port")


def _start(
    draft: Draft,
    experiment: Experiment,
    gang: list[Job],
    attempts: list[Attempt],
    settings: Settings,
) -> None:
    draft.put_experiment(experiment)
    if experiment.spec.install:
        builds = _put_builds(draft, experiment, attempts)
        attempts = [replace(a, build_attempt_id=builds[a.id]) for a in attempts]
    for attempt in attempts:
        draft.put_attempt(attempt)
    advance(draft, experiment.id)
    members = members_of(gang, attempts, experiment.generation)
    peers = peers_of(members, draft.cluster.nodes)
    run = run_commands(experiment.spec, experiment.parameters)
    for job, attempt in zip(gang, attempts, strict=True):
        order = build_order(experiment, job, attempt, peers, run, settings)
        draft.effect(StartAttempt(attempt.node_name, order))


def _put_builds(draft: Draft, experiment: Experiment, attempts: list[Attempt]) -> dict[str, str]:
    """A build job and attempt for each environment that is made: one for each node used, or where
    jobs are pods one for each of them, for a pod keeps nothing for others. Returns ids of build
    attempts by the ids of those that they are for.
    """
    jobs = draft.jobs_of(experiment.id)
    number = sum(job.type == "build" for job in jobs)
    builds: dict[str, str] = {}
    shared: dict[str, str] = {}
    for attempt in attempts:
        if attempt.node_name in shared:
            builds[attempt.id] = shared[attempt.node_name]
            continue
        number += 1
        job = Job(
            id=f"{experiment.id}.build.{number}",
            experiment_id=experiment.id,
            type="build",
            number=number,
            rank=-1,
            resources=Resources(cpu_milli=0, memory_bytes=0),
            state=State.CREATED,
        )
        build = Attempt(
            id=f"{job.id}-{experiment.generation}",
            job_id=job.id,
            experiment_id=experiment.id,
            generation=experiment.generation,
            node_name=attempt.node_name,
            state=AttemptState.ASSIGNED,
            create_time=draft.now,
        )
        draft.put_job(job)
        draft.put_attempt(build)
        builds[attempt.id] = build.id
        node = draft.node(attempt.node_name)
        if node is None or not node.inventory.capabilities.pod_network:
            shared[attempt.node_name] = build.id
    return builds


def _evict(draft: Draft, eviction: Eviction) -> bool:
    """Stops a gang for one that waits; False if either is not as the plan saw it."""
    for_whom = draft.experiment(eviction.for_experiment_id)
    if for_whom is None or for_whom.state is not State.PENDING:
        return False
    experiment = draft.experiment(eviction.experiment_id)
    if experiment is None or experiment.state.ended:
        return False
    found = False
    for attempt in draft.attempts_of(experiment.id):
        if not attempt.state.ended and not attempt.stop_reason and not is_build(draft, attempt):
            stop_attempt(
                draft,
                attempt,
                reasons.STOP_PREEMPTED,
                message=eviction.reason,
                for_experiment_id=eviction.for_experiment_id,
            )
            found = True
    if found:
        advance(draft, experiment.id)
    return found
