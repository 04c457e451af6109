"""The `kubernetes` launcher: makes what runs in the cluster what should run, and tells what does.

Effects and watches only say that there is something to look at. Each experiment is then looked at
by one worker at a time, who compares what is wanted (`wanted.py`) with the pods that there are and
takes the next steps (`keeper.py`): tell, delete, create, bind. So a lost effect, a crash or an API
server that restarts needs nothing of its own: the next look finds what is left to do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from controlplane.domain.effects import (
    EndSession,
    ForgetAttempt,
    SessionOpened,
    StartAttempt,
    StopAttempt,
)
from controlplane.domain.model import AttemptReport
from controlplane.launch.kubernetes.api import Api, ApiError, Kind
from controlplane.launch.kubernetes.cluster_view import ClusterView
from controlplane.launch.kubernetes.creation import PodCreator
from controlplane.launch.kubernetes.keeper import PodKeeper
from controlplane.launch.kubernetes.log_shipping import LogShipping
from controlplane.launch.kubernetes.names import CLUSTER_LABEL, EXPERIMENT
from controlplane.launch.kubernetes.node_logs import NodeLogs
from controlplane.launch.kubernetes.node_sessions import NodeSessions
from controlplane.launch.kubernetes.observers import Observers
from controlplane.launch.kubernetes.ports import Facts, Leases, LogSink, Reactor
from controlplane.launch.kubernetes.reflector import Added, Change, Changed, Deleted
from controlplane.launch.kubernetes.removal import PodRemover
from controlplane.launch.kubernetes.reporting import Reporter
from controlplane.launch.kubernetes.settings import KubernetesSettings
from controlplane.launch.kubernetes.wanted import Wanted, WantedAttempts
from controlplane.launch.kubernetes.work_queue import WorkQueue
from controlplane.launch.protocol import LaunchEffect

_log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the launcher works with."""

    api: Api
    reactor: Reactor
    facts: Facts
    sink: LogSink
    leases: Leases
    ca_pem: str
    """Of the control plane's certificate; "" where it is served in the clear."""
    lease_seconds: float


