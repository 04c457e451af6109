"""What queues and users hold and lately used, in parts of the cluster; guarantees and limits.

What is placed in a cycle is added as it goes, so that the order of the next gang knows of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import floor, log, log2
from typing import Final

from controlplane.domain.model import Queue
from controlplane.domain.snapshot import (
    Held,
    MemberPlacement,
    QueueView,
    RecentUse,
    Snapshot,
    UserView,
)
from riseml.spec.model import Resources

RECENT_WEIGHT: Final = 0.5
"""What was lately used counts half of what is held now."""

NEGLIGIBLE_SHARE: Final = 0.01
"""Users below this part of the cluster are alike; above it each doubling is a step."""


def total(wanted: Iterable[Resources]) -> Held:
    """What the members of a gang ask for together."""
    gpu = cpu = memory = 0
    for one in wanted:
        gpu += one.gpu_milli
        cpu += one.cpu_milli
        memory += one.memory_bytes
    return Held(gpu, cpu, memory)


def total_held(members: Iterable[MemberPlacement]) -> Held:
    """What these places hold together."""
    gpu = cpu = memory = 0
    for one in members:
        gpu += sum(share.milli for share in one.gpus)
        cpu += one.cpu_milli
        memory += one.memory_bytes
    return Held(gpu, cpu, memory)


def plus(held: Held, more: Held) -> Held:
    """Both together."""
    return Held(
        held.gpu_milli + more.gpu_milli,
        held.cpu_milli + more.cpu_milli,
        held.memory_bytes + more.memory_bytes,
    )


def less(held: Held, part: Held) -> Held:
    """The first without the second."""
    return Held(
        held.gpu_milli - part.gpu_milli,
        held.cpu_milli - part.cpu_milli,
        held.memory_bytes - part.memory_bytes,
    )


def dominant_share(held: Held, capacity: Held) -> float:
    """The part of the cluster that is held of the resource of which most is, 0 to 1."""
    return max(
        held.gpu_milli / capacity.gpu_milli if capacity.gpu_milli else 0.0,
        held.cpu_milli / capacity.cpu_milli if capacity.cpu_milli else 0.0,
        held.memory_bytes / capacity.memory_bytes if capacity.memory_bytes else 0.0,
    )


def recent_share(use: RecentUse, now: float) -> float:
    """The part of the cluster that would have to be held always to have used as much, 0 to 1."""
    return use.at(now) * log(2.0) / use.half_life_seconds


class Account:
    """What one queue, or one user within a queue, holds and used."""

    __slots__ = ("_capacity", "_held", "_level", "_recent", "_share", "use")

    def __init__(self, held: Held, use: RecentUse, capacity: Held, now: float) -> None:
        self._held = held
        self._capacity = capacity
        self._share = dominant_share(held, capacity)
        self._recent = recent_share(use, now)
        # Made when it is asked for.
        self._level: int | None = None
        self.use = use

    @property
    def held(self) -> Held:
        return self._held

    @property
    def share(self) -> float:
        """Of the resource of which most is held, 0 to 1."""
        return self._share

    @property
    def charge(self) -> float:
        """What it holds, and as a lesser term what it lately used."""
        return self._share + RECENT_WEIGHT * self._recent

    def add(self, more: Held) -> None:
        """It holds this as well from now on."""
        self._held = plus(self._held, more)
        self._share = dominant_share(self._held, self._capacity)
        self._level = None

    @property
    def level(self) -> int:
        """0 for a negligible charge, and one more for each doubling above that."""
        if self._level is None:
            over = self.charge / NEGLIGIBLE_SHARE
            self._level = 0 if over < 1.0 else 1 + floor(log2(over))
        return self._level


class QueueAccount(Account):
    """A queue with what it is entitled to."""

    __slots__ = ("_waits_at_limit", "queue")

    def __init__(self, view: QueueView, capacity: Held, now: float) -> None:
        super().__init__(view.held, view.use, capacity, now)
        self.queue = view.queue
        # GPUs that the first of its gangs at the limit waits for.
        self._waits_at_limit = 0

    @property
    def is_below_guarantee(self) -> bool:
        return self.held.gpu_milli < self.queue.guaranteed_gpu_milli

    @property
    def borrowed_gpu_milli(self) -> int:
        """What it holds beyond its guarantee; others may take that back."""
        return max(0, self.held.gpu_milli - self.queue.guaranteed_gpu_milli)

    @property
    def rank(self) -> tuple[bool, float, str]:
        """The lowest comes first."""
        queue = self.queue
        return (not self.is_below_guarantee, self.charge / max(1, queue.weight), queue.name)

    def allows(self, gpu_milli: int) -> bool:
        """Whether its limit lets it hold this as well."""
        limit = self.queue.limit_gpu_milli
        if limit is None or not gpu_milli:
            return True
        return self.held.gpu_milli + self._waits_at_limit + gpu_milli <= limit

    def leave_room_below_limit(self, gpu_milli: int) -> None:
        """Those that come later may not use up what a gang that has waited long needs."""
        self._waits_at_limit = max(self._waits_at_limit, gpu_milli)


class Accounts:
    """Of all queues and users of a snapshot; made when they are asked for."""

    def __init__(self, snapshot: Snapshot, capacity: Held, now: float) -> None:
        self._snapshot = snapshot
        self._capacity = capacity
        self._now = now
        self._views = {view.queue.name: view for view in snapshot.queues}
        self._queues: dict[str, QueueAccount] = {}
        self._user_views: dict[tuple[str, str], UserView] | None = None
        self._users: dict[tuple[str, str], Account] = {}

    def settings_of(self, name: str) -> Queue:
        """What is settled for a queue; one that is unknown has the defaults."""
        view = self._views.get(name)
        return Queue(name) if view is None else view.queue

    def queue(self, name: str) -> QueueAccount:
        account = self._queues.get(name)
        if account is None:
            view = self._views.get(name) or QueueView(Queue(name))
            account = self._queues[name] = QueueAccount(view, self._capacity, self._now)
        return account

    def user(self, queue: str, name: str) -> Account:
        account = self._users.get((queue, name))
        if account is None:
            if self._user_views is None:
                views = self._snapshot.users
                self._user_views = {(view.queue, view.user_name): view for view in views}
            view = self._user_views.get((queue, name)) or UserView(queue, name)
            account = Account(view.held, view.use, self._capacity, self._now)
            self._users[queue, name] = account
        return account

    def add(self, queue: str, user_name: str, more: Held) -> None:
        """A gang of theirs was placed."""
        self.queue(queue).add(more)
        self.user(queue, user_name).add(more)
