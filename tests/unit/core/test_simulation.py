"""Honest nodes under a dishonest network: no job ever runs twice at once, and all of them end.

The nodes here do what a daemon does: they run what they are ordered, remember ends until told to
forget them, say what they run when they connect, and stop what is not desired. Orders and reports
get lost with sessions, come late and come twice; nodes are cut off, restarted, rebooted, destroyed;
the control plane is restarted. In the end the trouble stops and everything has to come to its end.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from controlplane.core.settings import Settings
from controlplane.domain.effects import ForgetAttempt, StartAttempt, StopAttempt
from controlplane.domain.events import (
    AttemptReported,
    ControlPlaneStarted,
    Event,
    KillRequested,
    NodeCordoned,
    NodeDisconnected,
    NodeDrained,
    NodeForgotten,
    NodeLeaseExpired,
    PlanMade,
    TimePassed,
)
from controlplane.domain.model import AttemptOrder, AttemptReport
from controlplane.domain.plan import Eviction, Plan
from controlplane.domain.states import AttemptState
from riseml.spec.model import GIB, ParameterValues, Resources, RetryPolicy, TrainSpec
from tests.unit.core.world import World, gang, gpu, naive_plan, spec

LEASE = 30.0
SETTINGS = Settings(contact_timeout_seconds=15, lost_margin_seconds=10)
GPU = Resources(cpu_milli=1000, memory_bytes=GIB, gpu_milli=1000)
HALF = Resources(cpu_milli=500, memory_bytes=GIB, gpu_milli=500)
WORDS = tuple("abcde")
RETRY = RetryPolicy(("error", "interruption"), 2)

SPECS: tuple[TrainSpec, ...] = (
    spec(),
    spec(roles=gang(("train", 1), resources=GPU), retry=RETRY),
    spec(roles=gang(("train", 1), resources=HALF)),
    spec(install=("pip install x",), max_duration_seconds=40),
    spec(roles=gang(("worker", 3)), framework="jax", retry=RETRY, install=("pip install x",)),
    spec(roles=gang(("ps", 1), ("worker", 2), ("master", 1)), framework="tensorflow"),
    spec(retry=RetryPolicy(("node_lost",), 0), grace_period_seconds=5),
    spec(parameters=(ParameterValues("word", WORDS),), run=("echo {{word}}",), concurrency=2),
)


@dataclass
class Process:
    """An attempt as its node has it."""

    order: AttemptOrder
    state: AttemptState
    end: AttemptReport | None = None


@dataclass
class SimulatedNode:
    """Runs processes. `away_since` is set while it has no session."""

    name: str
    boot: int = 1
    epoch: int = 1
    away_since: float | None = 0.0
    processes: dict[str, Process] = field(default_factory=dict)
    # On their way to the control plane.
    outbox: list[AttemptReport] = field(default_factory=list)

    def running(self) -> list[Process]:
        return [p for p in self.processes.values() if p.end is None]

    def start(self, order: AttemptOrder) -> None:
        if order.attempt_id not in self.processes:
            self.processes[order.attempt_id] = Process(order, AttemptState.ASSIGNED)

    def end(self, process: Process, **fields: Any) -> None:
        attempt_id = process.order.attempt_id
        process.end = AttemptReport(attempt_id, AttemptState.EXITED, **fields)
        self.outbox.append(process.end)

    def move(self, process: Process, state: AttemptState, now: float) -> None:
        process.state = state
        started = now if state is AttemptState.RUNNING else None
        report = AttemptReport(process.order.attempt_id, state, start_time=started)
        self.outbox.append(report)

    def stop(self, attempt_id: str) -> None:
        process = self.processes.get(attempt_id)
        if process is None:
            self.outbox.append(AttemptReport(attempt_id, AttemptState.LOST))
        elif process.end is None:
            self.end(process, exit_signal=15)

    def reports(self) -> list[AttemptReport]:
        return [
            p.end if p.end is not None else AttemptReport(p.order.attempt_id, p.state)
            for p in self.processes.values()
        ]


class Simulation:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(SETTINGS)
        self.nodes = {name: SimulatedNode(name) for name in ("n1", "n2", "n3")}
        self.destroyed = 0
        self.steps = 0

    # ------------------------------------------------------------------ between world and nodes

    def send(self, event: Event) -> None:
        self.world.send(event)
        for effect in self.world.effects:
            node = self.nodes.get(getattr(effect, "node_name", ""))
            if node is None or node.away_since is not None:
                continue
            match effect:
                case StartAttempt():
                    node.start(effect.order)
                case StopAttempt():
                    node.stop(effect.attempt_id)
                case ForgetAttempt():
                    node.processes.pop(effect.attempt_id, None)
        self.check()

    def check(self) -> None:
        """The truth on the machines: no job has two processes."""
        owners: dict[str, str] = {}
        for node in self.nodes.values():
            for process in node.running():
                job_id, attempt_id = process.order.job_id, process.order.attempt_id
                assert job_id not in owners, f"{attempt_id} runs beside {owners[job_id]}"
                owners[job_id] = attempt_id

    def connect(self, node: SimulatedNode) -> None:
        node.outbox.clear()
        node.away_since = None
        opened = self.world.connect(
            node.name,
            node.epoch,
            node.reports(),
            boot_id=f"boot{node.boot}",
            gpus=(gpu(f"{node.name}-0"), gpu(f"{node.name}-1", 1)),
        )
        desired = {order.attempt_id for order in opened.desired}
        for attempt_id in opened.forget:
            node.processes.pop(attempt_id, None)
        for process in node.running():
            if process.order.attempt_id not in desired:
                node.end(process, exit_signal=15)
        for order in opened.desired:
            node.start(order)
        for stop in opened.stopping:
            node.stop(stop.attempt_id)
        self.check()

    def cut(self, node: SimulatedNode) -> None:
        if node.away_since is None:
            node.away_since = self.world.now
            node.outbox.clear()
            self.send(NodeDisconnected(node.name, node.epoch))

    def cut_off_for_long(self, node: SimulatedNode) -> None:
        """Long enough for its lease, and for what opted into `node_lost` to start elsewhere."""
        self.cut(node)
        for seconds in (LEASE, 5.0, 10.0):
            self.pass_time(seconds)
            self.plan()

    def deliver(self, node: SimulatedNode, twice: bool = False) -> None:
        if node.away_since is None and node.outbox:
            report = node.outbox[0] if twice else node.outbox.pop(0)
            self.send(AttemptReported(node.name, report))

    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        now = self.world.now
        for node in self.nodes.values():
            if node.away_since is None:
                continue
            silent = now - node.away_since
            for process in node.running():
                timeout = process.order.contact_timeout_seconds
                if timeout and silent >= timeout:
                    node.end(process, exit_signal=9, reason="NO_CONTACT")
            if silent >= LEASE and node.name in self.world.cluster.nodes:
                self.send(NodeLeaseExpired(node.name))
        self.send(TimePassed())

    # --------------------------------------------------------------------------------- one step

    def step(self, trouble: bool) -> None:
        self.steps += 1
        node = self.random.choice(list(self.nodes.values()))
        things: list[tuple[float, Callable[[SimulatedNode], None]]] = [
            (12, self.work),
            (12, self.deliver),
            (3, lambda node: self.plan()),
            (2, lambda node: self.pass_time(self.random.choice((0.5, 3.0)))),
        ]
        if trouble:
            things += [
                (2, self.submit),
                (1, self.kill),
                (1, self.cut),
                (0.3, self.cut_off_for_long),
                (1, self.restart),
                (0.3, self.reboot),
                (0.1, self.destroy),
                (0.3, lambda node: self.pass_time(LEASE)),
                (0.5, lambda node: self.deliver(node, twice=True)),
                (0.4, self.evict),
                (0.3, self.drain),
                (0.3, lambda node: self.restart_control_plane()),
            ]
        weights = [weight for weight, _ in things]
        (thing,) = self.random.choices([act for _, act in things], weights)
        thing(node)
        if node.away_since is not None and self.random.random() < (0.3 if trouble else 1):
            self.connect(node)

    def submit(self, node: SimulatedNode) -> None:
        if sum(not e.state.ended for e in self.world.cluster.experiments.values()) < 30:
            which = self.random.choice(SPECS)
            given = [(("word", word),) for word in WORDS] if which.is_set else [()]
            self.world.submit(which, *given)

    def kill(self, node: SimulatedNode) -> None:
        live = [e.id for e in self.world.cluster.experiments.values() if not e.state.ended]
        if live:
            chosen = self.random.choice(live)
            self.send(KillRequested(chosen, self.random.random() < 0.3))

    def plan(self) -> None:
        self.send(PlanMade(naive_plan(self.world.cluster.snapshot())))
        for experiment_id, experiment in list(self.world.cluster.experiments.items()):
            if experiment.state.ended:
                self.world.cluster.evict(experiment_id)

    def evict(self, node: SimulatedNode) -> None:
        snapshot = self.world.cluster.snapshot()
        waiting = list(snapshot.pending)
        if snapshot.running and waiting:
            victim = self.random.choice(snapshot.running).experiment_id
            preemptor = self.random.choice(waiting).experiment_id
            self.send(PlanMade(Plan(0, evictions=(Eviction(victim, preemptor, "priority"),))))

    def drain(self, node: SimulatedNode) -> None:
        if node.name in self.world.cluster.nodes:
            self.send(NodeDrained(node.name))
            self.send(NodeCordoned(node.name, False))

    def work(self, node: SimulatedNode) -> None:
        """One of its processes comes a step further."""
        running = node.running()
        if not running:
            return
        process, now = self.random.choice(running), self.world.now
        if process.state is AttemptState.ASSIGNED:
            node.move(process, AttemptState.PREPARING, now)
            if process.order.build_attempt_id:
                build = AttemptReport(process.order.build_attempt_id, AttemptState.RUNNING)
                node.outbox.append(build)
        elif process.state is AttemptState.PREPARING and self.random.random() < 0.05:
            node.end(process, reason="CODE_FETCH_FAILED")
        elif process.state is AttemptState.PREPARING:
            if process.order.build_attempt_id:
                build_id = process.order.build_attempt_id
                node.outbox.append(AttemptReport(build_id, AttemptState.EXITED, exit_code=0))
            node.move(process, AttemptState.RUNNING, now)
        else:
            code = self.random.choices((0, 1), (9, 1))[0]
            node.end(process, exit_code=code, start_time=now, end_time=now)

    def restart(self, node: SimulatedNode) -> None:
        """Of the daemon: its processes go on."""
        self.cut(node)
        node.epoch += 1

    def reboot(self, node: SimulatedNode) -> None:
        """Nothing survives; some ends were written down before."""
        self.cut(node)
        node.epoch += 1
        node.boot += 1
        node.processes = {i: p for i, p in node.processes.items() if p.end is not None}

    def destroy(self, node: SimulatedNode) -> None:
        """The machine burns, and an admin says so; a new one gets its name."""
        self.cut(node)
        self.destroyed += 1
        node.processes.clear()
        node.epoch += 1
        node.boot += 1
        if node.name in self.world.cluster.nodes:
            self.send(NodeForgotten(node.name))

    def restart_control_plane(self) -> None:
        for node in self.nodes.values():
            if node.away_since is None:
                node.away_since = self.world.now
                node.outbox.clear()
        self.world.cluster = self.world.reload()
        self.send(ControlPlaneStarted())


@pytest.mark.parametrize("seed", range(12))
def test_nothing_runs_twice_and_everything_ends(seed: int) -> None:
    simulation = Simulation(seed)
    for _ in range(700):
        simulation.step(trouble=True)
    limit = simulation.steps + 6000
    while any(not e.state.ended for e in simulation.world.cluster.experiments.values()):
        simulation.step(trouble=False)
        assert simulation.steps < limit, "it does not come to an end"
    for node in simulation.nodes.values():
        while node.outbox:
            simulation.deliver(node)
        assert not node.running(), f"{node.name} runs what nobody wants (seed {seed})"
        assert not simulation.world.cluster.usage_of(node.name).cpu_milli
