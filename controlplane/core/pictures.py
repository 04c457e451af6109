"""Snapshots of a cluster, made from parts that are kept until what they show has changed.

A change costs a word here; the next snapshot makes anew just the nodes and experiments that differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controlplane.core.running import Running
from controlplane.core.views import gang_request, node_view, running_gang
from controlplane.core.waiting import WaitingLines
from controlplane.domain.model import Queue
from controlplane.domain.snapshot import NodeView, Snapshot
from controlplane.domain.states import State

if TYPE_CHECKING:
    from controlplane.core.cluster import Cluster


class Pictures:
    """Numbers snapshots from `first_version` on."""

    def __init__(self, first_version: int = 0) -> None:
        # Of the newest snapshot.
        self.version = first_version
        self._snapshot: Snapshot | None = None
        self._changed_nodes: dict[str, None] = {}
        self._changed_experiments: dict[str, None] = {}
        self._queues_changed = True
        self._queues: list[Queue] = []
        self._nodes: dict[str, NodeView] = {}
        self._pending = WaitingLines()
        self._running = Running()
        # Whom an experiment was stopped for, until it starts again.
        self._made_room: dict[str, str] = {}

    def node_changed(self, name: str) -> None:
        """The node, or what it holds, is another now."""
        self._changed_nodes[name] = None

    def queues_changed(self) -> None:
        """A queue came, went, or is another now."""
        self._queues_changed = True

    def experiment_changed(self, experiment_id: str) -> None:
        """Whether it waits or runs, or what it holds, is another now."""
        self._changed_experiments[experiment_id] = None

    def outputs_moved(self, cluster: Cluster) -> None:
        """The nodes where outputs lie came or went: those who wait for them are to know."""
        for experiment_id in self._pending:
            experiment = cluster.experiments.get(experiment_id)
            if experiment is not None and experiment.generation:
                self._changed_experiments[experiment_id] = None

    def is_current(self, version: int) -> bool:
        """Whether nothing has changed since the snapshot of this version."""
        changed = self._changed_nodes or self._changed_experiments or self._queues_changed
        return version == self.version and not changed

    def snapshot(self, cluster: Cluster) -> Snapshot:
        """The cluster as it is: the same object as long as nothing changed."""
        old = self._snapshot
        if old is not None and self.is_current(old.version):
            return old
        nodes = old.nodes if old is not None else ()
        if self._changed_nodes:
            self._refresh_nodes(cluster)
            nodes = tuple(self._nodes.values())
        for experiment_id in self._changed_experiments:
            self._refresh_experiment(cluster, experiment_id)
        self._changed_nodes.clear()
        self._changed_experiments.clear()
        if self._queues_changed:
            self._queues = cluster.all_queues()
            self._queues_changed = False
        self.version += 1
        self._snapshot = Snapshot(
            self.version,
            nodes,
            self._pending.queue(),
            self._running.all(),
            queues=tuple([cluster.use.queue_view(queue) for queue in self._queues]),
            users=cluster.use.user_views(),
            mix=cluster.mix.shown(),
            durations=cluster.durations.shown(),
            preemptors=self._preemptors(),
            reserved=tuple([one for one in cluster.waiting.reserved if one in self._pending]),
            made_room=tuple(sorted(self._made_room.items())),
        )
        return self._snapshot

    def _preemptors(self) -> tuple[str, ...]:
        if not self._made_room:
            return ()
        return tuple(sorted({one for one in self._made_room.values() if one in self._pending}))

    def _refresh_nodes(self, cluster: Cluster) -> None:
        joined = False
        for name in self._changed_nodes:
            node = cluster.nodes.get(name)
            if node is None:
                self._nodes.pop(name, None)
            else:
                joined = joined or name not in self._nodes
                self._nodes[name] = node_view(node, cluster.usage_of(name))
        if joined:
            # By name, whoever came first: equal clusters give equal snapshots.
            self._nodes = dict(sorted(self._nodes.items()))

    def _refresh_experiment(self, cluster: Cluster, experiment_id: str) -> None:
        self._show_experiment(cluster, experiment_id)
        self._made_room.pop(experiment_id, None)
        for attempt in cluster.attempts_of(experiment_id):
            if attempt.stopped_for:
                self._made_room[experiment_id] = attempt.stopped_for

    def _show_experiment(self, cluster: Cluster, experiment_id: str) -> None:
        experiment = cluster.experiments.get(experiment_id)
        if experiment is not None and not experiment.is_set and not experiment.state.ended:
            if experiment.state is State.PENDING:
                self._running.drop(experiment_id)
                gang = [job for job in cluster.jobs_of(experiment_id) if job.rank >= 0]
                pinned = cluster.pinned_nodes(experiment) if experiment.generation else ()
                self._pending.put(gang_request(experiment, gang, pinned))
                return
            live = [a for a in cluster.attempts_of(experiment_id) if not a.state.ended]
            live = [a for a in live if cluster.jobs[a.job_id].rank >= 0]
            if live:
                self._pending.drop(experiment_id)
                self._running.put(running_gang(experiment, live, cluster.checkpoints))
                return
        self._pending.drop(experiment_id)
        self._running.drop(experiment_id)
