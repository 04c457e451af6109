"""One event's view of the cluster: reads see its own writes, nothing is changed until it is done.

An error simply drops the draft. `outcome` gives what happened, each entity once, in an order in
which what others refer to comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.core.cluster import Cluster
from controlplane.domain.changes import Change, Delete, Insert, Update
from controlplane.domain.effects import Effect, WakeScheduler
from controlplane.domain.model import (
    ApiKey,
    Attempt,
    Experiment,
    Job,
    Node,
    NodeToken,
    Project,
    Queue,
    Revision,
    User,
    UseRecord,
)
from controlplane.domain.plan import Reservation, WaitingShape
from controlplane.domain.states import State

_WAKE = WakeScheduler()

Account = User | ApiKey | NodeToken | Queue | UseRecord | Project | Revision


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an event did: changes for memory and store, effects for after the commit, the reply."""

    changes: tuple[Change, ...] = ()
    effects: tuple[Effect, ...] = ()
    reply: object = None
    # Of a plan: why experiments wait. For `Cluster.note_waiting`; None leaves it as it is.
    waiting: tuple[WaitingShape, ...] | None = None
    # These go with it.
    waiting_version: int = 0
    reservations: tuple[Reservation, ...] = ()
    # An attempt and when its newest checkpoint was written. For `Cluster.note_checkpoint`.
    checkpoint: tuple[str, float] | None = None


