"""Experiments with a `utilization_policy`: whose GPUs are watched, and what follows when all of
them stay idle. How long they have been is counted outside, see `controlplane/idleness.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from controlplane.core.derive import Decision, judge, members_of
from controlplane.core.draft import Draft, Outcome
from controlplane.core.lifecycle import advance, stop_attempt
from controlplane.domain import reasons
from controlplane.domain.events import GpusIdle
from controlplane.domain.states import State

if TYPE_CHECKING:
    from controlplane.core.cluster import Cluster


@dataclass(frozen=True, slots=True)
class Watched:
    """An experiment that runs, and the GPUs that it uses. One that it shares is read as a whole:
    when no kernel ran there, none of this experiment did; when one did, nobody knows whose it was.
    """

    experiment_id: str
    generation: int
    gpus: tuple[str, ...]
    min_percent: int
    window_seconds: int
    # Whether its user was told already that they are idle.
    noticed: bool


def watched(cluster: Cluster) -> Iterator[Watched]:
    """Experiments whose policy counts now: all of their jobs run, and none is being stopped."""
    for experiment_id in cluster.policed:
        experiment = cluster.experiments[experiment_id]
        policy = experiment.spec.utilization_policy
        if policy is None or experiment.state is not State.RUNNING:
            continue
        live = [a for a in cluster.attempts_of(experiment_id) if not a.state.ended]
        if any(attempt.stop_reason for attempt in live):
            continue
        gpus = dict.fromkeys([share.uuid for a in live for share in a.gpus])
        if gpus:
            yield Watched(
                experiment_id,
                experiment.generation,
                tuple(gpus),
                policy.min_gpu_utilization_percent,
                policy.time_window_seconds,
                experiment.idle_since is not None,
            )


def gpus_idle(draft: Draft, event: GpusIdle) -> Outcome:
    """Reply: None. Tells the user, takes it back, or ends the experiment as `max_duration` does."""
    experiment = draft.experiment(event.experiment_id)
    if (
        experiment is None
        or experiment.state is not State.RUNNING
        or experiment.generation != event.generation
        or experiment.spec.utilization_policy is None
    ):
        return draft.outcome()
    if experiment.idle_since != event.since:
        draft.put_experiment(replace(experiment, idle_since=event.since))
    if event.stop:
        attempts = draft.attempts_of(experiment.id)
        members = members_of(draft.jobs_of(experiment.id), attempts, experiment.generation)
        if judge(experiment, members).decision is Decision.GO_ON:
            for _, attempt in members:
                if attempt is not None:
                    stop_attempt(draft, attempt, reasons.STOP_UTILIZATION_POLICY)
    advance(draft, experiment.id)
    return draft.outcome()
