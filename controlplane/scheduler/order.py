"""Who comes first. The rule, from the outside in:

1. queues: those that hold less than their guarantee, then by what they hold and lately used for
   their weight, the least first (`QueueAccount.rank`);
2. within a queue: higher priority;
3. within a priority: those that have waited longer than the policy's patience, oldest first;
4. then the first two that have waited for some time and have a reservation: what was promised to
   them is kept, whoever comes;
5. then users by what they hold and lately used in this queue, the least first, in coarse steps
   (`Account.level`);
6. then the shortest by its max_duration (all from a day on alike), the oldest, the id.

Gangs of a line differ in age alone, so a line costs something only while gangs are taken from it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Final, Protocol

from controlplane.domain.model import Queue
from controlplane.domain.snapshot import Backlog, GangRequest, Line, Snapshot
from controlplane.scheduler.policy import Ordering, Policy
from controlplane.scheduler.quota import Account, Accounts, QueueAccount

UNKNOWN_ESTIMATE_SECONDS: Final = 86_400.0
"""How long a gang is taken to run when neither it nor its queue says."""

Urgency = tuple[int, int, float, float, float, int, str]
"""Priority; overdue, settled or none of it; then of the settled their place, and of the others the
level of the user and the estimate; then when they came, and the id. The lowest comes first.
"""

_OVERDUE, _SETTLED, _OTHERS = range(3)


class Order(Protocol):
    """Goes through the gangs that wait; what is placed in between is known to the accounts."""

    def first(self) -> tuple[GangRequest, Line] | None:
        """The next gang and the line it stands in; None after the last."""
        ...

    def take(self) -> None:
        """Goes on behind the first gang: it is placed."""
        ...

    def drop(self) -> None:
        """Goes on without all that stands in the line of the first gang."""
        ...

    def urgent(self) -> list[tuple[GangRequest, Line]]:
        """The first gang of each queue, if it has waited for too long, the oldest first; then if
        room was kept for it before, in that order: otherwise other queues, which hold less by the
        time that room has been made, would take it.
        """
        ...


def estimate_seconds(max_duration_seconds: int | None, queue: Queue) -> float:
    """How long a gang is taken to run, for its place in the order."""
    for known in (max_duration_seconds, queue.default_max_duration_seconds):
        if known is not None:
            return float(known)
    return UNKNOWN_ESTIMATE_SECONDS


def make_order(snapshot: Snapshot, accounts: Accounts, policy: Policy, now: float) -> Order:
    """The order that a policy asks for."""
    if policy.order is Ordering.FAIR:
        return FairOrder(snapshot, accounts, policy, now)
    return AgeOrder(snapshot.pending, by_priority=policy.order is Ordering.PRIORITY)


class AgeOrder:
    """Whoever came first, whatever the queue; perhaps by priority before that."""

    def __init__(self, pending: Backlog, *, by_priority: bool) -> None:
        self._by_priority = by_priority
        self._heap = [(self._rank(line[0]), 0, line) for line in pending.lines]
        heapq.heapify(self._heap)

    def _rank(self, gang: GangRequest) -> tuple[int, float, int, str]:
        return gang.rank if self._by_priority else (0, *gang.rank[1:])

    def first(self) -> tuple[GangRequest, Line] | None:
        if not self._heap:
            return None
        _, position, line = self._heap[0]
        return line[position], line

    def take(self) -> None:
        _, position, line = self._heap[0]
        position += 1
        if position < len(line):
            heapq.heapreplace(self._heap, (self._rank(line[position]), position, line))
        else:
            heapq.heappop(self._heap)

    def drop(self) -> None:
        heapq.heappop(self._heap)

    def urgent(self) -> list[tuple[GangRequest, Line]]:
        return []


class FairOrder:
    """The rule above."""

    def __init__(self, snapshot: Snapshot, accounts: Accounts, policy: Policy, now: float) -> None:
        by_queue: dict[str, list[Line]] = {}
        for line in snapshot.pending.lines:
            by_queue.setdefault(line.shape.queue, []).append(line)
        # Of the reservations that the cycle before made, by experiment.
        self._places = {name: float(place) for place, name in enumerate(snapshot.reserved)}
        self._single = len(by_queue) == 1
        self._queues = [
            (
                # A queue alone is first, whatever it holds.
                (False, 0.0, name) if self._single else accounts.queue(name).rank,
                _QueueOrder(name, lines, accounts, policy, now, self._places),
            )
            for name, lines in by_queue.items()
        ]
        heapq.heapify(self._queues)

    def first(self) -> tuple[GangRequest, Line] | None:
        while self._queues:
            first = self._queues[0][1].first()
            if first is not None:
                return first
            heapq.heappop(self._queues)
        return None

    def take(self) -> None:
        _, queue = self._queues[0]
        queue.take()
        if not self._single:
            heapq.heapreplace(self._queues, (queue.account.rank, queue))

    def drop(self) -> None:
        self._queues[0][1].drop()

    def urgent(self) -> list[tuple[GangRequest, Line]]:
        if self._single:
            # The first of the only queue comes first anyway.
            return []
        found = []
        for _, queue in self._queues:
            first = queue.first()
            if first is not None:
                gang, _ = first
                overdue = queue.is_overdue(gang)
                if overdue or gang.experiment_id in self._places:
                    place = gang.submit_time if overdue else self._places[gang.experiment_id]
                    found.append(((not overdue, place, gang.experiment_id), first))
        return [first for _, first in sorted(found, key=itemgetter(0))]


class _QueueOrder:
    """The gangs of one queue."""

    def __init__(
        self,
        name: str,
        lines: list[Line],
        accounts: Accounts,
        policy: Policy,
        now: float,
        places: Mapping[str, float],
    ) -> None:
        self._name = name
        self._accounts = accounts
        self._overdue_since = now - policy.patience_seconds
        self._longest_counted = policy.longest_counted_seconds
        self._settled = _settled(lines, places, now - policy.settled_seconds, policy.settled)
        self._users: dict[str, Account] = {}
        self._default = estimate_seconds(None, accounts.settings_of(name))
        # Of a user alone the level makes no difference.
        self._levelled = any(line.shape.user_name != lines[0].shape.user_name for line in lines)
        self._heap = [(self._urgency(line[0], line), 0, line) for line in lines]
        heapq.heapify(self._heap)

    @property
    def account(self) -> QueueAccount:
        return self._accounts.queue(self._name)

    def is_overdue(self, gang: GangRequest) -> bool:
        return gang.submit_time < self._overdue_since

    def _urgency(self, gang: GangRequest, line: Line) -> Urgency:
        came, name = gang.submit_time, gang.experiment_id
        if came < self._overdue_since:
            return (-line.priority, _OVERDUE, 0.0, 0.0, came, len(name), name)
        place = self._settled.get(name)
        if place is not None:
            return (-line.priority, _SETTLED, place, 0.0, came, len(name), name)
        shape = line.shape
        level = self._level(shape.user_name) if self._levelled else 0
        limit = shape.max_duration_seconds
        estimate = min(self._default if limit is None else float(limit), self._longest_counted)
        return (-line.priority, _OTHERS, level, estimate, came, len(name), name)

    def _level(self, user_name: str) -> int:
        account = self._users.get(user_name)
        if account is None:
            account = self._users[user_name] = self._accounts.user(self._name, user_name)
        return account.level

    def first(self) -> tuple[GangRequest, Line] | None:
        heap = self._heap
        while heap:
            urgency, position, line = heap[0]
            gang = line[position]
            if self._levelled and urgency[1] == _OTHERS:
                # The user was given something since: its gangs may come later now.
                level = self._level(line.shape.user_name)
                if level != urgency[2]:
                    heapq.heapreplace(heap, (self._urgency(gang, line), position, line))
                    continue
            return gang, line
        return None

    def take(self) -> None:
        _, position, line = self._heap[0]
        position += 1
        if position < len(line):
            entry = (self._urgency(line[position], line), position, line)
            heapq.heapreplace(self._heap, entry)
        else:
            heapq.heappop(self._heap)

    def drop(self) -> None:
        heapq.heappop(self._heap)


def _settled(
    lines: Iterable[Line], places: Mapping[str, float], since: float, most: int
) -> dict[str, float]:
    """Of each priority the first so many that have waited since then and have a reservation, with
    its place. In a line those with reservations are the first.
    """
    if not places:
        return {}
    found: dict[int, list[tuple[float, str]]] = {}
    for line in lines:
        for gang in line:
            place = places.get(gang.experiment_id)
            if place is None or gang.submit_time >= since:
                break
            found.setdefault(line.priority, []).append((place, gang.experiment_id))
    return {name: place for one in found.values() for place, name in sorted(one)[:most]}