class KubernetesLauncher:
    """Implements `Launcher`. `serve` does the work; what is dispatched before waits for it."""

    name = "kubernetes"

    def __init__(
        self,
        settings: KubernetesSettings,
        cluster_id: str,
        observers: Observers,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._cluster_id = cluster_id
        self._observers = observers
        observers.on_said = self._look_soon
        self._clock = clock
        self._monotonic = monotonic
        self._wanted = WantedAttempts()
        self._experiments = WorkQueue(self._look_at_experiment)
        self._nodes = WorkQueue(self._look_at_node, workers=4)
        self._serving: _Serving | None = None

    # ---------------------------------------------------------------------------- Launcher
    def dispatch(self, effect: LaunchEffect) -> None:
        match effect:
            case StartAttempt():
                self._touch(self._wanted.start(effect.node_name, effect.order))
            case StopAttempt():
                self._touch(self._wanted.stop(effect))
            case ForgetAttempt():
                self._touch(self._wanted.forget(effect.attempt_id))
            case EndSession():
                if self._serving is not None:
                    self._serving.sessions.ended(effect.node_name, effect.epoch)
                    self._nodes.add(effect.node_name)

    def resync(self) -> None:
        if self._serving is not None:
            self._serving.reporter.lose_memory()
            for node_name in self._serving.sessions.reopen():
                self._nodes.add(node_name)

    def _touch(self, wanted: Wanted | None) -> None:
        if wanted is not None:
            self._experiments.add(wanted.experiment_id)

    # ------------------------------------------------------------------------------- serve
    async def serve(self, around: Surroundings) -> None:
        """Works until cancelled. Everything that bears our label is taken over first."""
        serving = self._serving = self._put_together(around)
        try:
            async with asyncio.TaskGroup() as group:
                for reflector in serving.view.reflectors():
                    group.create_task(reflector.run())
                # No session before all pods are known: what is not among them is gone.
                await serving.view.until_synced()
                group.create_task(self._experiments.run())
                group.create_task(self._nodes.run())
                group.create_task(self._look_at_all_nodes(serving))
                group.create_task(self._sweep(serving))
        finally:
            self._serving = None
            await serving.shipping.close()

    def _put_together(self, around: Surroundings) -> _Serving:
        settings, api = self._settings, around.api
        view = ClusterView(
            api, settings, self._cluster_id, on_pod=self._pod_changed, on_node=self._nodes.add
        )
        reporter = Reporter(around.reactor)
        source = NodeLogs(self._observers, api)
        shipping = LogShipping(source, around.sink, around.facts.secret_values, self._log_changed)
        sessions = NodeSessions(
            settings,
            around.reactor,
            around.facts,
            around.leases,
            self._observers,
            reports_of=self._reports_of,
            opened=self._opened,
        )
        keeper = PodKeeper(
            api,
            settings.namespace,
            PodCreator(api, settings, self._cluster_id, around.ca_pem, around.facts),
            PodRemover(api, settings.namespace, settings.force_delete_seconds),
            reporter,
            shipping,
            sessions,
            around.facts,
            clock=self._clock,
            monotonic=self._monotonic,
            again=self._experiments.add_after,
            close_node=self._close_node,
        )
        return _Serving(around, view, reporter, shipping, sessions, keeper)

    def _pod_changed(self, change: Change) -> None:
        serving = self._serving
        if serving is None or not isinstance(change, Added | Changed | Deleted):
            return
        reading = serving.keeper.seen(change.object, gone=isinstance(change, Deleted))
        if reading is not None:
            node_name = reading.node_name or reading.planned_node
            self._touch(self._wanted.found(reading.attempt_id, reading.experiment_id, node_name))
            # How many pods it has counts as well.
            self._nodes.add(node_name)

    def _log_changed(self, attempt_id: str) -> None:
        self._touch(self._wanted.get(attempt_id))

    # ------------------------------------------------------------------------------- nodes
    async def _look_at_all_nodes(self, serving: _Serving) -> None:
        """Leases are renewed for as long as somebody looks."""
        while True:
            for node in serving.view.nodes.objects.values():
                self._nodes.add(node["metadata"]["name"])
            await asyncio.sleep(serving.around.lease_seconds / 5)

    def _look_soon(self, node_name: str) -> None:
        if self._serving is not None:
            self._nodes.add(node_name)

    async def _look_at_node(self, node_name: str) -> None:
        serving = self._serving
        if serving is None or not serving.view.nodes.connected:
            # Nobody knows how the nodes are: their leases run on.
            return
        node = serving.view.node(node_name)
        now = self._monotonic()
        self._observers.pods(node_name, serving.view.attempts_on(node_name))
        await serving.sessions.look(node_name, node, serving.view.pods_on(node_name), now)
        closed = serving.sessions.closed_for(node_name, self._monotonic())
        if closed:
            self._nodes.add_after(node_name, closed)

    async def _close_node(self, node_name: str, why: str) -> None:
        assert self._serving is not None
        self._serving.sessions.refused(node_name, why, self._monotonic())
        await self._look_at_node(node_name)

    async def _reports_of(self, node_name: str) -> tuple[AttemptReport, ...]:
        assert self._serving is not None
        self._wanted.doubt(node_name)
        return await self._serving.keeper.reports_of(node_name)

    def _opened(self, node_name: str, reply: SessionOpened) -> None:
        for wanted in self._wanted.opened(node_name, reply):
            self._touch(wanted)

    # ------------------------------------------------------------------------- experiments
    async def _look_at_experiment(self, experiment_id: str) -> None:
        serving = self._serving
        if serving is None:
            return
        for wanted in self._wanted.of_experiment(experiment_id):
            await serving.keeper.look_at(wanted)
        await serving.keeper.start(self._wanted.of_experiment(experiment_id))
        for wanted in self._wanted.of_experiment(experiment_id):
            if serving.keeper.is_done_with(wanted):
                serving.keeper.drop(wanted)
                self._wanted.drop(wanted.attempt_id)
        if not self._wanted.of_experiment(experiment_id):
            if serving.around.facts.experiment_over(experiment_id):
                await serving.keeper.remove_owner(experiment_id)

    async def _sweep(self, serving: _Serving) -> None:
        """Finds what is left of experiments that ended when nothing of them ran."""
        while True:
            try:
                page = await serving.around.api.list_page(
                    Kind.CONFIG_MAP,
                    namespace=self._settings.namespace,
                    label_selector=f"{CLUSTER_LABEL}={self._cluster_id}",
                )
            except ApiError as error:
                _log.info("left-over objects are not looked for now: %s", error)
            else:
                for owner in page.items:
                    annotations = owner["metadata"].get("annotations") or {}
                    if annotations.get(EXPERIMENT):
                        self._experiments.add(annotations[EXPERIMENT])
            await asyncio.sleep(SWEEP_SECONDS)


@dataclass(frozen=True, slots=True)
class _Serving:
    """The parts, while there is an API to work with."""

    around: Surroundings
    view: ClusterView
    reporter: Reporter
    shipping: LogShipping
    sessions: NodeSessions
    keeper: PodKeeper
