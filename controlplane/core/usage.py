"""What queues and their users hold now, and the decayed use of the cluster that they had.

Kept account by account, for each queue and for each user of a queue: an attempt that begins or ends
touches two of them, whatever the size of the cluster. How much a user of many queues used is known
queue by queue only; what a queue used is not the sum over its users, for the resource of which most
is held may be another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import exp2, log
from typing import Final

from controlplane.domain.model import Attempt, Experiment, NodeInventory, Queue, UseRecord
from controlplane.domain.snapshot import Held, QueueView, RecentUse, UserView
from controlplane.domain.states import State
from riseml.spec.model import GPU, TrainSpec

# Use that is older than this and not stored is written down.
SAVE_SECONDS: Final = 300.0
# Recent use below this part of a half-life is forgotten.
NEGLIGIBLE: Final = 1e-9
_LN2: Final = log(2.0)

Key = tuple[str, str]
"""Queue and user name; "" for the whole queue."""

_HELD_BACK, _WAITING, _RUNNING = range(3)
# By name: members of an enum hash anew with each look-up.
_STANDING: Final = {
    State.CREATED.name: _HELD_BACK,
    State.PENDING.name: _WAITING,
    State.BUILDING.name: _RUNNING,
    State.STARTING.name: _RUNNING,
    State.RUNNING.name: _RUNNING,
}


def gang_gpu_milli(spec: TrainSpec) -> int:
    """What one experiment of a spec asks for in all."""
    return sum([role.count * role.resources.gpu_milli for role in spec.roles])


class Account:
    """One queue's, or that of one user in it. Only the ledger changes it."""

    __slots__ = (
        "_counts",
        "_view",
        "cpu_milli",
        "gpu_milli",
        "memory_bytes",
        "rate",
        "seconds",
        "time",
        "waiting_gpu_milli",
    )

    def __init__(self) -> None:
        self.gpu_milli = 0
        self.cpu_milli = 0
        self.memory_bytes = 0
        # See `RecentUse`; `time` None: nothing was ever held.
        self.seconds = 0.0
        self.time: float | None = None
        self.rate = 0.0
        self._counts = [0, 0, 0]
        # What those that wait ask for.
        self.waiting_gpu_milli = 0
        self._view: QueueView | None = None

    @property
    def held(self) -> Held:
        return Held(self.gpu_milli, self.cpu_milli, self.memory_bytes)

    @property
    def waiting_count(self) -> int:
        """Experiments that wait for a place (not those that wait for their turn in a set)."""
        return self._counts[_WAITING]

    @property
    def running_count(self) -> int:
        """Experiments that have a place."""
        return self._counts[_RUNNING]

    @property
    def live_count(self) -> int:
        """Experiments that have not ended, sets left out."""
        return sum(self._counts)

    @property
    def standing(self) -> tuple[Held, float, tuple[int, ...], int]:
        """All of it but the past: what is held, the part of the cluster that this is, experiments
        by what they do, and what those that wait ask for.
        """
        return self.held, self.rate, tuple(self._counts), self.waiting_gpu_milli

    @property
    def is_idle(self) -> bool:
        """Whether nobody would miss it: it holds nothing, and no experiment of it is left."""
        return not (self.gpu_milli or self.cpu_milli or self.memory_bytes or any(self._counts))


