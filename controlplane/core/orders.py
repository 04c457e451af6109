"""The order that a node gets for an attempt: made anew from what is stored when it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controlplane.core.derive import Member
from controlplane.core.settings import Settings
from controlplane.domain.model import Attempt, AttemptOrder, Experiment, Job, Node, Peer
from riseml.spec.model import Parameter, TrainSpec
from riseml.spec.pod_names import RENDEZVOUS_PORT, host_name, service_name
from riseml.spec.template import substitute


def output_path(experiment: Experiment) -> str:
    """Relative to the output root: `ana/digits/17`, of a child `ana/digits/12/3`."""
    path = f"{experiment.user_name}/{experiment.project}/{experiment.number}"
    return f"{path}/{experiment.child_number}" if experiment.child_number else path


def run_commands(spec: TrainSpec, parameters: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """The commands with the parameters put in. InvalidTemplate for a name that is no parameter."""
    values = [Parameter(name, value) for name, value in parameters]
    return tuple([substitute(c, values) if "{{" in c else c for c in spec.run])


def peers_of(members: Sequence[Member], nodes: Mapping[str, Node]) -> tuple[Peer, ...]:
    """All members of a gang by rank; empty for a single job."""
    if len(members) == 1:
        return ()
    return tuple(
        _peer(job, attempt, nodes[attempt.node_name])
        for job, attempt in members
        if attempt is not None and attempt.node_name in nodes
    )


def _peer(job: Job, attempt: Attempt, node: Node) -> Peer:
    """A process is reached at its node, on a port that is its own there; a pod by its name."""
    host, port = node.inventory.address, attempt.port
    if node.inventory.capabilities.pod_network:
        service = service_name(job.experiment_id)
        host, port = f"{host_name(job.type, job.number)}.{service}", RENDEZVOUS_PORT
    return Peer(job.type, job.number, job.rank, host, port, len(attempt.gpus))


def build_order(
    experiment: Experiment,
    job: Job,
    attempt: Attempt,
    peers: tuple[Peer, ...],
    run: tuple[str, ...],
    settings: Settings,
) -> AttemptOrder:
    """Everything that the node needs to run this attempt."""
    spec = experiment.spec
    stops_alone = "node_lost" in spec.retry.on_events
    return AttemptOrder(
        attempt_id=attempt.id,
        job_id=job.id,
        experiment_id=experiment.id,
        user_name=experiment.user_name,
        project=experiment.project,
        generation=attempt.generation,
        revision_id=experiment.revision_id,
        run=run,
        env=tuple([(variable.name, variable.value) for variable in spec.env]),
        secret_env_names=tuple([variable.name for variable in spec.env if variable.secret]),
        parameters=experiment.parameters,
        cpu_milli=attempt.cpu_milli,
        memory_bytes=attempt.memory_bytes,
        shm_bytes=job.resources.shm_bytes,
        gpus=attempt.gpus,
        grace_period_seconds=float(spec.grace_period_seconds),
        contact_timeout_seconds=settings.contact_timeout_seconds if stops_alone else 0.0,
        install=spec.install if attempt.build_attempt_id else (),
        build_attempt_id=attempt.build_attempt_id,
        framework=spec.framework or "",
        peers=peers,
        rank=job.rank,
        job_type=job.type,
        job_number=job.number,
        output_path=output_path(experiment),
        image=spec.image or "",
        framework_version=spec.framework_version or "",
    )
