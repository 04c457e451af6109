"""What a store hands over so that a cluster goes on from where it was."""

from __future__ import annotations

from typing import Protocol

from controlplane.domain.model import (
    ApiKey,
    Attempt,
    Experiment,
    Job,
    Node,
    NodeToken,
    Project,
    Queue,
    User,
    UseRecord,
)
from controlplane.domain.states import State


class LiveState(Protocol):
    """What the store loads; `controlplane.store.protocol.LiveState` has this shape."""

    @property
    def users(self) -> tuple[User, ...]: ...
    @property
    def api_keys(self) -> tuple[ApiKey, ...]: ...
    @property
    def node_tokens(self) -> tuple[NodeToken, ...]: ...
    @property
    def projects(self) -> tuple[Project, ...]: ...
    @property
    def nodes(self) -> tuple[Node, ...]: ...
    @property
    def queues(self) -> tuple[Queue, ...]: ...
    @property
    def use_records(self) -> tuple[UseRecord, ...]: ...
    @property
    def experiments(self) -> tuple[Experiment, ...]: ...
    @property
    def jobs(self) -> tuple[Job, ...]: ...
    @property
    def attempts(self) -> tuple[Attempt, ...]: ...
    @property
    def last_numbers(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def recent_requests(self) -> tuple[tuple[str, str, str], ...]: ...
    @property
    def ended_children(self) -> tuple[tuple[str, State, int], ...]: ...
