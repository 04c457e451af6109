"""Steadiness: for many events in any order, what must hold of a cluster holds.

Nodes are lost, telemetry flaps, GPUs fail and come back, queues come, go and change their quotas,
operators drain and cordon, users submit and kill; then the trouble stops, and everything has to
come to its end. All of it is decided by the real scheduler and applied by the real reactor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from controlplane.core.invariants import InvariantViolated
from controlplane.core.settings import Settings
from controlplane.domain.effects import PlanApplied
from controlplane.domain.errors import DomainError
from controlplane.domain.events import (
    Event,
    ExperimentSubmitted,
    KillRequested,
    NodeCordoned,
    NodeDrained,
    NodeTainted,
    PlanMade,
    QueueCreated,
    QueueDeleted,
    QueueUpdated,
)
from controlplane.domain.model import PlacementStyle, QueueSettings
from controlplane.domain.plan import Plan
from controlplane.domain.snapshot import Snapshot
from controlplane.scheduler.cycle import Scheduler, schedule
from controlplane.scheduler.policy import Policy
from controlplane.simulation.cluster import VirtualCluster
from controlplane.simulation.progress import Report, unheard
from controlplane.simulation.traces import TraceNode, TraceTask
from controlplane.simulation.troubled import Machine, TroubledMachines, Untrue
from controlplane.simulation.workload import could_hold
from riseml.spec.model import (
    CPU,
    GIB,
    GPU,
    ParameterValues,
    Resources,
    RetryPolicy,
    RoleSpec,
    TrainSpec,
)

USERS: Final = ("ana", "bo", "cy")
QUEUES: Final = ("default", "nlp", "vision", "spare")
MODELS: Final = ("H100", "A100", "T4")
LETTERS: Final = tuple("abcdef")
# Experiments that wait or run, for each machine.
LIVE_PER_NODE: Final = 6
# Events between two looks at everything.
CHECK_EVERY: Final = 250
# Virtual time after the trouble, in which everything has to end.
PEACE_SECONDS: Final = 14 * 86_400.0
SETTINGS: Final = Settings(contact_timeout_seconds=15.0, probation_seconds=60.0)


@dataclass(slots=True)
class Findings:
    """What came of it. `broken` is what did not hold; "" if all did."""

    seed: int
    events: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    checks: int = 0
    cycles: int = 0
    started: int = 0
    evicted: int = 0
    ended: int = 0
    virtual_seconds: float = 0.0
    broken: str = ""

    def values(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def text(self) -> str:
        days = self.virtual_seconds / 86_400.0
        what = f"BROKEN: {self.broken}" if self.broken else "all invariants held"
        return (
            f"{self.events} events in {days:.1f} virtual days (seed {self.seed}): "
            f"{self.started} starts, {self.evicted} preemptions, {self.cycles} cycles, "
            f"{self.checks} times everything checked; {what}"
        )


def shake(
    events: int, seed: int, *, policy: Policy, node_count: int = 24, report: Report = unheard
) -> Findings:
    """Sends so many events, then lets everything end."""
    shaker = _Shaker(seed, policy, node_count)
    try:
        shaker.run(events, report)
    except (InvariantViolated, Untrue) as fault:
        shaker.findings.broken = f"after event {shaker.findings.events}: {fault}"
    return shaker.result()


class _Shaker:
    def __init__(self, seed: int, policy: Policy, node_count: int) -> None:
        self.findings = Findings(seed)
        self._random = Random(f"trouble {seed}")
        self._policy = policy
        self._scheduler = Scheduler(policy)
        self._cluster = VirtualCluster(self._schedule, SETTINGS)
        self._machines = TroubledMachines(
            self._cluster, self._some_nodes(node_count), Random(f"machines {seed}")
        )
        self._cluster.nodes = self._machines
        self._cluster.observers.append(self._observe)
        self._next_check = CHECK_EVERY

    def run(self, events: int, report: Report) -> None:
        cluster, findings = self._cluster, self.findings
        for name in USERS:
            cluster.add_user(name, admin=True)
        for machine in self._machines.machines.values():
            self._machines.connect(machine)
        cluster.tick()
        while findings.events < events:
            report(findings.events / events)
            self._act()
            cluster.run(cluster.now + self._random.expovariate(1 / 4.0))
        self._end_trouble()
        limit = cluster.now + PEACE_SECONDS
        cluster.run(limit, lambda: not cluster.cluster.experiments)
        self._check()
        self._check_all_ended()

    def result(self) -> Findings:
        self.findings.virtual_seconds = self._cluster.now
        self.findings.cycles = self._cluster.effort.cycles
        return self.findings

    # ------------------------------------------------------------------------------ what holds

    def _schedule(self, snapshot: Snapshot, now: float) -> Plan:
        plan = self._scheduler.schedule(snapshot, now)
        if self.findings.events >= self._next_check:
            self._next_check = self.findings.events + CHECK_EVERY
            if plan != schedule(snapshot, now, self._policy):
                raise Untrue("a scheduler that saw earlier cycles plans otherwise than a new one")
        return plan

    def _observe(self, event: Event, reply: Any) -> None:
        findings = self.findings
        findings.events += 1
        kind = type(event).__name__
        findings.by_kind[kind] = findings.by_kind.get(kind, 0) + 1
        if isinstance(event, PlanMade):
            assert isinstance(reply, PlanApplied)
            findings.started += len(reply.started)
            findings.evicted += len(reply.evicted)
            self._check_plan(event.plan, reply)
        if findings.events % CHECK_EVERY == 0:
            self._check()

    def _check_plan(self, plan: Plan, applied: PlanApplied) -> None:
        if applied.rejected:
            first = applied.rejected[0]
            raise Untrue(f"a plan for the present was rejected: {first}")
        specs = [self._cluster.cluster.experiments[name].spec for name in applied.started]
        # What asks for no GPU may start in a queue whose limit was lowered.
        queues = {
            spec.queue for spec in specs if any(role.resources.gpu_milli for role in spec.roles)
        }
        if not queues:
            return
        for view in self._cluster.cluster.snapshot().queues:
            limit = view.queue.limit_gpu_milli
            if view.queue.name in queues and limit is not None and view.held.gpu_milli > limit:
                raise Untrue(
                    f"queue {view.queue.name} was given {view.held.gpu_milli} of at most {limit} "
                    "thousandths of GPUs"
                )

    def _check(self) -> None:
        self.findings.checks += 1
        self._cluster.cluster.check_invariants()

    def _check_all_ended(self) -> None:
        cluster = self._cluster.cluster
        if cluster.experiments:
            left = ", ".join(f"{e.id} {e.state.value}" for e in cluster.experiments.values())
            raise Untrue(f"these do not come to their end: {left}")
        busy = self._machines.busy()
        if busy:
            raise Untrue(f"these run although nobody wants them: {', '.join(busy)}")
        for name in cluster.nodes:
            if cluster.usage_of(name).cpu_milli:
                raise Untrue(f"{name} holds something for nobody")

    # --------------------------------------------------------------------------- what happens

    def _some_nodes(self, count: int) -> list[TraceNode]:
        nodes = []
        for number in range(count):
            gpus = self._random.choice((0, 1, 2, 4, 8, 8))
            cpu, memory = (8 + 8 * gpus) * CPU, (32 + 64 * gpus) * GIB
            model = self._random.choice(MODELS)
            nodes.append(TraceNode(f"node-{number:03}", cpu, memory, gpus, model))
        return nodes

    def _act(self) -> None:
        acts: tuple[tuple[float, Callable[[], None]], ...] = (
            (10.0, self._submit),
            (1.0, self._kill),
            (1.0, lambda: self._machines.cut(self._machine())),
            (2.0, lambda: self._machines.connect(self._machine())),
            (0.5, lambda: self._machines.restart(self._machine())),
            (0.2, lambda: self._machines.reboot(self._machine())),
            (0.1, lambda: self._machines.burn(self._machine())),
            (2.0, lambda: self._machines.flap(self._machine(), True)),
            (2.0, lambda: self._machines.flap(self._machine(), False)),
            (0.7, self._change_gpus),
            (1.0, self._change_queue),
            (0.3, self._cordon),
            (0.2, self._taint),
        )
        weights = [weight for weight, _ in acts]
        (act,) = self._random.choices([act for _, act in acts], weights)
        try:
            act()
        except DomainError:
            self.findings.refused += 1

    def _machine(self) -> Machine:
        return self._random.choice(list(self._machines.machines.values()))

    def _submit(self) -> None:
        live = self._cluster.cluster.experiments
        if len(live) >= LIVE_PER_NODE * len(self._machines.machines):
            return
        spec = self._spec()
        given: tuple[tuple[tuple[str, str], ...], ...] = ((),)
        if spec.is_set:
            given = tuple((("letter", letter),) for letter in LETTERS)
        user = self._random.choice(USERS)
        self._cluster.send(ExperimentSubmitted(user, "", spec, assignments=given))

    def _spec(self) -> TrainSpec:
        random = self._random
        choose = random.choice
        gpu_milli = choose((0, 250, 500, 1000, 1000, 2000, 4000, 8000))
        resources = Resources(
            cpu_milli=choose((0, 500, 1000, 4000)),
            memory_bytes=choose((1, 4, 16)) * GIB,
            gpu_milli=gpu_milli,
            gpu_model=choose((None, None, None, "H100", "H100|A100")) if gpu_milli else None,
        )
        spec = TrainSpec(
            project="trouble",
            run=("true",),
            roles=(RoleSpec("train", 1, resources),),
            priority=choose((30, 50, 50, 80)),
            queue=choose(tuple(self._queue_names())),
            max_duration_seconds=choose((None, 120, 600, 3600, 3600)),
            grace_period_seconds=choose((5, 30)),
            retry=choose(
                (RetryPolicy(), RetryPolicy(("error",), 2), RetryPolicy(("node_lost",), 1))
            ),
            tolerations=choose(((), (), (("team", ""),))),
        )
        match choose(("one", "one", "one", "gang", "gang", "set", "build")):
            case "gang":
                members = choose((2, 3, 4, 8))
                role = RoleSpec("worker", members, resources)
                return replace(spec, roles=(role,), framework="pytorch")
            case "set":
                letters = ParameterValues("letter", LETTERS)
                return replace(spec, parameters=(letters,), run=("echo {{letter}}",), concurrency=3)
            case "build":
                return replace(spec, install=("pip install x",))
            case _:
                return spec

    def _kill(self) -> None:
        live = [e.id for e in self._cluster.cluster.experiments.values() if not e.state.ended]
        if live:
            force = self._random.random() < 0.3
            self._cluster.send(KillRequested(self._random.choice(live), force))

    def _queue_names(self) -> list[str]:
        return self._cluster.cluster.queue_names()

    def _change_queue(self) -> None:
        random = self._random
        name = random.choice(QUEUES)
        quota = QueueSettings(
            weight=random.choice((1, 2, 5)),
            guaranteed_gpu_milli=GPU * random.choice((0, 0, 4, 16)),
            limit_gpu_milli=GPU * random.choice((-1, -1, 8, 24, 60)),
            placement=random.choice(tuple(PlacementStyle)),
            preempts_lower_priority=random.random() < 0.7,
            default_max_duration_seconds=random.choice((0, 0, 900)),
        )
        if name not in self._queue_names():
            self._cluster.send(QueueCreated(name, quota))
        elif name != "default" and random.random() < 0.2:
            self._cluster.send(QueueDeleted(name))
        else:
            self._cluster.send(QueueUpdated(name, quota))

    def _change_gpus(self) -> None:
        machine = self._machine()
        count = machine.trace.gpu_count
        if count:
            some = set(self._random.sample(range(count), self._random.randint(0, min(2, count))))
            other = {self._random.randrange(count)} if self._random.random() < 0.2 else set()
            self._machines.set_gpus(machine, some, other)

    def _cordon(self) -> None:
        name = self._machine().trace.name
        if self._random.random() < 0.3:
            self._cluster.send(NodeDrained(name))
        else:
            self._cluster.send(NodeCordoned(name, self._random.random() < 0.3))

    def _taint(self) -> None:
        taints = self._random.choice(((), (("team", "nlp"),)))
        self._cluster.send(NodeTainted(self._machine().trace.name, taints))

    # ----------------------------------------------------------------------------------- peace

    def _end_trouble(self) -> None:
        """Everything is well again, and everybody may run."""
        cluster = self._cluster
        for machine in self._machines.machines.values():
            self._machines.connect(machine)
            self._machines.flap(machine, False)
            self._machines.set_gpus(machine, set(), set())
            cluster.send(NodeCordoned(machine.trace.name, False))
            cluster.send(NodeTainted(machine.trace.name, ()))
        for name in self._queue_names():
            cluster.send(QueueUpdated(name, QueueSettings(limit_gpu_milli=-1)))
        # What the machines could never hold would wait for ever.
        nodes = [machine.trace for machine in self._machines.machines.values()]
        for experiment in list(cluster.cluster.experiments.values()):
            (role,) = experiment.spec.roles
            alone = experiment.set_id is None and not experiment.state.ended
            if alone and not could_hold(nodes, TraceTask(role.resources, role.count)):
                cluster.send(KillRequested(experiment.id))
