"""A cluster to send events to: it applies what comes out, as the runtime does, and remembers it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from controlplane.core.cluster import Cluster
from controlplane.core.reactor import Outcome, on_event
from controlplane.core.settings import DEFAULTS, Settings
from controlplane.domain.changes import Change, Delete, Insert, Update
from controlplane.domain.effects import Effect, StartAttempt, StopAttempt, WakeScheduler
from controlplane.domain.events import (
    AttemptReported,
    Event,
    ExperimentSubmitted,
    KillRequested,
    NodeConnected,
    PlanMade,
    UserCreated,
)
from controlplane.domain.model import (
    ApiKey,
    Attempt,
    AttemptReport,
    Experiment,
    Gpu,
    GpuShare,
    Job,
    Node,
    NodeCapabilities,
    NodeInventory,
    NodeToken,
    Project,
    Queue,
    Revision,
    User,
    UseRecord,
)
from controlplane.domain.plan import GangPlacement, Plan
from controlplane.domain.snapshot import GangRequest, MemberPlacement, NodeView, Snapshot
from controlplane.domain.states import AttemptState, State
from riseml.spec.model import GIB, Resources, RoleSpec, TrainSpec
from riseml.spec.taints import untolerated

SMALL = Resources(cpu_milli=1000, memory_bytes=GIB)


def spec(**fields: Any) -> TrainSpec:
    """One small job, unless fields say otherwise."""
    given: dict[str, Any] = {
        "project": "digits",
        "run": ("true",),
        "roles": (RoleSpec("train", 1, SMALL),),
    }
    return TrainSpec(**{**given, **fields})


def gang(*roles: tuple[str, int], resources: Resources = SMALL) -> tuple[RoleSpec, ...]:
    return tuple(RoleSpec(name, count, resources) for name, count in roles)


def gpu(uuid: str, index: int = 0, **fields: Any) -> Gpu:
    given: dict[str, Any] = {
        "name": "NVIDIA H100 80GB HBM3",
        "model": "H100",
        "memory_bytes": 80 * GIB,
    }
    return Gpu(uuid=uuid, index=index, **{**given, **fields})


def inventory(name: str = "n1", boot_id: str = "boot1", **fields: Any) -> NodeInventory:
    given: dict[str, Any] = {
        "daemon_version": "1",
        "cpu_milli": 8000,
        "memory_bytes": 16 * GIB,
        "address": f"{name}.example",
        "first_port": 20000,
        "last_port": 20009,
        "capabilities": NodeCapabilities(output_root="shared"),
    }
    return NodeInventory(node_name=name, boot_id=boot_id, **{**given, **fields})


def place(node: NodeView, request: Resources, tests_gpu: str = "") -> tuple[GpuShare, ...] | None:
    """First fit on one node; None if it does not fit."""
    if not node.open or node.free_cpu_milli < request.cpu_milli:
        return None
    if node.free_memory_bytes < request.memory_bytes:
        return None
    if node.shm_bytes and node.free_shm_bytes < request.shm_bytes:
        return None
    left = request.gpu_milli
    shares = []
    for view in node.gpus:
        each = min(left, 1000)
        usable = view.probation and view.gpu.uuid == tests_gpu if tests_gpu else view.usable
        if left and usable and view.free_milli >= each:
            shares.append(GpuShare(view.gpu.uuid, each))
            left -= each
    return None if left else tuple(shares)


def naive_plan(snapshot: Snapshot) -> Plan:
    """Places as many gangs as fit, first come, first fit."""
    nodes = {node.name: node for node in snapshot.nodes}
    queues = {view.queue.name: view for view in snapshot.queues}
    left = {
        name: view.queue.limit_gpu_milli - view.held.gpu_milli
        for name, view in queues.items()
        if view.queue.limit_gpu_milli is not None
    }
    placements = []
    for request in sorted(snapshot.pending, key=lambda request: request.rank):
        wanted = sum(member.resources.gpu_milli for member in request.members)
        if wanted > left.get(request.queue, wanted):
            continue
        trial = dict(nodes)
        members = _place_gang(request, trial)
        if members is not None:
            nodes = trial
            if request.queue in left:
                left[request.queue] -= wanted
            placements.append(GangPlacement(request.experiment_id, members))
    return Plan(snapshot.version, tuple(placements))


def _place_gang(
    request: GangRequest, nodes: dict[str, NodeView]
) -> tuple[MemberPlacement, ...] | None:
    members = []
    for member in request.members:
        for name, node in nodes.items():
            if request.only_nodes and name not in request.only_nodes:
                continue
            if len(request.members) > 1 and node.free_ports < 1:
                continue
            if untolerated(node.taints, request.tolerations) is not None:
                continue
            shares = place(node, member.resources, request.tests_gpu)
            if shares is None:
                continue
            taken = {share.uuid: share.milli for share in shares}
            nodes[name] = replace(
                node,
                free_cpu_milli=node.free_cpu_milli - member.resources.cpu_milli,
                free_memory_bytes=node.free_memory_bytes - member.resources.memory_bytes,
                free_shm_bytes=node.free_shm_bytes - member.resources.shm_bytes,
                free_ports=node.free_ports - 1,
                gpus=tuple(
                    replace(v, free_milli=v.free_milli - taken.get(v.gpu.uuid, 0))
                    for v in node.gpus
                ),
            )
            members.append(MemberPlacement(member.job_id, name, shares))
            break
        else:
            return None
    return tuple(members)


@dataclass
class DumbStore:
    """Collects changes, and loads as `LiveState` says."""

    rows: dict[tuple[str, Any], Any] = field(default_factory=dict)

    @staticmethod
    def key(entity: Any) -> tuple[str, Any]:
        match entity:
            case Project():
                return ("Project", (entity.user_name, entity.name))
            case Revision():
                return ("Revision", (entity.user_name, entity.id))
            case UseRecord():
                return ("UseRecord", (entity.queue, entity.user_name))
            case User() | Node() | Queue():
                return (type(entity).__name__, entity.name)
            case NodeToken():
                return ("NodeToken", entity.node_name)
            case _:
                return (type(entity).__name__, entity.id)

    def commit(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            key = self.key(change.entity)
            match change:
                case Insert():
                    assert key not in self.rows, f"{key} inserted twice"
                    self.rows[key] = change.entity
                case Update():
                    assert key in self.rows, f"{key} updated, but not there"
                    self.rows[key] = change.entity
                case Delete():
                    del self.rows[key]

    def all(self, kind: type) -> tuple[Any, ...]:
        return tuple(e for (name, _), e in self.rows.items() if name == kind.__name__)

    def load(self) -> StoredState:
        every = {e.id: e for e in self.all(Experiment)}
        attempts = self.all(Attempt)
        busy = {a.experiment_id for a in attempts if not a.state.ended}
        live = {i for i, e in every.items() if not e.state.ended or i in busy}
        live |= {every[i].set_id for i in live if every[i].set_id}
        newest: dict[str, int] = {}
        for a in attempts:
            newest[a.experiment_id] = max(a.generation, newest.get(a.experiment_id, 0))
        numbers: dict[str, int] = {}
        ended: dict[tuple[str, State], int] = {}
        for e in every.values():
            numbers[e.user_name] = max(e.number, numbers.get(e.user_name, 0))
            if e.set_id in live and e.state.ended:
                ended[e.set_id, e.state] = ended.get((e.set_id, e.state), 0) + 1
        return StoredState(
            users=self.all(User),
            api_keys=self.all(ApiKey),
            node_tokens=self.all(NodeToken),
            projects=self.all(Project),
            nodes=self.all(Node),
            queues=self.all(Queue),
            use_records=self.all(UseRecord),
            experiments=tuple(every[i] for i in sorted(live)),
            jobs=tuple(j for j in self.all(Job) if j.experiment_id in live),
            attempts=tuple(
                a
                for a in attempts
                if a.experiment_id in live
                and (a.generation == newest[a.experiment_id] or not a.state.ended)
            ),
            last_numbers=tuple(numbers.items()),
            recent_requests=tuple(
                (e.user_name, e.request_id, e.id) for e in every.values() if e.request_id
            ),
            ended_children=tuple((s, state, n) for (s, state), n in ended.items()),
        )


@dataclass(frozen=True)
class StoredState:
    """See `controlplane.store.protocol.LiveState`."""

    users: tuple[User, ...]
    api_keys: tuple[ApiKey, ...]
    node_tokens: tuple[NodeToken, ...]
    projects: tuple[Project, ...]
    nodes: tuple[Node, ...]
    queues: tuple[Queue, ...]
    use_records: tuple[UseRecord, ...]
    experiments: tuple[Experiment, ...]
    jobs: tuple[Job, ...]
    attempts: tuple[Attempt, ...]
    last_numbers: tuple[tuple[str, int], ...]
    recent_requests: tuple[tuple[str, str, str], ...]
    ended_children: tuple[tuple[str, State, int], ...]


class World:
    """Events in, changes applied to the cluster and a store, effects remembered."""

    def __init__(self, settings: Settings = DEFAULTS, user: str = "ana") -> None:
        self.cluster = Cluster(use_half_life_seconds=settings.use_half_life_seconds)
        self.store = DumbStore()
        self.settings = settings
        self.now = 1000.0
        # Of the last event.
        self.effects: tuple[Effect, ...] = ()
        self.requests = 0
        key = ApiKey("key1", user, "00" * 32, "", self.now)
        self.send(UserCreated(user, f"{user}@example.com", True, key))

    def send(self, event: Event) -> Any:
        """Applies an event; returns its reply."""
        outcome: Outcome = on_event(self.cluster, event, self.now, self.settings)
        self.cluster.apply(outcome.changes, self.now)
        if outcome.waiting is not None:
            self.cluster.note_waiting(
                outcome.waiting, outcome.waiting_version, outcome.reservations
            )
        if outcome.checkpoint is not None:
            self.cluster.note_checkpoint(*outcome.checkpoint)
        self.store.commit(outcome.changes)
        self.effects = outcome.effects
        self.cluster.check_invariants()
        return outcome.reply

    def reload(self, **options: Any) -> Cluster:
        """The cluster as it would be after a restart."""
        half_life = self.settings.use_half_life_seconds
        return Cluster.from_live_state(
            self.store.load(), use_half_life_seconds=half_life, **options
        )

    def connect(self, name: str = "n1", epoch: int = 1, attempts: Any = (), **fields: Any) -> Any:
        return self.send(NodeConnected(inventory(name, **fields), epoch, tuple(attempts)))

    def submit(self, spec: TrainSpec, *assignments: Any, user: str = "ana", **fields: Any) -> str:
        """Returns the id."""
        self.requests += 1
        given = {"request_id": f"request{self.requests}", **fields}
        experiment, _ = self.send(
            ExperimentSubmitted(user, spec=spec, assignments=assignments or ((),), **given)
        )
        return str(experiment.id)

    def plan(self) -> Any:
        """Places what fits; returns PlanApplied."""
        return self.send(PlanMade(naive_plan(self.cluster.snapshot())))

    def kill(self, experiment_id: str, force: bool = False) -> Experiment:
        reply = self.send(KillRequested(experiment_id, force, "ana"))
        assert isinstance(reply, Experiment)
        return reply

    def report(self, attempt_id: str, state: str, **fields: Any) -> None:
        attempt = self.cluster.attempts.get(attempt_id)
        node = fields.pop("node", attempt.node_name if attempt is not None else "n1")
        self.send(AttemptReported(node, report(attempt_id, state, **fields)))

    def run(self, *attempt_ids: str) -> None:
        for attempt_id in attempt_ids:
            self.report(attempt_id, "RUNNING", start_time=self.now)

    def exit(self, attempt_id: str, code: int | None = 0, **fields: Any) -> None:
        self.report(attempt_id, "EXITED", exit_code=code, end_time=self.now, **fields)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    # ------------------------------------------------------------------------------- questions

    def experiment(self, experiment_id: str) -> Experiment:
        return self.cluster.experiments[experiment_id]

    def state(self, experiment_id: str) -> str:
        """Of an experiment or a job."""
        experiment = self.cluster.experiments.get(experiment_id)
        if experiment is not None:
            return experiment.state.value
        return self.cluster.jobs[experiment_id].state.value

    def reason(self, experiment_id: str) -> str:
        return self.experiment(experiment_id).reason

    def attempt(self, attempt_id: str) -> Attempt:
        return self.cluster.attempts[attempt_id]

    @property
    def started(self) -> list[str]:
        return [e.order.attempt_id for e in self.effects if isinstance(e, StartAttempt)]

    @property
    def stopped(self) -> dict[str, str]:
        return {e.attempt_id: e.reason for e in self.effects if isinstance(e, StopAttempt)}

    @property
    def woke(self) -> bool:
        return any(isinstance(e, WakeScheduler) for e in self.effects)


def report(attempt_id: str, state: str, **fields: Any) -> AttemptReport:
    return AttemptReport(attempt_id, AttemptState(state), **fields)
