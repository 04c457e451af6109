"""A snapshot that goes on in virtual time: gangs start as planned and end as assumed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import (
    Backlog,
    GangRequest,
    Held,
    Line,
    MemberPlacement,
    NodeView,
    QueueView,
    RunningGang,
    Snapshot,
    UserView,
)
from controlplane.scheduler.amounts import Amount, by_node
from controlplane.scheduler.quota import less, plus, total_held

End = Callable[[RunningGang], float | None]
"""When a gang is assumed to end; None: never."""


class VirtualCluster:
    """One cluster of which nothing is known but a snapshot. Nobody comes, nobody fails."""

    def __init__(self, snapshot: Snapshot, end: End) -> None:
        self._snapshot = snapshot
        self._end = end
        self._nodes = {node.name: node for node in snapshot.nodes}
        self._running = {gang.experiment_id: gang for gang in snapshot.running}
        self._lines = list(snapshot.pending.lines)
        self._queues = {view.queue.name: view for view in snapshot.queues}
        self._reserved = snapshot.reserved
        self._preemptors = set(snapshot.preemptors)
        self._users = {(view.queue, view.user_name): view for view in snapshot.users}

    def snapshot(self) -> Snapshot:
        """It as it is."""
        self._snapshot = replace(
            self._snapshot,
            version=self._snapshot.version + 1,
            nodes=tuple(self._nodes.values()),
            pending=Backlog(tuple(self._lines)),
            running=tuple(self._running.values()),
            queues=tuple(self._queues.values()),
            users=tuple(self._users.values()),
            reserved=self._reserved,
            preemptors=tuple(sorted(self._preemptors)),
        )
        return self._snapshot

    def next_end(self, after: float) -> float | None:
        """When the next gang ends, at least a second later; None if none ever does."""
        ends = [self._end(gang) for gang in self._running.values()]
        return min((max(end, after + 1.0) for end in ends if end is not None), default=None)

    def pass_until(self, time: float) -> None:
        """Those that end by then are gone."""
        for gang in list(self._running.values()):
            end = self._end(gang)
            if end is not None and end <= time:
                del self._running[gang.experiment_id]
                self._move(gang, -1)

    def apply(self, plan: Plan, now: float) -> None:
        """Starts whom a plan starts, and stops whom it stops; these do not come back."""
        requests = self._taken_out({one.experiment_id for one in plan.placements})
        for one in plan.placements:
            started = as_running(requests[one.experiment_id], one.members, now)
            self._running[one.experiment_id] = started
            self._preemptors.discard(one.experiment_id)
            self._move(started, 1)
        for eviction in plan.evictions:
            gang = self._running[eviction.experiment_id]
            until = now + gang.grace_period_seconds
            self._running[eviction.experiment_id] = replace(gang, stopping_until=until)
            self._preemptors.add(eviction.for_experiment_id)
        self._reserved = tuple([one.experiment_id for one in plan.reservations])

    def _taken_out(self, names: set[str]) -> dict[str, GangRequest]:
        found: dict[str, GangRequest] = {}
        lines: list[Line] = []
        for line in self._lines:
            left = []
            for gang in line:
                if gang.experiment_id in names:
                    found[gang.experiment_id] = gang
                else:
                    left.append(gang)
            if len(left) == len(line):
                lines.append(line)
            elif left:
                lines.append(Line(line.shape, line.priority, left, 0, len(left)))
        self._lines = lines
        return found

    def _move(self, gang: RunningGang, sign: int) -> None:
        """Its places are taken (1) or given back (-1)."""
        ports = sign if len(gang.members) > 1 else 0
        for name, amount in by_node(gang.members).items():
            node = self._nodes.get(name)
            if node is not None:
                here = sum(member.node_name == name for member in gang.members)
                self._nodes[name] = _moved(node, amount, sign, ports * here)
        change: Callable[[Held, Held], Held] = plus if sign > 0 else less
        held = total_held(gang.members)
        view = self._queues.get(gang.queue)
        if view is not None:
            self._queues[gang.queue] = QueueView(view.queue, change(view.held, held), view.use)
        key = (gang.queue, gang.user_name)
        user = self._users.get(key) or UserView(*key)
        self._users[key] = replace(user, held=change(user.held, held))


def _moved(node: NodeView, amount: Amount, sign: int, ports: int) -> NodeView:
    gpus = amount.gpus
    return replace(
        node,
        free_cpu_milli=node.free_cpu_milli - sign * amount.cpu_milli,
        free_memory_bytes=node.free_memory_bytes - sign * amount.memory_bytes,
        free_shm_bytes=node.free_shm_bytes - sign * amount.shm_bytes,
        free_ports=node.free_ports - ports,
        gpus=tuple(
            [
                replace(view, free_milli=view.free_milli - sign * gpus[view.gpu.uuid])
                if view.gpu.uuid in gpus
                else view
                for view in node.gpus
            ]
        )
        if gpus
        else node.gpus,
    )


def as_running(
    gang: GangRequest, members: Sequence[MemberPlacement], start_time: float
) -> RunningGang:
    """A gang that started there and then."""
    return RunningGang(
        gang.experiment_id,
        gang.user_name,
        gang.queue,
        gang.priority,
        start_time,
        gang.max_duration_seconds,
        tuple(members),
        grace_period_seconds=gang.grace_period_seconds,
    )
