"""Whatever happens, in any order: the invariants hold, and the store can give back the state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controlplane.core.cluster import Cluster
from controlplane.core.settings import Settings
from controlplane.core.usage import SAVE_SECONDS, Account, gang_gpu_milli
from controlplane.domain.effects import StartAttempt
from controlplane.domain.errors import FailedPrecondition
from controlplane.domain.events import (
    AttemptReported,
    CheckpointWritten,
    ControlPlaneStarted,
    Event,
    GpusIdle,
    NodeConnected,
    NodeCordoned,
    NodeDisconnected,
    NodeDrained,
    NodeForgotten,
    NodeInventoryChanged,
    NodeLeaseExpired,
    NodeTainted,
    NodeTelemetryLate,
    PlanMade,
    QueueCreated,
    QueueDeleted,
    QueueUpdated,
    TimePassed,
)
from controlplane.domain.model import (
    AttemptReport,
    NodeCapabilities,
    NodeInventory,
    QueueSettings,
)
from controlplane.domain.plan import Eviction, Plan
from controlplane.domain.states import AttemptState
from controlplane.scheduler.cycle import schedule
from riseml.spec.model import (
    GIB,
    ParameterValues,
    Resources,
    RetryPolicy,
    TrainSpec,
    UtilizationPolicy,
)
from tests.unit.core.world import World, gang, gpu, inventory, naive_plan, spec

NODES = ("n1", "n2", "n3")
HALF_GPU = Resources(cpu_milli=500, memory_bytes=GIB, gpu_milli=500)
WHOLE_GPU = Resources(cpu_milli=500, memory_bytes=GIB, gpu_milli=1000)
SHARING = Resources(cpu_milli=500, memory_bytes=2 * GIB, shm_bytes=2 * GIB)
BIG = Resources(cpu_milli=6000, memory_bytes=GIB)
LETTERS = ParameterValues("letter", ("a", "b", "c", "d"))

SPECS: tuple[TrainSpec, ...] = (
    spec(),
    spec(roles=gang(("train", 1), resources=HALF_GPU)),
    spec(roles=gang(("train", 1), resources=BIG), max_duration_seconds=20),
    spec(
        roles=gang(("train", 1), resources=WHOLE_GPU),
        utilization_policy=UtilizationPolicy(10, 60),
        retry=RetryPolicy(("error",), 1),
    ),
    spec(install=("pip install x",)),
    spec(roles=gang(("train", 1), resources=WHOLE_GPU), priority=80, max_duration_seconds=100),
    spec(roles=gang(("worker", 3), resources=WHOLE_GPU), max_duration_seconds=50),
    spec(roles=gang(("train", 1), resources=SHARING), tolerations=(("spot", ""),)),
    spec(roles=gang(("worker", 3)), framework="jax", install=("pip install x",)),
    spec(
        roles=gang(("ps", 1), ("worker", 2), ("master", 1)),
        framework="tensorflow",
        retry=RetryPolicy(("error",), 1),
    ),
    spec(retry=RetryPolicy(("error", "interruption", "node_lost"), 2)),
    spec(roles=gang(("worker", 2)), retry=RetryPolicy(("node_lost",), 1)),
    spec(parameters=(LETTERS,), run=("echo {{letter}}",), concurrency=2),
)

reports: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    state=st.sampled_from(list(AttemptState)),
    exit_code=st.sampled_from((None, 0, 0, 1)),
    exit_signal=st.sampled_from((0, 0, 0, 9, 11)),
    reason=st.sampled_from(("", "", "", "BUILD_FAILED", "NO_CONTACT")),
    start_time=st.sampled_from((None, 900.0, 1e9)),
    final_log_offset=st.sampled_from((-1, 7)),
)


def machine_inventory(name: str, boot: int, healthy: bool = True) -> NodeInventory:
    return inventory(
        name,
        f"boot{boot}",
        gpus=(gpu(f"{name}-gpu0"), gpu(f"{name}-gpu1", 1, health="HEALTHY" if healthy else "LOST")),
        capabilities=NodeCapabilities(
            output_root="local" if name == "n3" else "shared",
            whole_gpus=name == "n2",
            pod_network=name == "n2",
        ),
        shm_bytes=0 if name == "n2" else 3 * GIB,
    )


class AnyEvents(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World(Settings(contact_timeout_seconds=5, lost_margin_seconds=5))
        self.epochs = dict.fromkeys(NODES, 1)
        self.boots = dict.fromkeys(NODES, 1)
        self.submitted: list[str] = []
        self.ordered: set[str] = set()
        self.last_report: Event | None = None
        self.old_plan: Plan | None = None
        # Whether the scheduler was woken since it ran last.
        self.woken = True

    def send(self, event: Event) -> Any:
        reply = self.world.send(event)
        self.woken = self.woken or self.world.woke
        self.note_effects()
        return reply

    def note_effects(self) -> None:
        for effect in self.world.effects:
            if isinstance(effect, StartAttempt):
                assert effect.order.attempt_id not in self.ordered, "ordered twice"
                assert self.world.cluster.nodes[effect.node_name].state == "READY"
                self.ordered.add(effect.order.attempt_id)

    @initialize()
    def nodes_connect(self) -> None:
        for name in NODES[:2]:
            self.send(NodeConnected(machine_inventory(name, 1), 1))

    @rule(which=st.sampled_from(SPECS), queue=st.sampled_from(("default", "research")))
    def submit(self, which: TrainSpec, queue: str) -> None:
        if self.world.cluster.queue(queue) is not None:
            which = replace(which, queue=queue)
        assignments = [(("letter", v),) for v in "abcd"] if which.is_set else [()]
        self.submitted.append(self.world.submit(which, *assignments))
        self.woken = self.woken or self.world.woke

    @rule(
        weight=st.integers(1, 9),
        guaranteed=st.sampled_from((0, 500)),
        limit=st.sampled_from((-1, 500, 1000)),
    )
    def make_or_change_a_queue(self, weight: int, guaranteed: int, limit: int) -> None:
        known = self.world.cluster.queue("research") is not None
        wanted = QueueSettings(weight, guaranteed, limit)
        self.send(QueueUpdated("research", wanted) if known else QueueCreated("research", wanted))

    @precondition(lambda self: self.world.cluster.queue("research") is not None)
    @rule()
    def delete_a_queue(self) -> None:
        cluster = self.world.cluster
        used = any(
            e.spec.queue == "research" for e in cluster.experiments.values() if not e.state.ended
        )
        held = cluster.use.account("research").gpu_milli
        try:
            self.send(QueueDeleted("research"))
        except FailedPrecondition:
            assert used or not cluster.use.account("research").is_idle
        else:
            assert not used and not held

    @precondition(lambda self: self.submitted)
    @rule(data=st.data(), force=st.booleans(), child=st.integers(0, 6))
    def kill(self, data: st.DataObject, force: bool, child: int) -> None:
        chosen = data.draw(st.sampled_from(self.submitted))
        if f"{chosen}.{child}" in self.world.cluster.experiments:
            chosen = f"{chosen}.{child}"
        if chosen in self.world.cluster.experiments:
            self.world.kill(chosen, force)
            self.woken = self.woken or self.world.woke

    @rule()
    def plan(self) -> None:
        plan = naive_plan(self.world.cluster.snapshot())
        applied = self.send(PlanMade(plan))
        assert not applied.rejected, "a plan on its own snapshot applies"

    @rule()
    def plan_in_earnest(self) -> None:
        self.woken = False
        applied = self.send(PlanMade(schedule(self.world.cluster.snapshot(), self.world.now)))
        assert not applied.rejected, "scheduler and applier agree on what fits"
        self.limits_hold(applied.started)

    def limits_hold(self, started: Iterable[str]) -> None:
        """Of queues in which something with GPUs was started; a lowered limit stops nothing."""
        cluster = self.world.cluster
        for experiment in map(self.world.experiment, started):
            queue = cluster.queue(experiment.spec.queue)
            assert queue is not None
            if queue.limit_gpu_milli is not None and gang_gpu_milli(experiment.spec):
                assert cluster.use.account(queue.name).gpu_milli <= queue.limit_gpu_milli

    @rule()
    def keep_a_plan(self) -> None:
        self.old_plan = naive_plan(self.world.cluster.snapshot())

    @precondition(lambda self: self.old_plan is not None)
    @rule()
    def apply_an_old_plan(self) -> None:
        assert self.old_plan is not None
        self.limits_hold(self.send(PlanMade(self.old_plan)).started)

    @precondition(lambda self: self.world.cluster.experiments)
    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        victim = data.draw(st.sampled_from(sorted(self.world.cluster.experiments)))
        preemptor = data.draw(st.sampled_from(sorted(self.world.cluster.experiments)))
        self.send(PlanMade(Plan(0, evictions=(Eviction(victim, preemptor, "priority"),))))

    @precondition(lambda self: self.world.cluster.attempts)
    @rule(data=st.data(), said=reports)
    def report(self, data: st.DataObject, said: dict[str, Any]) -> None:
        attempt_id = data.draw(st.sampled_from(sorted(self.world.cluster.attempts)))
        node = self.world.cluster.attempts[attempt_id].node_name
        self.last_report = AttemptReported(node, AttemptReport(attempt_id, **said))
        self.send(self.last_report)

    @precondition(lambda self: self.world.cluster.attempts)
    @rule(data=st.data())
    def all_go_well(self, data: st.DataObject) -> None:
        """Random words alone would rarely let a gang run."""
        state = data.draw(st.sampled_from((AttemptState.RUNNING, AttemptState.EXITED)))
        for attempt in list(self.world.cluster.attempts.values()):
            word = AttemptReport(attempt.id, state, exit_code=0, start_time=self.world.now)
            self.send(AttemptReported(attempt.node_name, word))

    @precondition(lambda self: self.world.cluster.attempts)
    @rule(data=st.data(), name=st.sampled_from(NODES), seconds=st.integers(-9, 9))
    def write_a_checkpoint(self, data: st.DataObject, name: str, seconds: int) -> None:
        attempt_id = data.draw(st.sampled_from(sorted(self.world.cluster.attempts)))
        self.send(CheckpointWritten(name, attempt_id, self.world.now + seconds))

    @precondition(lambda self: self.world.cluster.policed)
    @rule(data=st.data(), idle=st.booleans(), stop=st.booleans())
    def gpus_are_idle(self, data: st.DataObject, idle: bool, stop: bool) -> None:
        experiment_id = data.draw(st.sampled_from(sorted(self.world.cluster.policed)))
        generation = self.world.experiment(experiment_id).generation
        since = self.world.now if idle else None
        self.send(GpusIdle(experiment_id, generation, since, stop and idle))

    @precondition(lambda self: self.last_report is not None)
    @rule()
    def repeat_a_report(self) -> None:
        assert self.last_report is not None
        self.send(self.last_report)

    @rule(said=reports)
    def report_an_unknown_attempt(self, said: dict[str, Any]) -> None:
        self.send(AttemptReported("n1", AttemptReport("ana.99.train.1-1", **said)))

    @rule(
        name=st.sampled_from(NODES),
        rebooted=st.booleans(),
        restarted=st.booleans(),
        data=st.data(),
    )
    def connect(self, name: str, rebooted: bool, restarted: bool, data: st.DataObject) -> None:
        self.boots[name] += rebooted
        self.epochs[name] += rebooted or restarted
        known = [a.id for a in self.world.cluster.attempts.values() if a.node_name == name]
        said = {
            attempt_id: AttemptReport(attempt_id, **data.draw(reports))
            for attempt_id in (data.draw(st.lists(st.sampled_from(known))) if known else ())
        }
        opened = self.send(
            NodeConnected(
                machine_inventory(name, self.boots[name]), self.epochs[name], tuple(said.values())
            )
        )
        desired = {order.attempt_id for order in opened.desired}
        live = {
            a.id
            for a in self.world.cluster.attempts_on(name)
            if self.world.cluster.jobs[a.job_id].rank >= 0
        }
        assert desired == live
        assert {stop.attempt_id for stop in opened.stopping} <= desired
        assert not set(opened.forget) & desired

    @rule(name=st.sampled_from(NODES))
    def an_older_daemon_is_refused(self, name: str) -> None:
        if name in self.world.cluster.nodes:
            before = self.world.cluster.nodes[name]
            try:
                self.send(NodeConnected(machine_inventory(name, 0), self.epochs[name] - 1))
            except FailedPrecondition as refused:
                assert refused.reason == "STALE_EPOCH"
            else:
                raise AssertionError("it was let in")
            assert self.world.cluster.nodes[name] is before

    @rule(name=st.sampled_from(NODES))
    def disconnect(self, name: str) -> None:
        self.send(NodeDisconnected(name, self.epochs[name]))

    @rule(name=st.sampled_from(NODES))
    def lease_expires(self, name: str) -> None:
        self.send(NodeLeaseExpired(name))

    @rule(name=st.sampled_from(NODES), late=st.booleans())
    def telemetry_is_late(self, name: str, late: bool) -> None:
        self.send(NodeTelemetryLate(name, late))

    @rule(name=st.sampled_from(NODES), healthy=st.booleans())
    def inventory_changes(self, name: str, healthy: bool) -> None:
        changed = machine_inventory(name, self.boots[name], healthy)
        self.send(NodeInventoryChanged(changed, self.epochs[name]))

    @rule(name=st.sampled_from(NODES), close=st.booleans())
    def cordon(self, name: str, close: bool) -> None:
        if name in self.world.cluster.nodes:
            self.send(NodeCordoned(name, close))

    @rule(
        name=st.sampled_from(NODES),
        taints=st.sampled_from(((), (("spot", "cheap"),), (("dedicated", "vision"),))),
    )
    def taint(self, name: str, taints: tuple[tuple[str, str], ...]) -> None:
        if name in self.world.cluster.nodes:
            self.send(NodeTainted(name, taints))

    @rule(name=st.sampled_from(NODES))
    def drain(self, name: str) -> None:
        if name in self.world.cluster.nodes:
            self.send(NodeDrained(name))

    @rule(name=st.sampled_from(NODES))
    def forget(self, name: str) -> None:
        node = self.world.cluster.nodes.get(name)
        if node is not None and node.state != "READY":
            self.send(NodeForgotten(name))
            assert not self.world.cluster.attempts_on(name)

    @rule(seconds=st.sampled_from((0.5, 30.0, 400.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)
        self.send(TimePassed())

    @rule()
    def the_control_plane_restarts(self) -> None:
        self.world.cluster = self.world.reload()
        self.old_plan = None
        self.woken = True
        self.send(ControlPlaneStarted())
        assert not any(n.state == "READY" for n in self.world.cluster.nodes.values())

    @rule()
    def ended_experiments_leave_memory(self) -> None:
        for experiment_id in list(self.world.cluster.experiments):
            self.world.cluster.evict(experiment_id)
        assert not any(e.state.ended for e in self.world.cluster.experiments.values())

    @invariant()
    def nobody_waits_who_could_start(self) -> None:
        """The scheduler is not woken for gangs that are known to wait: it would start none."""
        if not self.woken:
            plan = schedule(self.world.cluster.snapshot(), self.world.now)
            assert not plan.placements

    @invariant()
    def the_store_gives_it_back(self) -> None:
        live, loaded = picture(self.world.cluster), picture(self.world.reload())
        for what, value in live.items():
            assert value == loaded[what], what

    @invariant()
    def a_restart_forgets_little_of_what_was_used(self) -> None:
        now, cluster, loaded = self.world.now, self.world.cluster, self.world.reload()
        for key, account in cluster.use.accounts():
            found = dict(loaded.use.accounts()).get(key, Account())
            used, restored = (
                each.use.use_of(of).at(now) for each, of in ((cluster, account), (loaded, found))
            )
            # At most all of the cluster, since it was written down or read back last.
            assert abs(used - restored) <= SAVE_SECONDS + 60.0, key


def picture(cluster: Cluster) -> dict[str, Any]:
    """All that a restart must keep, ended experiments left out."""
    here = {i for i, e in cluster.experiments.items() if not e.state.ended}
    snapshot = cluster.snapshot()
    return {
        "users": cluster.users,
        "projects": cluster.projects,
        "nodes": cluster.nodes,
        "experiments": {i: cluster.experiments[i] for i in here},
        "jobs": {i: cluster.jobs_of(i) for i in here},
        "attempts": {i: {a.id: a for a in cluster.attempts_of(i)} for i in here},
        "on nodes": {n: set(ids) for n, ids in cluster.live_by_node.items()},
        "usage": {name: cluster.usage_of(name) for name in cluster.nodes},
        "queues": cluster.queues,
        "use records": cluster.use_records,
        "accounts": {
            key: account.standing for key, account in cluster.use.accounts() if not account.is_idle
        },
        "numbers": cluster.last_numbers,
        "requests": cluster.requests,
        "limited": set(cluster.limited),
        "sets": {
            i: ({s: n for s, n in p.counts.items() if n}, list(p.waiting))
            for i, p in cluster.sets.items()
            if i in here
        },
        "node views": snapshot.nodes,
        "pending": {p.experiment_id: p for p in snapshot.pending},
        "running": {r.experiment_id: (set(r.members), r.start_time) for r in snapshot.running},
    }


AnyEvents.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, print_blob=True
)
TestAnyEvents = AnyEvents.TestCase
