"""Looks over a cycle's shoulder when it comes to one gang, for explanations.

What is noted is what the cycle itself goes by at that moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from controlplane.domain.model import Queue
from controlplane.domain.plan import PendingReason, Plan
from controlplane.domain.snapshot import GangRequest, MemberPlacement, Snapshot
from controlplane.domain.trace import DecisionTrace, GpuTrace, NodeTrace, OrderTrace
from controlplane.scheduler import reasons
from controlplane.scheduler.order import estimate_seconds
from controlplane.scheduler.policy import Policy
from controlplane.scheduler.quota import Accounts
from controlplane.scheduler.room import Room
from controlplane.scheduler.rows import Row
from controlplane.scheduler.timeline import Timeline
from riseml.spec.model import GPU


class Watcher:
    """Waits for the turn of one experiment."""

    def __init__(self, experiment_id: str, policy: Policy) -> None:
        self.experiment_id = experiment_id
        self._policy = policy
        # Others that had their turn, with their queues.
        self._considered: dict[str, str] = {}
        self._gang: GangRequest | None = None
        self._order: OrderTrace | None = None
        self._nodes: tuple[NodeTrace, ...] = ()

    def is_turn_of(self, gang: GangRequest) -> bool:
        """Whether the cycle came to its experiment for the first time."""
        if self._gang is not None:
            return False
        if gang.experiment_id != self.experiment_id:
            self._considered[gang.experiment_id] = gang.queue
            return False
        self._gang = gang
        return True

    def look(
        self,
        snapshot: Snapshot,
        now: float,
        room: Room,
        accounts: Accounts,
        timeline: Timeline,
        placed: Mapping[str, Sequence[MemberPlacement]],
    ) -> None:
        """Notes how things stand at its turn."""
        gang = self._gang
        if gang is None:
            return
        queue = accounts.queue(gang.queue)
        waited = now - gang.submit_time
        self._order = OrderTrace(
            before=len(self._considered),
            before_in_queue=list(self._considered.values()).count(gang.queue),
            queue_weight=queue.queue.weight,
            queue_held=queue.held,
            queue_share=queue.share,
            queue_fair_share=_fair_share(queue.queue, snapshot),
            user_recent_seconds=accounts.user(gang.queue, gang.user_name).use.at(now),
            waited_seconds=waited,
            urgency=(
                -waited
                if waited > self._policy.patience_seconds
                else min(
                    estimate_seconds(gang.max_duration_seconds, queue.queue),
                    self._policy.longest_counted_seconds,
                )
            ),
        )
        given: dict[str, list[str]] = {}
        for experiment_id, members in placed.items():
            for member in members:
                for share in member.gpus:
                    given.setdefault(share.uuid, []).append(experiment_id)
        self._nodes = tuple([_node(row, gang, timeline, now, given) for row in room.rows()])

    def trace(self, plan: Plan) -> DecisionTrace | None:
        """What was noted, with what the plan makes of it; None: it had no turn."""
        gang = self._gang
        if gang is None or self._order is None:
            return None
        name = gang.experiment_id
        decision = next((one for one in plan.decisions if one.experiment_id == name), None)
        kept = next((one for one in plan.reservations if one.experiment_id == name), None)
        is_placed = any(one.experiment_id == name for one in plan.placements)
        waiting = next((one for one in plan.waiting if one.shape == gang.shape), None)
        if is_placed or waiting is None:
            why: tuple[PendingReason, ...] = ()
        else:
            own = () if kept is None or kept.reason is None else (kept.reason,)
            why = own + waiting.reasons
        return DecisionTrace(
            gang,
            self._order,
            self._nodes,
            decision,
            kept,
            tuple([one for one in plan.evictions if one.for_experiment_id == name]),
            why,
            waiting is not None and waiting.impossible and not is_placed,
        )


def _fair_share(queue: Queue, snapshot: Snapshot) -> float:
    """By weight, among the queues that hold something or have something waiting."""
    active = {line.shape.queue for line in snapshot.pending.lines}
    active |= {gang.queue for gang in snapshot.running}
    weights = {view.queue.name: view.queue.weight for view in snapshot.queues}
    total = sum(weights.get(name, 1) for name in active | {queue.name})
    return queue.weight / total if total else 1.0


def _node(
    row: Row,
    gang: GangRequest,
    timeline: Timeline,
    now: float,
    given: Mapping[str, Sequence[str]],
) -> NodeTrace:
    obstacle = reasons.obstacle_on(row, gang)
    if obstacle is None:
        obstacle = _kept_from(row, gang, timeline, now)
    return NodeTrace(
        row.name,
        row.free_cpu_milli,
        row.free_memory_bytes,
        row.free_shm_bytes,
        row.free_ports,
        tuple(
            [
                GpuTrace(
                    view.gpu.uuid,
                    view.gpu.index,
                    row.gpu_free[position],
                    min(row.gpu_held[position], max(0, row.gpu_free[position])),
                    tuple(dict.fromkeys(row.gpu_held_for[position])),
                    tuple(given.get(view.gpu.uuid, ())),
                )
                for position, view in enumerate(row.view.gpus)
            ]
        ),
        obstacle is None,
        obstacle,
    )


def _kept_from(row: Row, gang: GangRequest, timeline: Timeline, now: float) -> PendingReason | None:
    """There is room, but too much of it is kept for others."""
    kept = timeline.kept_from(gang, row.name, now)
    if not kept:
        return None
    free = list(row.gpu_free)
    cpu, memory, shm = row.free_cpu_milli, row.free_memory_bytes, row.free_shm_bytes
    for _, amount in kept:
        cpu -= amount.cpu_milli
        memory -= amount.memory_bytes
        shm -= amount.shm_bytes
        for position, view in enumerate(row.view.gpus):
            free[position] -= amount.gpus.get(view.gpu.uuid, 0)
    less = replace(
        row,
        free_cpu_milli=cpu,
        free_memory_bytes=memory,
        free_shm_bytes=shm,
        gpu_free=free,
        whole_free=free.count(GPU),
    )
    short = reasons.obstacle_on(less, gang)
    return None if short is None else reasons.kept_on(row.name, [one for one, _ in kept], short)
