"""What the control plane needs of a store. Memory, SQLite and PostgreSQL pass the same
contract tests.

Every method is synchronous. `commit` is called from one writer thread only; the reads may be called
from another thread at the same time and see only what is committed. A failing store raises
StoreUnavailable; after a failed commit nothing of that batch is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from controlplane.domain.changes import Change
from controlplane.domain.errors import StoreUnavailable
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

# How long a repeated request_id is recognised from memory.
REQUEST_MEMORY_SECONDS: Final = 24 * 3600


class StoreConflict(StoreUnavailable):
    """A change does not fit what is stored: a fault of the control plane, not of the disk."""

    reason = "STORE_CONFLICT"


@dataclass(frozen=True, slots=True)
class LiveState:
    """All that the control plane keeps in memory, as it was committed last."""

    change_number: int
    users: tuple[User, ...]
    api_keys: tuple[ApiKey, ...]
    node_tokens: tuple[NodeToken, ...]
    nodes: tuple[Node, ...]
    # Experiments that have not ended, sets with such children, their ended siblings left out,
    # and experiments that ended but still have attempts that have not.
    experiments: tuple[Experiment, ...]
    jobs: tuple[Job, ...]
    # Of those experiments, every attempt of the newest generation and every one that has not ended.
    attempts: tuple[Attempt, ...]
    # The highest experiment number of each user.
    last_numbers: tuple[tuple[str, int], ...]
    # (user name, request_id, experiment id) of experiments created in the last 24 hours.
    recent_requests: tuple[tuple[str, str, str], ...]
    # (set id, state, count) of ended children of the sets above.
    ended_children: tuple[tuple[str, State, int], ...]
    # All of them.
    projects: tuple[Project, ...] = ()
    # Those that were made or changed: `default` is there without a row.
    queues: tuple[Queue, ...] = ()
    use_records: tuple[UseRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class ExperimentQuery:
    """Which experiments to list, newest first."""

    # None: everybody's.
    user_name: str | None = None
    project: str | None = None
    states: tuple[State, ...] = ()
    # None: top-level experiments only; else the children of this set, by child number.
    set_id: str | None = None
    # Exclusive position to go on from, made by the store and opaque to others; "" at first.
    page_token: str = ""
    page_size: int = 100


@dataclass(frozen=True, slots=True)
class ExperimentPage:
    """One page; `next_page_token` is "" at the end."""

    experiments: tuple[Experiment, ...]
    next_page_token: str


class Store(Protocol):
    """Durable state. See the module's docstring for threads and errors."""

    # `sqlite`, `postgresql` or `memory`.
    kind: str

    def cluster_id(self) -> str:
        """Made at first start, never changes."""

    def commit(self, changes: Sequence[Change], change_number: int) -> None:
        """Stores all changes and the number in one transaction, durable when it returns.

        The number must be higher than the stored one. An Update never changes an experiment's spec;
        a child has its set's. Deleting an experiment deletes its jobs, attempts and children.
        Raises StoreUnavailable; StoreConflict when a key is taken, absent, or the number too low.
        """

    def load(self, now: float) -> LiveState:
        """What to keep in memory; `now` bounds recent_requests."""

    def experiment(self, experiment_id: str) -> Experiment | None: ...

    def experiments(self, query: ExperimentQuery) -> ExperimentPage: ...

    def children_by_state(self, set_ids: Sequence[str]) -> dict[str, dict[State, int]]:
        """Counts of the children of each set."""

    def experiment_by_request(self, user_name: str, request_id: str) -> Experiment | None: ...

    def jobs(self, experiment_ids: Sequence[str]) -> list[Job]:
        """By experiment in the order of the ids; in each the gang by rank, then build jobs."""

    def attempts(self, experiment_ids: Sequence[str]) -> list[Attempt]:
        """Oldest first."""

    def attempt(self, attempt_id: str) -> Attempt | None: ...

    def projects(self, user_name: str | None, after: tuple[str, str], limit: int) -> list[Project]:
        """Ordered by (user, name), after that pair."""

    def project(self, user_name: str, name: str) -> Project | None: ...

    def revision(self, user_name: str, revision_id: str) -> Revision | None: ...

    def ended_between(self, after: float, until: float, limit: int) -> list[Experiment]:
        """Experiments whose end_time lies in (after, until], oldest first, for retention.

        When there are more than `limit`, those that ended at the very time of the last one come
        too, so going on after that time misses none.
        """

    def close(self) -> None: ...
