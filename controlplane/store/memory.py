"""The store in memory: the reference for the others, and what tests of other parts use."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from controlplane.domain.changes import Change
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
from controlplane.domain.states import State
from controlplane.store.batch import KEYS, Key, TypeBatch, coalesce
from controlplane.store.order import (
    current_attempts,
    in_job_order,
    oldest_first,
    position_of,
)
from controlplane.store.protocol import (
    REQUEST_MEMORY_SECONDS,
    ExperimentPage,
    ExperimentQuery,
    LiveState,
    StoreConflict,
)


class MemoryStore:
    """See `protocol.Store`. Forgets everything with its process."""

    kind = "memory"

    def __init__(self) -> None:
        self._cluster_id = str(uuid.uuid4())
        self._lock = threading.Lock()
        self._objects: dict[type[Any], dict[Key, Any]] = {kind: {} for kind in KEYS}
        self._change_number = 0
        self._last_numbers: dict[str, int] = {}
        # Insertion number of each experiment.
        self._seq: dict[Key, int] = {}
        self._next_seq = itertools.count(1)

    def cluster_id(self) -> str:
        return self._cluster_id

    def close(self) -> None:
        """Nothing is open."""

    def commit(self, changes: Sequence[Change], change_number: int) -> None:
        batch = coalesce(changes)
        with self._lock:
            if change_number <= self._change_number:
                raise StoreConflict(f"Change {change_number} is not newer than what is stored.")
            for kind, of_type in batch.items():
                self._check(kind, of_type)
            self._change_number = change_number
            for kind in reversed(KEYS):
                for key in batch[kind].deletes if kind in batch else ():
                    self._delete(kind, key)
            for kind, of_type in batch.items():
                for key, entity in of_type.inserts.items():
                    self._objects[kind][key] = entity
                    if isinstance(entity, Experiment):
                        self._count(entity)
                for key, entity in of_type.updates.items():
                    self._objects[kind][key] = self._with_first_spec(entity)

    def _check(self, kind: type[Any], of_type: TypeBatch) -> None:
        present = self._objects[kind]
        taken = [k for k in of_type.inserts if k in present and k not in of_type.deletes]
        absent = [
            k
            for k in of_type.updates
            if k not in of_type.inserts and (k not in present or k in of_type.deletes)
        ]
        if taken or absent:
            raise StoreConflict(
                f"A change does not fit what is stored: {taken} are there, {absent} are not."
            )

    def _count(self, experiment: Experiment) -> None:
        self._seq[experiment.id] = next(self._next_seq)
        if experiment.set_id is None:
            user = experiment.user_name
            self._last_numbers[user] = max(experiment.number, self._last_numbers.get(user, 0))

    def _with_first_spec(self, entity: Any) -> Any:
        if not isinstance(entity, Experiment):
            return entity
        spec = self._objects[Experiment][entity.id].spec
        return entity if spec is entity.spec else replace(entity, spec=spec)

    def _delete(self, kind: type[Any], key: Key) -> None:
        self._objects[kind].pop(key, None)
        if kind is not Experiment:
            return
        for other in (Job, Attempt):
            objects = self._objects[other]
            for gone in [k for k, one in objects.items() if one.experiment_id == key]:
                del objects[gone]
        for child in [one.id for one in self._experiments() if one.set_id == key]:
            self._delete(Experiment, child)

    def _experiments(self) -> Iterable[Experiment]:
        found: Iterable[Experiment] = self._objects[Experiment].values()
        return found

    def load(self, now: float) -> LiveState:
        with self._lock:
            attempts: list[Attempt] = list(self._objects[Attempt].values())
            busy = {one.experiment_id for one in attempts if not one.state.ended}
            live = {one.id for one in self._experiments() if not one.state.ended or one.id in busy}
            live |= {one.set_id for one in self._experiments() if one.id in live and one.set_id}
            experiments = [one for one in self._experiments() if one.id in live]
            sets = [one.id for one in experiments if one.is_set]
            return LiveState(
                change_number=self._change_number,
                users=self._sorted(User),
                api_keys=self._sorted(ApiKey),
                node_tokens=self._sorted(NodeToken),
                nodes=self._sorted(Node),
                queues=self._sorted(Queue),
                use_records=self._sorted(UseRecord),
                projects=self._sorted(Project),
                experiments=tuple(experiments),
                jobs=tuple(self._jobs([one.id for one in experiments])),
                attempts=tuple(
                    current_attempts(one for one in attempts if one.experiment_id in live)
                ),
                last_numbers=tuple(sorted(self._last_numbers.items())),
                recent_requests=tuple(
                    (one.user_name, one.request_id, one.id)
                    for one in self._experiments()
                    if one.request_id and one.create_time > now - REQUEST_MEMORY_SECONDS
                ),
                ended_children=tuple(
                    (set_id, state, count)
                    for set_id, counts in sorted(self._children_by_state(sets).items())
                    for state, count in counts.items()
                    if state.ended
                ),
            )

    def _sorted(self, kind: type[Any]) -> tuple[Any, ...]:
        return tuple(entity for _, entity in sorted(self._objects[kind].items()))

    def experiment(self, experiment_id: str) -> Experiment | None:
        with self._lock:
            found: Experiment | None = self._objects[Experiment].get(experiment_id)
            return found

    def experiments(self, query: ExperimentQuery) -> ExperimentPage:
        position = position_of(query.page_token)
        with self._lock:
            found = [one for one in self._experiments() if _matches(one, query)]
            if query.set_id is None:
                ordered = sorted(found, key=lambda one: -self._seq[one.id])
                places = {one.id: self._seq[one.id] for one in ordered}
                if position is not None:
                    ordered = [one for one in ordered if places[one.id] < position]
            else:
                ordered = sorted(found, key=lambda one: one.child_number)
                places = {one.id: one.child_number for one in ordered}
                if position is not None:
                    ordered = [one for one in ordered if places[one.id] > position]
        page = ordered[: query.page_size]
        more = len(ordered) > query.page_size and bool(page)
        return ExperimentPage(tuple(page), str(places[page[-1].id]) if more else "")

    def children_by_state(self, set_ids: Sequence[str]) -> dict[str, dict[State, int]]:
        with self._lock:
            return self._children_by_state(set_ids)

    def _children_by_state(self, set_ids: Sequence[str]) -> dict[str, dict[State, int]]:
        wanted = set(set_ids)
        counted = Counter(
            (one.set_id, one.state) for one in self._experiments() if one.set_id in wanted
        )
        return {
            set_id: {state: counted[set_id, state] for state in State if counted[set_id, state]}
            for set_id in sorted(wanted)
            if any(found == set_id for found, _ in counted)
        }

    def experiment_by_request(self, user_name: str, request_id: str) -> Experiment | None:
        with self._lock:
            for one in self._experiments():
                if request_id and (one.user_name, one.request_id) == (user_name, request_id):
                    return one
            return None

    def jobs(self, experiment_ids: Sequence[str]) -> list[Job]:
        with self._lock:
            return self._jobs(experiment_ids)

    def _jobs(self, experiment_ids: Sequence[str]) -> list[Job]:
        wanted = set(experiment_ids)
        every: Iterable[Job] = self._objects[Job].values()
        return in_job_order((job for job in every if job.experiment_id in wanted), experiment_ids)

    def attempts(self, experiment_ids: Sequence[str]) -> list[Attempt]:
        wanted = set(experiment_ids)
        with self._lock:
            every: Iterable[Attempt] = self._objects[Attempt].values()
            return oldest_first(one for one in every if one.experiment_id in wanted)

    def attempt(self, attempt_id: str) -> Attempt | None:
        with self._lock:
            found: Attempt | None = self._objects[Attempt].get(attempt_id)
            return found

    def projects(self, user_name: str | None, after: tuple[str, str], limit: int) -> list[Project]:
        with self._lock:
            every: tuple[Project, ...] = self._sorted(Project)
        return [
            one
            for one in every
            if (one.user_name, one.name) > after and user_name in (None, one.user_name)
        ][:limit]

    def project(self, user_name: str, name: str) -> Project | None:
        with self._lock:
            found: Project | None = self._objects[Project].get((user_name, name))
            return found

    def revision(self, user_name: str, revision_id: str) -> Revision | None:
        with self._lock:
            found: Revision | None = self._objects[Revision].get((user_name, revision_id))
            return found

    def ended_between(self, after: float, until: float, limit: int) -> list[Experiment]:
        with self._lock:
            ended = [
                (one.end_time, self._seq[one.id], one)
                for one in self._experiments()
                if one.state.ended and one.end_time is not None and after < one.end_time <= until
            ]
        ended.sort(key=lambda entry: entry[:2])
        return [one for end, _, one in ended if limit and end <= ended[:limit][-1][0]]


def _matches(experiment: Experiment, query: ExperimentQuery) -> bool:
    return (
        experiment.set_id == query.set_id
        and query.user_name in (None, experiment.user_name)
        and query.project in (None, experiment.project)
        and (not query.states or experiment.state in query.states)
    )
