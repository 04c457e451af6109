"""Queues: made, changed and removed by admins; and what each has, uses and wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final

from controlplane.core.cluster import Cluster
from controlplane.core.draft import Draft, Outcome
from controlplane.core.usage import Account
from controlplane.domain.errors import (
    AlreadyExists,
    FailedPrecondition,
    FieldViolation,
    InvalidRequest,
    NotFound,
)
from controlplane.domain.events import QueueCreated, QueueDeleted, QueueUpdated
from controlplane.domain.model import BUILT_IN_QUEUE, Queue, QueueSettings
from controlplane.domain.snapshot import Held
from riseml.spec.errors import InvalidName
from riseml.spec.ids import check_queue_name
from riseml.spec.model import GPU
from riseml.spec.units import format_duration, format_milli
from riseml.spec.validate import MAX_SECONDS

MAX_WEIGHT: Final = 1_000_000
MAX_GPU_MILLI: Final = 1_000_000 * GPU
# Names in a message, at most.
SHOWN_NAMES: Final = 20


def created(draft: Draft, event: QueueCreated) -> Outcome:
    """Reply: Queue. Repeated under its request id it is the first one."""
    known = draft.cluster.queue(event.name)
    if known is not None:
        if event.request_id and known.request_id == event.request_id:
            return draft.outcome(known)
        raise AlreadyExists(
            f"There is a queue {event.name!r} already: change it, or choose another name.",
            reason="QUEUE_EXISTS",
            metadata={"queue": event.name},
        )
    new = Queue(event.name, create_time=draft.now, request_id=event.request_id)
    queue = _checked(_with(new, event.settings))
    draft.insert_account(queue)
    return draft.outcome(queue)


def updated(draft: Draft, event: QueueUpdated) -> Outcome:
    """Reply: Queue."""
    old = known_queue(draft.cluster, event.name)
    queue = _checked(_with(old, event.settings))
    if queue != old:
        if event.name in draft.cluster.queues:
            draft.update_account(queue)
        else:
            # `default`, as it is before anybody changes it, is not stored.
            draft.insert_account(queue)
        draft.wake_scheduler()
    return draft.outcome(queue)


def deleted(draft: Draft, event: QueueDeleted) -> Outcome:
    """Reply: None. What was used through it is forgotten."""
    cluster = draft.cluster
    queue = known_queue(cluster, event.name)
    if queue.name == BUILT_IN_QUEUE.name:
        raise FailedPrecondition(
            f"The queue {queue.name} is always there: experiments that name no queue wait in it.",
            reason="BUILT_IN_QUEUE",
            metadata={"queue": queue.name},
        )
    account = cluster.use.account(queue.name)
    if not account.is_idle:
        count = account.live_count
        who = "1 experiment waits or runs" if count == 1 else f"{count} experiments wait or run"
        raise FailedPrecondition(
            f"The queue {queue.name} is in use: {who} in it. Let them end, or kill them, first.",
            reason="QUEUE_IN_USE",
            metadata={"queue": queue.name, "experiments": str(count)},
        )
    for record in cluster.use_records.values():
        if record.queue == queue.name:
            draft.delete(record)
    draft.delete(queue)
    return draft.outcome()


def known_queue(cluster: Cluster, name: str) -> Queue:
    """The queue. Raises NotFound."""
    queue = cluster.queue(name)
    if queue is None:
        words = no_such_queue(cluster, name)
        raise NotFound(
            f"{words[0].upper()}{words[1:]}", reason="QUEUE_NOT_FOUND", metadata={"queue": name}
        )
    return queue


def no_such_queue(cluster: Cluster, name: str) -> str:
    """In words, with the names of those that there are."""
    names = cluster.queue_names()
    near = get_close_matches(name, names, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    shown = ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
    verb = "is" if len(names) == 1 else "are"
    return f"there is no queue {name[:80]!r} (there {verb} {shown}){meant}"


def _with(queue: Queue, settings: QueueSettings) -> Queue:
    limit, duration = settings.limit_gpu_milli, settings.default_max_duration_seconds
    return replace(
        queue,
        weight=queue.weight if settings.weight is None else settings.weight,
        guaranteed_gpu_milli=queue.guaranteed_gpu_milli
        if settings.guaranteed_gpu_milli is None
        else settings.guaranteed_gpu_milli,
        limit_gpu_milli=queue.limit_gpu_milli if limit is None else limit if limit >= 0 else None,
        placement=settings.placement or queue.placement,
        preempts_lower_priority=queue.preempts_lower_priority
        if settings.preempts_lower_priority is None
        else settings.preempts_lower_priority,
        default_max_duration_seconds=queue.default_max_duration_seconds
        if duration is None
        else duration or None,
    )


def _checked(queue: Queue) -> Queue:
    """Raises InvalidRequest with all that is wrong."""
    wrong = tuple(FieldViolation(path, message) for path, message in _faults(queue))
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise InvalidRequest(
            f"{wrong[0].path}: {wrong[0].message}{more}", wrong, reason="INVALID_QUEUE"
        )
    return queue


def _faults(queue: Queue) -> Iterator[tuple[str, str]]:
    try:
        check_queue_name(queue.name)
    except InvalidName as error:
        yield "name", str(error)
    if not 1 <= queue.weight <= MAX_WEIGHT:
        yield "weight", f"{queue.weight} is not 1 to {MAX_WEIGHT}"
    guaranteed, limit = queue.guaranteed_gpu_milli, queue.limit_gpu_milli
    if not 0 <= guaranteed <= MAX_GPU_MILLI:
        yield "guaranteed_gpu_milli", f"{_gpus(guaranteed)} is not 0 to {_gpus(MAX_GPU_MILLI)}"
    if limit is not None and not 0 <= limit <= MAX_GPU_MILLI:
        yield "limit_gpu_milli", f"{_gpus(limit)} is not 0 to {_gpus(MAX_GPU_MILLI)}"
    elif limit is not None and limit < guaranteed:
        message = f"{_gpus(limit)} is below the guarantee, which is {_gpus(guaranteed)}"
        yield "limit_gpu_milli", message
    seconds = queue.default_max_duration_seconds
    if seconds is not None and not 1 <= seconds <= MAX_SECONDS:
        longest = format_duration(MAX_SECONDS)
        yield "default_max_duration_seconds", f"{seconds} seconds is not 1s to {longest}"


def _gpus(milli: int) -> str:
    return f"{format_milli(milli)} GPU{'' if milli == GPU else 's'}"


# ------------------------------------------------------------------------------ what queues have


@dataclass(frozen=True, slots=True)
class Use:
    """What a queue, or a user of it, has, uses and wants."""

    held: Held
    # Part of the cluster that is held, by the resource of which most is, 0 to 1.
    share: float
    running_count: int
    waiting_count: int
    # What those that wait ask for.
    waiting_gpu_milli: int
    # Of a queue: part of the recent use of all queues. Of a user: part of that of the queue.
    recent_share: float


@dataclass(frozen=True, slots=True)
class QueueUse:
    """A queue with what it has, uses and wants."""

    queue: Queue
    use: Use
    # Part of the cluster that its weight entitles it to among the queues that run or wait, itself
    # among them, 0 to 1.
    fair_share: float
    # By name; without those who have nothing and whose use is forgotten. Empty unless asked for.
    users: tuple[tuple[str, Use], ...]

    @property
    def borrowed_gpu_milli(self) -> int:
        """GPUs above its guarantee."""
        return max(0, self.use.held.gpu_milli - self.queue.guaranteed_gpu_milli)


def queue_uses(
    cluster: Cluster, names: Iterable[str], now: float, *, with_users: bool = False
) -> list[QueueUse]:
    """Of the queues of these names, in their order. Raises NotFound."""
    ledger = cluster.use
    queues = {queue.name: queue for queue in cluster.all_queues()}
    accounts = {name: ledger.account(name) for name in queues}
    recent = {name: ledger.use_of(account).at(now) for name, account in accounts.items()}
    total = sum(recent.values())
    active = sum(queues[n].weight for n, account in accounts.items() if not account.is_idle)

    def use(account: Account, part_of: float) -> Use:
        used = ledger.use_of(account).at(now)
        return Use(
            held=account.held,
            share=ledger.share(account),
            running_count=account.running_count,
            waiting_count=account.waiting_count,
            waiting_gpu_milli=account.waiting_gpu_milli,
            recent_share=used / part_of if part_of > 0 else 0.0,
        )

    found = []
    for name in names:
        queue = known_queue(cluster, name)
        account = accounts[name]
        users = ledger.users.get(name, {}) if with_users else {}
        by_users = sum(ledger.use_of(one).at(now) for one in users.values())
        others = active if not account.is_idle else active + queue.weight
        found.append(
            QueueUse(
                queue,
                use(account, total),
                queue.weight / others,
                tuple(
                    (user_name, use(users[user_name], by_users))
                    for user_name in sorted(users)
                    if not users[user_name].is_idle or users[user_name].time is not None
                ),
            )
        )
    return found