class UseLedger:
    """All accounts, with the capacity of the cluster that makes held amounts parts of it.

    The capacity is that of all nodes that the cluster knows, whatever their state: a node that goes
    and comes changes nobody's use.
    """

    def __init__(self, half_life_seconds: float) -> None:
        self.half_life_seconds = half_life_seconds
        self.queues: dict[str, Account] = {}
        # By queue, then by user.
        self.users: dict[str, dict[str, Account]] = {}
        self.capacity = Held()
        # Keys of accounts whose use is not stored as it is, with the time since when, oldest first.
        self._unsaved: dict[Key, float] = {}
        # What the snapshot shows of users, and who of them changed since.
        self._views: dict[Key, UserView] = {}
        self._stale: dict[Key, None] = {}
        self._shown: tuple[UserView, ...] = ()

    # -------------------------------------------------------------------------------- questions

    def use_of(self, account: Account) -> RecentUse:
        """Its use, to be asked for any later time."""
        time = 0.0 if account.time is None else account.time
        return RecentUse(account.seconds, time, account.rate, self.half_life_seconds)

    def account(self, queue: str) -> Account:
        """A queue's account; an empty one for a queue that nobody used."""
        found = self.queues.get(queue)
        return Account() if found is None else found

    def accounts(self) -> Iterator[tuple[Key, Account]]:
        """All of them."""
        for queue, account in self.queues.items():
            yield (queue, ""), account
        for queue, users in self.users.items():
            for user_name, account in users.items():
                yield (queue, user_name), account

    def share(self, account: Account) -> float:
        """The part of the cluster that it holds, by the resource of which it holds most."""
        return min(
            1.0,
            max(
                _part(account.gpu_milli, self.capacity.gpu_milli),
                _part(account.cpu_milli, self.capacity.cpu_milli),
                _part(account.memory_bytes, self.capacity.memory_bytes),
            ),
        )

    def queue_view(self, queue: Queue) -> QueueView:
        """For the snapshot; the same object as long as nothing changed."""
        account = self._account((queue.name, ""))
        view = account._view
        if view is None or view.queue is not queue:
            view = account._view = QueueView(queue, account.held, self.use_of(account))
        return view

    def user_views(self) -> tuple[UserView, ...]:
        """For the snapshot, by queue and user name; without those that hold and used nothing."""
        if self._stale:
            views = self._views
            joined = False
            for key in self._stale:
                account = self._known(key)
                if account is None:
                    views.pop(key, None)
                else:
                    joined = joined or key not in views
                    views[key] = UserView(*key, account.held, self.use_of(account))
            if joined:
                # By name, whoever came first: equal clusters give equal snapshots.
                self._views = views = dict(sorted(views.items()))
            self._stale.clear()
            self._shown = tuple(views.values())
        return self._shown

    # ------------------------------------------------------------------------------ what happens

    def take(self, experiment: Experiment, attempt: Attempt, now: float) -> None:
        """An attempt of this experiment holds its allocation from now on."""
        self._move(experiment, attempt, 1, now)

    def give_back(self, experiment: Experiment, attempt: Attempt, now: float) -> None:
        """It holds nothing any more."""
        self._move(experiment, attempt, -1, now)

    def _move(self, experiment: Experiment, attempt: Attempt, sign: int, now: float) -> None:
        gpu_milli = sign * sum([share.milli for share in attempt.gpus])
        cpu_milli, memory_bytes = sign * attempt.cpu_milli, sign * attempt.memory_bytes
        if not (gpu_milli or cpu_milli or memory_bytes):
            return
        queue, user_name = experiment.spec.queue, experiment.user_name
        for key in ((queue, ""), (queue, user_name)):
            account = self._account(key)
            self._settle(account, now)
            account.gpu_milli += gpu_milli
            account.cpu_milli += cpu_milli
            account.memory_bytes += memory_bytes
            account.rate = self.share(account)
            self._changed(key, account)
            self._unsaved.setdefault(key, now)

    def moved(self, experiment: Experiment, old: State | None, new: State | None) -> None:
        """An experiment (no set) that was in one state is in another; None: it was or is not."""
        before = None if old is None else _STANDING.get(old.name)
        after = None if new is None else _STANDING.get(new.name)
        if before == after:
            return
        queue = experiment.spec.queue
        wants = 0
        if before == _WAITING or after == _WAITING:
            wants = gang_gpu_milli(experiment.spec)
        for key in ((queue, ""), (queue, experiment.user_name)):
            account = self._account(key)
            if before is not None:
                account._counts[before] -= 1
                if before == _WAITING:
                    account.waiting_gpu_milli -= wants
            if after is not None:
                account._counts[after] += 1
                if after == _WAITING:
                    account.waiting_gpu_milli += wants

    def node_changed(
        self, old: NodeInventory | None, new: NodeInventory | None, now: float | None
    ) -> None:
        """A node is another now, or came (`old` None), or went (`new` None)."""
        before, after = _capacity(old), _capacity(new)
        if before == after:
            return
        whole = self.capacity
        self.capacity = Held(
            whole.gpu_milli + after.gpu_milli - before.gpu_milli,
            whole.cpu_milli + after.cpu_milli - before.cpu_milli,
            whole.memory_bytes + after.memory_bytes - before.memory_bytes,
        )
        if now is None:
            return
        for key, account in self.accounts():
            rate = self.share(account)
            if rate != account.rate:
                self._settle(account, now)
                account.rate = rate
                self._changed(key, account)

    def drop_queue(self, queue: str) -> None:
        """The queue is gone, and with it what was used through it."""
        for user_name in [*self.users.get(queue, ()), ""]:
            self.forget((queue, user_name))

    # ------------------------------------------------------------------------------- remembering

    def due(self, now: float) -> list[UseRecord]:
        """What is to be written down now: nothing, or all that is not stored as it is."""
        oldest = next(iter(self._unsaved.values()), None)
        if oldest is None or now - oldest < SAVE_SECONDS:
            return []
        return [
            UseRecord(*key, self.use_of(account).at(now), now)
            for key, account in ((key, self._known(key)) for key in self._unsaved)
            if account is not None
        ]

    def negligible(self, now: float) -> list[Key]:
        """Accounts that hold nothing, and whose use was so little or so long ago that nobody would
        miss it.
        """
        least = NEGLIGIBLE * self.half_life_seconds
        return [
            key
            for key, account in self.accounts()
            if account.is_idle and self.use_of(account).at(now) < least
        ]

    def saved(self, record: UseRecord) -> None:
        """A record is stored: what is held since then is not."""
        key = (record.queue, record.user_name)
        account = self._known(key)
        self._unsaved.pop(key, None)
        if account is not None and account.rate:
            self._unsaved[key] = record.time

    def restore(
        self,
        records: Iterable[UseRecord],
        held: Iterable[tuple[Experiment, Attempt]],
        is_fresh_at: float | None,
    ) -> None:
        """Goes on from records. What is held counts since its use was written down, or since it
        began. So old is what is not written down, unless it is said to be fresh.
        """
        for record in records:
            key = (record.queue, record.user_name)
            account = self._account(key)
            account.seconds, account.time = record.seconds, record.time
            self._changed(key, account)
        for experiment, attempt in sorted(held, key=lambda each: each[1].create_time):
            self.take(experiment, attempt, attempt.create_time)
        if is_fresh_at is not None:
            self._unsaved = dict.fromkeys(self._unsaved, is_fresh_at)

    def forget(self, key: Key) -> None:
        """Drops an account."""
        queue, user_name = key
        if user_name:
            self.users.get(queue, {}).pop(user_name, None)
            self._stale[key] = None
        else:
            self.queues.pop(queue, None)
        self._unsaved.pop(key, None)

    # ------------------------------------------------------------------------------------ inside

    def _known(self, key: Key) -> Account | None:
        queue, user_name = key
        return self.users.get(queue, {}).get(user_name) if user_name else self.queues.get(queue)

    def _account(self, key: Key) -> Account:
        account = self._known(key)
        if account is None:
            queue, user_name = key
            account = Account()
            if user_name:
                self.users.setdefault(queue, {})[user_name] = account
            else:
                self.queues[queue] = account
        return account

    def _changed(self, key: Key, account: Account) -> None:
        if key[1]:
            self._stale[key] = None
        else:
            account._view = None

    def _settle(self, account: Account, now: float) -> None:
        """Counts what was held until now. Nothing happens if that is in the past."""
        if account.time is None:
            account.time = now
        passed = now - account.time
        if passed > 0:
            half_life = self.half_life_seconds
            left = exp2(-passed / half_life)
            used = account.rate * (1.0 - left) * half_life / _LN2
            account.seconds = account.seconds * left + used
            account.time = now


def _capacity(inventory: NodeInventory | None) -> Held:
    if inventory is None:
        return Held()
    return Held(len(inventory.gpus) * GPU, inventory.cpu_milli, inventory.memory_bytes)


def _part(held: int, whole: int) -> float:
    return held / whole if whole > 0 else 0.0
