"""The cluster as it is now, in memory: entities by key, and the indexes that make questions cheap.

Only `apply`, `note_...` and `evict` change it, and only the runtime calls them. What ended is
evicted once nobody here needs it; the store remembers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from controlplane.core.durations import LearnedDurations
from controlplane.core.invariants import check_invariants
from controlplane.core.live_state import LiveState
from controlplane.core.mix import JobMix
from controlplane.core.pictures import Pictures
from controlplane.core.settings import DEFAULTS
from controlplane.core.usage import Key, UseLedger
from controlplane.core.views import NodeUsage
from controlplane.core.waiting import WaitingReasons
from controlplane.domain.changes import Change, Delete
from controlplane.domain.model import (
    BUILT_IN_QUEUE,
    ApiKey,
    Attempt,
    Entity,
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
from controlplane.domain.snapshot import Snapshot
from controlplane.domain.states import State

REQUEST_ID_SECONDS: Final = 86_400.0


@dataclass(slots=True)
class SetProgress:
    """How far the children of a set are."""

    # All children, evicted ones too.
    counts: dict[State, int] = field(default_factory=dict)
    # Children in memory, and those of them that wait for their turn, both by child number.
    children: dict[int, str] = field(default_factory=dict)
    waiting: dict[int, str] = field(default_factory=dict)


class Cluster:
    """All live state. Read its dicts freely; never change them from outside."""

    def __init__(
        self,
        first_version: int = 0,
        *,
        use_half_life_seconds: float = DEFAULTS.use_half_life_seconds,
    ) -> None:
        self.users: dict[str, User] = {}
        self.api_keys: dict[str, ApiKey] = {}
        self.node_tokens: dict[str, NodeToken] = {}
        self.projects: dict[tuple[str, str], Project] = {}
        # Recorded since this was loaded; older ones only the store knows.
        self.revisions: dict[tuple[str, str], Revision] = {}
        self.nodes: dict[str, Node] = {}
        # Those that are stored, by name: `default` is there without. Ask `queue` and `all_queues`.
        self.queues: dict[str, Queue] = {}
        self.use_records: dict[Key, UseRecord] = {}
        # What queues and users hold and used.
        self.use = UseLedger(use_half_life_seconds)
        # What jobs asked for. Not stored: after a restart it is learned from those that live.
        self.mix = JobMix()
        # How long they really ran. Not stored either.
        self.durations = LearnedDurations()
        self.experiments: dict[str, Experiment] = {}
        self.jobs: dict[str, Job] = {}
        self.attempts: dict[str, Attempt] = {}
        # Gang members by rank, then build jobs.
        self.jobs_by_experiment: dict[str, list[str]] = {}
        self.attempts_by_experiment: dict[str, list[str]] = {}
        # Attempts that have not ended.
        self.live_by_node: dict[str, dict[str, None]] = {}
        self.usage: dict[str, NodeUsage] = {}
        # Nodes whose capacity shrank below what runs there.
        self.overfull: set[str] = set()
        # Nodes with GPUs that were sick.
        self.quarantined: dict[str, None] = {}
        self.last_numbers: dict[str, int] = {}
        # (user, request_id) -> experiment id.
        self.requests: dict[tuple[str, str], str] = {}
        self.sets: dict[str, SetProgress] = {}
        # Live experiments with a max_duration.
        self.limited: dict[str, None] = {}
        # Live experiments with a utilization_policy.
        self.policed: dict[str, None] = {}
        # When live attempts wrote their newest checkpoints. Not stored: nodes tell it again.
        self.checkpoints: dict[str, float] = {}
        # Why experiments wait, by the last plan. Not stored.
        self.waiting = WaitingReasons(self)
        self._keys_by_hash: dict[str, str] = {}
        self._tokens_by_hash: dict[str, str] = {}
        # When a request id was seen; those from the store have None until the first trim.
        self._request_times: dict[tuple[str, str], float | None] = {}
        self._pictures = Pictures(first_version)

    @classmethod
    def from_live_state(
        cls,
        state: LiveState,
        first_version: int = 0,
        *,
        use_half_life_seconds: float = DEFAULTS.use_half_life_seconds,
        use_is_fresh_at: float | None = None,
    ) -> Cluster:
        """The cluster as it was committed last. Snapshots are numbered from `first_version` on.

        With `use_is_fresh_at` what is not written down of recent use counts as fresh then: where
        the store fails, cluster after cluster is restored, and none should try to write at once.
        """
        cluster = cls(first_version, use_half_life_seconds=use_half_life_seconds)
        entities: list[Entity] = [
            *state.users,
            *state.api_keys,
            *state.node_tokens,
            *state.projects,
            *state.nodes,
            *state.queues,
            *state.use_records,
            # Sets before their children.
            *sorted(state.experiments, key=lambda e: (e.user_name, e.number, e.child_number)),
            *sorted(state.jobs, key=lambda j: (j.experiment_id, j.rank < 0, j.rank, j.number)),
            *sorted(state.attempts, key=lambda a: a.generation),
        ]
        for entity in entities:
            cluster._put(entity, None)
        cluster.use.restore(
            cluster.use_records.values(),
            (
                (cluster.experiments[attempt.experiment_id], attempt)
                for attempt in cluster.attempts.values()
                if not attempt.state.ended
            ),
            use_is_fresh_at,
        )
        for user_name, number in state.last_numbers:
            known = cluster.last_numbers.get(user_name, 0)
            cluster.last_numbers[user_name] = max(known, number)
        for user_name, request_id, experiment_id in state.recent_requests:
            cluster.requests[user_name, request_id] = experiment_id
            cluster._request_times[user_name, request_id] = None
        for set_id, child_state, count in state.ended_children:
            progress = cluster.sets.get(set_id)
            if progress is not None:
                progress.counts[child_state] = count
        return cluster

    # ------------------------------------------------------------------------------- questions

    def api_key_by_hash(self, sha256: str) -> ApiKey | None:
        """The API key with this SHA-256 (hex)."""
        return self.api_keys.get(self._keys_by_hash.get(sha256, ""))

    def node_token_by_hash(self, sha256: str) -> NodeToken | None:
        """The node token with this SHA-256 (hex)."""
        return self.node_tokens.get(self._tokens_by_hash.get(sha256, ""))

    def attempts_on(self, node_name: str) -> list[Attempt]:
        """Attempts on a node that have not ended, build attempts too, oldest first."""
        return [self.attempts[i] for i in self.live_by_node.get(node_name, ())]

    def jobs_of(self, experiment_id: str) -> list[Job]:
        """Gang members by rank, then build jobs."""
        return [self.jobs[i] for i in self.jobs_by_experiment.get(experiment_id, ())]

    def attempts_of(self, experiment_id: str) -> list[Attempt]:
        """Attempts of the newest generation, in the order they were made."""
        return [self.attempts[i] for i in self.attempts_by_experiment.get(experiment_id, ())]

    def children_of(self, set_id: str) -> Iterator[Experiment]:
        """Children of a set that are in memory, by number."""
        progress = self.sets.get(set_id)
        for child_id in progress.children.values() if progress is not None else ():
            yield self.experiments[child_id]

    def usage_of(self, node_name: str) -> NodeUsage:
        """What live attempts hold on a node; empty for a node that nothing runs on."""
        usage = self.usage.get(node_name)
        return NodeUsage() if usage is None else usage

    def pinned_nodes(self, experiment: Experiment) -> tuple[str, ...]:
        """The nodes that a new attempt has to use because outputs lie there; empty: any."""
        if experiment.start_time is None:
            return ()
        pinned = {
            attempt.node_name
            for attempt in self.attempts_of(experiment.id)
            if self.jobs[attempt.job_id].rank >= 0
            and attempt.node_name in self.nodes
            and self.nodes[attempt.node_name].inventory.capabilities.output_root == "local"
        }
        return tuple(sorted(pinned))

    def queue(self, name: str) -> Queue | None:
        """A queue by name; `default` is always there."""
        found = self.queues.get(name)
        return BUILT_IN_QUEUE if found is None and name == BUILT_IN_QUEUE.name else found

    def all_queues(self) -> list[Queue]:
        """By name."""
        queues = {BUILT_IN_QUEUE.name: BUILT_IN_QUEUE, **self.queues}
        return [queues[name] for name in sorted(queues)]

    def queue_names(self) -> list[str]:
        """Of all queues, in order."""
        return [queue.name for queue in self.all_queues()]

    def snapshot(self) -> Snapshot:
        """An immutable picture for the scheduler: the same object as long as nothing changed."""
        return self._pictures.snapshot(self)

    def is_current(self, version: int) -> bool:
        """Whether nothing that a scheduler cares for changed since the snapshot of this version."""
        return self._pictures.is_current(version)

    def check_invariants(self) -> None:
        """Raises InvariantViolated if there is a fault in the reactor. Slow."""
        check_invariants(self)

    # --------------------------------------------------------------------------------- changes

    def apply(self, changes: Iterable[Change], now: float) -> None:
        """Makes the changes of an outcome part of the state, at the time of its event."""
        for change in changes:
            if type(change) is Delete:
                self._delete(change.entity, now)
            else:
                self._put(change.entity, now)

    def note_waiting(
        self,
        waiting: Iterable[WaitingShape],
        version: int,
        reservations: Iterable[Reservation] = (),
    ) -> None:
        """Keeps the reasons of the newest plan; see `WaitingReasons.note`."""
        self.waiting.note(waiting, version, reservations)

    def note_checkpoint(self, attempt_id: str, write_time: float) -> None:
        """When the newest checkpoint of an attempt that lives was written, as far as is known."""
        attempt = self.attempts.get(attempt_id)
        if attempt is None or attempt.state.ended:
            return
        if write_time > self.checkpoints.get(attempt_id, 0.0):
            self.checkpoints[attempt_id] = write_time
            self._pictures.experiment_changed(attempt.experiment_id)

    def evict(self, experiment_id: str) -> None:
        """Drops an ended experiment from memory. Does nothing for any other."""
        experiment = self.experiments.get(experiment_id)
        if experiment is None or not experiment.state.ended:
            return
        if any(not a.state.ended for a in self.attempts_of(experiment_id)):
            return
        progress = self.sets.get(experiment_id)
        if progress is not None:
            for child_id in list(progress.children.values()):
                self.evict(child_id)
            if progress.children:
                return
            del self.sets[experiment_id]
        if experiment.set_id is not None and experiment.set_id in self.sets:
            self.sets[experiment.set_id].children.pop(experiment.child_number, None)
        gang = [a for a in self.attempts_of(experiment_id) if self.jobs[a.job_id].rank >= 0]
        self.durations.ended(gang, experiment.spec.max_duration_seconds)
        for job_id in self.jobs_by_experiment.pop(experiment_id, ()):
            del self.jobs[job_id]
        for attempt_id in self.attempts_by_experiment.pop(experiment_id, ()):
            del self.attempts[attempt_id]
        del self.experiments[experiment_id]
        self.limited.pop(experiment_id, None)
        self.policed.pop(experiment_id, None)
        self._pictures.experiment_changed(experiment_id)

    def trim(self, now: float) -> None:
        """Forgets request ids that are older than a day. Call it now and then."""
        times = self._request_times
        for key, time in list(times.items()):
            if time is None:
                times[key] = now
            elif now - time > REQUEST_ID_SECONDS:
                del times[key]
                self.requests.pop(key, None)

    def _put(self, entity: Entity, now: float | None) -> None:
        """`now` None: it is being loaded."""
        _PUT[type(entity)](self, entity, now)

    def _delete(self, entity: Entity, now: float) -> None:
        match entity:
            case ApiKey():
                self.api_keys.pop(entity.id, None)
                self._keys_by_hash.pop(entity.sha256, None)
            case NodeToken():
                self.node_tokens.pop(entity.node_name, None)
                self._tokens_by_hash.pop(entity.sha256, None)
            case Queue():
                self.queues.pop(entity.name, None)
                self.use.drop_queue(entity.name)
                self._pictures.queues_changed()
            case UseRecord():
                self.use_records.pop((entity.queue, entity.user_name), None)
                self.use.forget((entity.queue, entity.user_name))
            case Node():
                known = self.nodes.pop(entity.name, None)
                if known is not None:
                    self.use.node_changed(known.inventory, None, now)
                self.usage.pop(entity.name, None)
                self.overfull.discard(entity.name)
                self.quarantined.pop(entity.name, None)
                self._pictures.node_changed(entity.name)
                self._pictures.outputs_moved(self)
                self.waiting.room_grew(self._pictures.version)
            case _:
                raise TypeError(f"{type(entity).__name__} is never deleted")

    def _put_user(self, user: User, now: float | None) -> None:
        self.users[user.name] = user

    def _put_api_key(self, key: ApiKey, now: float | None) -> None:
        old = self.api_keys.get(key.id)
        if old is not None:
            self._keys_by_hash.pop(old.sha256, None)
        self.api_keys[key.id] = key
        self._keys_by_hash[key.sha256] = key.id

    def _put_node_token(self, token: NodeToken, now: float | None) -> None:
        old = self.node_tokens.get(token.node_name)
        if old is not None:
            self._tokens_by_hash.pop(old.sha256, None)
        self.node_tokens[token.node_name] = token
        self._tokens_by_hash[token.sha256] = token.node_name

    def _put_queue(self, queue: Queue, now: float | None) -> None:
        self.queues[queue.name] = queue
        self._pictures.queues_changed()
        # Whoever waits for its limit may have room now.
        self.waiting.room_grew(self._pictures.version)

    def _put_use_record(self, record: UseRecord, now: float | None) -> None:
        self.use_records[record.queue, record.user_name] = record
        if now is not None:
            self.use.saved(record)

    def _put_project(self, project: Project, now: float | None) -> None:
        self.projects[project.user_name, project.name] = project

    def _put_revision(self, revision: Revision, now: float | None) -> None:
        self.revisions[revision.user_name, revision.id] = revision

    def _put_node(self, node: Node, now: float | None) -> None:
        old = self.nodes.get(node.name)
        self.nodes[node.name] = node
        self.use.node_changed(None if old is None else old.inventory, node.inventory, now)
        root = node.inventory.capabilities.output_root
        if old is None or old.inventory.capabilities.output_root != root:
            self._pictures.outputs_moved(self)
        if node.quarantines:
            self.quarantined[node.name] = None
        else:
            self.quarantined.pop(node.name, None)
        self._pictures.node_changed(node.name)
        self.waiting.room_grew(self._pictures.version)
        self._note_overfull(node.name)

    def _note_overfull(self, node_name: str) -> None:
        node = self.nodes.get(node_name)
        usage = self.usage.get(node_name)
        if node is None or usage is None:
            return
        inventory = node.inventory
        if (
            usage.cpu_milli > inventory.cpu_milli
            or usage.memory_bytes > inventory.memory_bytes
            or usage.shm_bytes > inventory.shm_bytes > 0
        ):
            self.overfull.add(node_name)
        else:
            self.overfull.discard(node_name)

    def _put_experiment(self, experiment: Experiment, now: float | None) -> None:
        experiment_id = experiment.id
        old = self.experiments.get(experiment_id)
        self.experiments[experiment_id] = experiment
        state = experiment.state
        if old is None:
            self._index_experiment(experiment)
        elif old.state is not state:
            if experiment.set_id is not None:
                counts = self.sets[experiment.set_id].counts
                counts[old.state] -= 1
                counts[state] = counts.get(state, 0) + 1
                if old.state is State.CREATED:
                    self.sets[experiment.set_id].waiting.pop(experiment.child_number, None)
            if state.ended:
                self.limited.pop(experiment_id, None)
                self.policed.pop(experiment_id, None)
        if (old is None or old.state is not state) and not experiment.child_count:
            self._pictures.experiment_changed(experiment_id)
            self.use.moved(experiment, None if old is None else old.state, state)

    def _index_experiment(self, experiment: Experiment) -> None:
        user_name = experiment.user_name
        if experiment.number > self.last_numbers.get(user_name, 0):
            self.last_numbers[user_name] = experiment.number
        if experiment.request_id:
            key = (user_name, experiment.request_id)
            self.requests[key] = experiment.id
            self._request_times[key] = experiment.create_time
        if experiment.child_count:
            self.sets[experiment.id] = SetProgress()
        elif not experiment.state.ended:
            if experiment.max_duration_seconds is not None:
                self.limited[experiment.id] = None
            if experiment.spec.utilization_policy is not None:
                self.policed[experiment.id] = None
        if experiment.set_id is not None:
            progress = self.sets[experiment.set_id]
            progress.counts[experiment.state] = progress.counts.get(experiment.state, 0) + 1
            progress.children[experiment.child_number] = experiment.id
            if experiment.state is State.CREATED:
                progress.waiting[experiment.child_number] = experiment.id

    def _put_job(self, job: Job, now: float | None) -> None:
        if job.id not in self.jobs:
            self.jobs_by_experiment.setdefault(job.experiment_id, []).append(job.id)
            if job.rank >= 0:
                self.mix.saw(job.resources)
        self.jobs[job.id] = job

    def _put_attempt(self, attempt: Attempt, now: float | None) -> None:
        attempt_id = attempt.id
        old = self.attempts.get(attempt_id)
        was_live = old is not None and not old.state.ended
        is_live = not attempt.state.ended
        if old is None:
            self._drop_older_generations(attempt)
            self.attempts_by_experiment.setdefault(attempt.experiment_id, []).append(attempt_id)
        self.attempts[attempt_id] = attempt
        if was_live is is_live:
            if old is not None and (
                old.stop_time != attempt.stop_time or old.start_time != attempt.start_time
            ):
                self._pictures.experiment_changed(attempt.experiment_id)
            if is_live and old is not None and old.gpus != attempt.gpus:
                # Others than were planned, and as many.
                self.usage[attempt.node_name].remove(old)
                self.usage[attempt.node_name].add(attempt)
                self._pictures.node_changed(attempt.node_name)
                self._pictures.experiment_changed(attempt.experiment_id)
            return
        if now is not None:
            self._note_use(attempt, is_live, now)
        node_name = attempt.node_name
        usage = self.usage.get(node_name)
        if usage is None:
            usage = self.usage[node_name] = NodeUsage()
        if is_live:
            usage.add(attempt)
            self.live_by_node.setdefault(node_name, {})[attempt_id] = None
        else:
            usage.remove(attempt)
            self.checkpoints.pop(attempt_id, None)
            self.waiting.room_grew(self._pictures.version)
            live = self.live_by_node[node_name]
            del live[attempt_id]
            if not live:
                del self.live_by_node[node_name]
            if node_name in self.overfull:
                self._note_overfull(node_name)
        self._pictures.node_changed(node_name)
        self._pictures.experiment_changed(attempt.experiment_id)

    def _note_use(self, attempt: Attempt, is_live: bool, now: float) -> None:
        experiment = self.experiments.get(attempt.experiment_id)
        if experiment is not None:
            note = self.use.take if is_live else self.use.give_back
            note(experiment, attempt, now)

    def _drop_older_generations(self, newest: Attempt) -> None:
        """The store keeps them; here they would pile up with each retry."""
        known = self.attempts_by_experiment.get(newest.experiment_id)
        if not known or self.attempts[known[0]].generation == newest.generation:
            return
        keep = []
        for attempt_id in known:
            attempt = self.attempts[attempt_id]
            if attempt.state.ended and attempt.generation < newest.generation:
                del self.attempts[attempt_id]
            else:
                keep.append(attempt_id)
        self.attempts_by_experiment[newest.experiment_id] = keep


_PUT: Final[dict[type[Any], Callable[[Cluster, Any, float | None], None]]] = {
    User: Cluster._put_user,
    ApiKey: Cluster._put_api_key,
    NodeToken: Cluster._put_node_token,
    Queue: Cluster._put_queue,
    UseRecord: Cluster._put_use_record,
    Project: Cluster._put_project,
    Revision: Cluster._put_revision,
    Node: Cluster._put_node,
    Experiment: Cluster._put_experiment,
    Job: Cluster._put_job,
    Attempt: Cluster._put_attempt,
}
