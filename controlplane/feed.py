"""Tells watchers which experiments changed, after the commit.

A watcher gets a bounded queue of (change number, experiment id). When it falls behind, older
entries of an experiment give way to newer ones, so its memory is bounded by the number of
experiments that it watches and it always learns the newest state.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from controlplane.domain.errors import ChangesCompacted
from controlplane.domain.model import Experiment

KEPT_CHANGES = 20_000


class Subscription:
    """One watcher's queue. Take from it with `take`."""

    def __init__(self, user_name: str | None, root_id: str | None) -> None:
        self._user_name = user_name
        self._root_id = root_id
        self._changed: OrderedDict[str, tuple[int, Experiment]] = OrderedDict()
        self._arrived = asyncio.Event()

    def wants(self, experiment: Experiment) -> bool:
        if self._root_id is not None:
            return experiment.id == self._root_id or experiment.set_id == self._root_id
        return self._user_name is None or experiment.user_name == self._user_name

    def offer(self, change_number: int, experiment: Experiment) -> None:
        self._changed[experiment.id] = (change_number, experiment)
        self._arrived.set()

    async def take(self) -> list[tuple[int, Experiment]]:
        """What changed since the last call, oldest first; waits for at least one."""
        while not self._changed:
            self._arrived.clear()
            await self._arrived.wait()
        taken = sorted(self._changed.values(), key=lambda item: item[0])
        self._changed.clear()
        return taken


class ChangeFeed:
    """Remembers recent changes by number, so that a watch can go on where it stopped."""

    def __init__(self, change_number: int) -> None:
        # Changes up to this number are no longer known one by one.
        self._compacted = change_number
        self._number = change_number
        self._recent: deque[tuple[int, str, str, str | None]] = deque()
        self._subscriptions: set[Subscription] = set()
        # Called with what changed before it may leave memory.
        self.observers: list[Callable[[Collection[Experiment]], None]] = []

    @property
    def change_number(self) -> int:
        """Of the newest published change."""
        return self._number

    def publish(self, change_number: int, experiments: Collection[Experiment]) -> None:
        """Called once per committed batch, in order."""
        self._number = change_number
        for observe in self.observers:
            observe(experiments)
        for experiment in experiments:
            self._recent.append(
                (change_number, experiment.id, experiment.user_name, experiment.set_id)
            )
            for subscription in self._subscriptions:
                if subscription.wants(experiment):
                    subscription.offer(change_number, experiment)
        while len(self._recent) > KEPT_CHANGES:
            self._compacted = self._recent.popleft()[0]

    def changed_since(
        self, change_number: int, user_name: str | None, root_id: str | None
    ) -> dict[str, int]:
        """Ids changed after that number, each with its newest change number, oldest first.

        Raises ChangesCompacted when that is no longer known.
        """
        if change_number < self._compacted or change_number > self._number:
            raise ChangesCompacted(
                "These changes are no longer kept: list the experiments again and watch from the "
                "change number that comes with the list.",
                metadata={"oldest": str(self._compacted), "asked": str(change_number)},
            )
        changed: dict[str, int] = {}
        for number, experiment_id, owner, set_id in self._recent:
            if number <= change_number:
                continue
            if root_id is not None:
                if root_id not in (experiment_id, set_id):
                    continue
            elif user_name is not None and owner != user_name:
                continue
            changed.pop(experiment_id, None)
            changed[experiment_id] = number
        return changed

    @contextmanager
    def subscribe(self, user_name: str | None, root_id: str | None) -> Iterator[Subscription]:
        """Changes of a user's experiments (None: everybody's), or of one and its children."""
        subscription = Subscription(user_name, root_id)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