class Draft:
    """The cluster with the changes of one event on top."""

    __slots__ = (
        "_accounts",
        "_attempts",
        "_child_moves",
        "_deletes",
        "_effects",
        "_experiments",
        "_jobs",
        "_new_attempts",
        "_new_jobs",
        "_nodes",
        "_wake",
        "checkpoint",
        "cluster",
        "now",
        "reservations",
        "waiting",
        "waiting_version",
    )

    def __init__(self, cluster: Cluster, now: float) -> None:
        self.cluster = cluster
        self.now = now
        self.waiting: tuple[WaitingShape, ...] | None = None
        self.waiting_version = 0
        self.reservations: tuple[Reservation, ...] = ()
        self.checkpoint: tuple[str, float] | None = None
        self._experiments: dict[str, Experiment] = {}
        self._jobs: dict[str, Job] = {}
        self._attempts: dict[str, Attempt] = {}
        self._nodes: dict[str, Node] = {}
        self._accounts: list[Change] = []
        self._deletes: list[Change] = []
        self._new_jobs: dict[str, list[str]] = {}
        self._new_attempts: dict[str, list[str]] = {}
        # By set: how many children moved into (+) and out of (-) each state.
        self._child_moves: dict[str, dict[State, int]] = {}
        self._effects: list[Effect] = []
        self._wake = False

    # ----------------------------------------------------------------------------------- reading

    def experiment(self, experiment_id: str) -> Experiment | None:
        """A live experiment; None if it is unknown here (it may have ended long ago)."""
        own = self._experiments.get(experiment_id)
        return own if own is not None else self.cluster.experiments.get(experiment_id)

    def job(self, job_id: str) -> Job | None:
        own = self._jobs.get(job_id)
        return own if own is not None else self.cluster.jobs.get(job_id)

    def attempt(self, attempt_id: str) -> Attempt | None:
        own = self._attempts.get(attempt_id)
        return own if own is not None else self.cluster.attempts.get(attempt_id)

    def node(self, name: str) -> Node | None:
        own = self._nodes.get(name)
        return own if own is not None else self.cluster.nodes.get(name)

    def jobs_of(self, experiment_id: str) -> list[Job]:
        """Gang members by rank, then build jobs."""
        mine, known = self._jobs, self.cluster.jobs
        found = [
            mine[i] if i in mine else known[i]
            for i in self.cluster.jobs_by_experiment.get(experiment_id, ())
        ]
        if experiment_id in self._new_jobs:
            found.extend([mine[i] for i in self._new_jobs[experiment_id]])
        return found

    def attempts_of(self, experiment_id: str) -> list[Attempt]:
        """Attempts in memory: those of the newest generation, and before it any that live."""
        mine, known = self._attempts, self.cluster.attempts
        found = [
            mine[i] if i in mine else known[i]
            for i in self.cluster.attempts_by_experiment.get(experiment_id, ())
        ]
        if experiment_id in self._new_attempts:
            found.extend([mine[i] for i in self._new_attempts[experiment_id]])
        return found

    def attempts_on(self, node_name: str) -> list[Attempt]:
        """Attempts on a node that had not ended before this event, as they are now."""
        mine, known = self._attempts, self.cluster.attempts
        return [
            mine[i] if i in mine else known[i] for i in self.cluster.live_by_node.get(node_name, ())
        ]

    def child_counts(self, set_id: str) -> dict[State, int]:
        """Children of a set by state, ended and evicted ones too."""
        progress = self.cluster.sets.get(set_id)
        counts = dict(progress.counts) if progress is not None else {}
        for state, moved in self._child_moves.get(set_id, {}).items():
            counts[state] = counts.get(state, 0) + moved
        return {state: count for state, count in counts.items() if count}

    # ----------------------------------------------------------------------------------- writing

    def put_experiment(self, experiment: Experiment) -> None:
        """A new or changed experiment."""
        set_id = experiment.set_id
        if set_id is not None:
            old = self.experiment(experiment.id)
            if old is None or old.state is not experiment.state:
                moves = self._child_moves.setdefault(set_id, {})
                moves[experiment.state] = moves.get(experiment.state, 0) + 1
                if old is not None:
                    moves[old.state] = moves.get(old.state, 0) - 1
        self._experiments[experiment.id] = experiment

    def put_job(self, job: Job) -> None:
        job_id = job.id
        if job_id not in self._jobs and job_id not in self.cluster.jobs:
            self._new_jobs.setdefault(job.experiment_id, []).append(job_id)
        self._jobs[job_id] = job

    def put_attempt(self, attempt: Attempt) -> None:
        attempt_id = attempt.id
        if attempt_id not in self._attempts and attempt_id not in self.cluster.attempts:
            self._new_attempts.setdefault(attempt.experiment_id, []).append(attempt_id)
        self._attempts[attempt_id] = attempt

    def put_node(self, node: Node) -> None:
        self._nodes[node.name] = node

    def insert_account(self, entity: Account) -> None:
        """A new user, key, token, queue, project or revision."""
        self._accounts.append(Insert(entity))

    def update_account(self, entity: Account) -> None:
        self._accounts.append(Update(entity))

    def delete(self, entity: ApiKey | NodeToken | Queue | UseRecord | Node) -> None:
        """Gone after all else that this event does."""
        self._deletes.append(Delete(entity))

    def effect(self, effect: Effect) -> None:
        """Happens after the commit."""
        self._effects.append(effect)

    def wake_scheduler(self) -> None:
        """Something may be placed now."""
        self._wake = True

    # -------------------------------------------------------------------------------- the outcome

    def outcome(self, reply: object = None) -> Outcome:
        """What this event did."""
        cluster = self.cluster
        changes: list[Change] = self._accounts
        _collect(self._nodes, cluster.nodes, changes)
        _collect(self._experiments, cluster.experiments, changes)
        _collect(self._jobs, cluster.jobs, changes)
        _collect(self._attempts, cluster.attempts, changes)
        changes.extend(self._deletes)
        if self._wake:
            self._effects.append(_WAKE)
        return Outcome(
            tuple(changes),
            tuple(self._effects),
            reply,
            self.waiting,
            self.waiting_version,
            self.reservations,
            self.checkpoint,
        )


def _collect(
    mine: Mapping[str, Node | Experiment | Job | Attempt],
    known: Mapping[str, Node | Experiment | Job | Attempt],
    changes: list[Change],
) -> None:
    for key, entity in mine.items():
        old = known.get(key)
        if old is None:
            changes.append(Insert(entity))
        elif old is not entity and old != entity:
            changes.append(Update(entity))
