"""What a submission would make, without making it."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.core.cluster import Cluster
from controlplane.core.draft import Outcome
from controlplane.core.reactor import on_event
from controlplane.core.settings import Settings
from controlplane.core.views import gang_request
from controlplane.domain.events import ExperimentSubmitted
from controlplane.domain.model import Experiment, Job
from controlplane.domain.snapshot import GangRequest
from controlplane.domain.states import State


@dataclass(frozen=True, slots=True)
class DryRun:
    """An experiment or set as it would be, with the gangs of it that would wait at once."""

    experiment: Experiment
    # Its own, or those of the first children, as many as may run at once.
    gangs: tuple[GangRequest, ...]
    warnings: tuple[str, ...]


def dry_run(cluster: Cluster, event: ExperimentSubmitted, now: float, settings: Settings) -> DryRun:
    """Goes through all checks of a submission; the cluster stays as it is.

    The event has no request_id. Raises the DomainError that would refuse it.
    """
    outcome: Outcome = on_event(cluster, event, now, settings)
    jobs: dict[str, list[Job]] = {}
    experiments: list[Experiment] = []
    for change in outcome.changes:
        entity = change.entity
        if isinstance(entity, Job):
            jobs.setdefault(entity.experiment_id, []).append(entity)
        elif isinstance(entity, Experiment):
            experiments.append(entity)
    whole = experiments[0]
    waiting = [one for one in experiments if one.state is State.PENDING and not one.is_set]
    gangs = tuple([gang_request(one, jobs[one.id], ()) for one in waiting])
    return DryRun(whole, gangs, _warnings(outcome.reply))


def _warnings(reply: object) -> tuple[str, ...]:
    match reply:
        case (Experiment(), tuple() as warnings):
            return warnings
    raise TypeError(f"the reply of a submission is {type(reply).__name__}")
