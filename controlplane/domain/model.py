"""The objects that the control plane keeps. Immutable: a change makes a new value.

Times are float seconds since the epoch (UTC); `None` means it has not happened.
GPU amounts are thousandths (`milli`) of one GPU.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from controlplane.domain.states import AttemptState, State
from riseml.spec.model import DEFAULT_QUEUE, Resources, TrainSpec


@dataclass(frozen=True, slots=True)
class User:
    """A person or program that owns projects and experiments. `name` never changes."""

    name: str
    email: str
    admin: bool
    enabled: bool
    create_time: float
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A credential of a user; only the SHA-256 (hex) of the key is kept."""

    id: str
    user_name: str
    sha256: str
    description: str
    create_time: float
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class NodeToken:
    """The credential of one node's daemon."""

    node_name: str
    sha256: str
    create_time: float


class PlacementStyle(enum.Enum):
    """How the jobs of a queue are spread over the nodes; the values are what the store keeps."""

    PACK = "PACK"
    SPREAD = "SPREAD"


@dataclass(frozen=True, slots=True)
class Queue:
    """Where experiments wait, and what those that run from it may use together.

    The queue `default` is always there, with these defaults until an admin changes it.
    """

    name: str
    weight: int = 1
    # It gets these back from queues that borrow them, when its own jobs wait.
    guaranteed_gpu_milli: int = 0
    # Never more at once; None: what nobody else wants may be borrowed.
    limit_gpu_milli: int | None = None
    placement: PlacementStyle = PlacementStyle.PACK
    # Whether jobs of it may preempt running ones of lower priority of the same queue.
    preempts_lower_priority: bool = True
    # Of experiments that name no max_duration; None: no limit.
    default_max_duration_seconds: int | None = None
    create_time: float = 0.0
    request_id: str = ""


BUILT_IN_QUEUE = Queue(DEFAULT_QUEUE)
"""What is there before an admin changes it."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """What admins may set of a queue. None leaves a field as it is; in a new queue it is as in
    `Queue`.
    """

    weight: int | None = None
    guaranteed_gpu_milli: int | None = None
    # Negative: no limit.
    limit_gpu_milli: int | None = None
    placement: PlacementStyle | None = None
    preempts_lower_priority: bool | None = None
    # 0: no limit.
    default_max_duration_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class UseRecord:
    """Recent use of the cluster by a user through a queue, or by all of the queue (`user_name` is
    ""), as it was at a time; see `snapshot.RecentUse`.
    """

    queue: str
    user_name: str
    seconds: float
    time: float


@dataclass(frozen=True, slots=True)
class Project:
    """Belongs to a user; its name is the one in riseml.yml."""

    user_name: str
    name: str
    create_time: float


@dataclass(frozen=True, slots=True)
class Revision:
    """A project's tree at one `train`. `id` is the hex SHA-256 of its canonical manifest."""

    id: str
    user_name: str
    project: str
    file_count: int
    size_bytes: int
    create_time: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """One instance of a training, or a set (`child_count` > 0), or a child (`set_id`)."""

    # Canonical: `ana.17` or `ana.17.3`.
    id: str
    user_name: str
    number: int
    # 0 when it is no child.
    child_number: int
    set_id: str | None
    project: str
    revision_id: str
    # A child shares its set's spec (the same object in memory, stored once).
    spec: TrainSpec
    parameters: tuple[tuple[str, str], ...]
    state: State
    create_time: float
    reason: str = ""
    message: str = ""
    # How often its gang was started; RISEML_ATTEMPT of the newest attempts.
    generation: int = 0
    # Failures that counted against `retry.max`.
    retries_used: int = 0
    kill_requested: bool = False
    # Children of a set; 0 when it is none.
    child_count: int = 0
    # Since when all GPUs of its present jobs have been idle, once its user was told of it.
    idle_since: float | None = None
    start_time: float | None = None
    end_time: float | None = None
    request_id: str = ""
    # The default of its queue when it was submitted, where its spec names no limit.
    queue_max_duration_seconds: int | None = None

    @property
    def max_duration_seconds(self) -> int | None:
        """How long its jobs may run; None: for ever."""
        own = self.spec.max_duration_seconds
        return self.queue_max_duration_seconds if own is None else own

    @property
    def is_set(self) -> bool:
        return self.child_count > 0


@dataclass(frozen=True, slots=True)
class Job:
    """One unit that runs on one node."""

    # `ana.17.worker.3`.
    id: str
    experiment_id: str
    type: str
    # From 1.
    number: int
    # Over the whole gang, from 0; -1 for jobs outside the gang (build).
    rank: int
    resources: Resources
    state: State
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class GpuShare:
    """Thousandths of one GPU, by UUID."""

    uuid: str
    milli: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of one job on one node. Holds its allocation until its state has ended."""

    # `ana.17.train.1-2`.
    id: str
    job_id: str
    experiment_id: str
    generation: int
    node_name: str
    state: AttemptState
    create_time: float
    gpus: tuple[GpuShare, ...] = ()
    cpu_milli: int = 0
    memory_bytes: int = 0
    # Rendezvous port on its node; 0 when it is alone, or its pod has an address of its own.
    port: int = 0
    shm_bytes: int = 0
    # Of a main attempt: the build attempt that prepares its environment ("" if none).
    build_attempt_id: str = ""
    reason: str = ""
    message: str = ""
    # Why it is being stopped: becomes the reason of its end.
    stop_reason: str = ""
    # The same in words, where there is more to say; "" if not.
    stop_message: str = ""
    # When the stop was asked for.
    stop_time: float | None = None
    # The experiment that it makes room for; "" for none.
    stopped_for: str = ""
    # Lease of its node ran out while it was there.
    node_lost: bool = False
    exit_code: int | None = None
    exit_signal: int = 0
    start_time: float | None = None
    end_time: float | None = None
    # Lengths of its log and results in bytes once it has ended, -1 before (or unknown for ever).
    final_log_offset: int = -1
    final_results_offset: int = -1


class GpuHealthName:
    """Names of a GPU's health, the same as in the contract."""

    HEALTHY = "HEALTHY"
    QUARANTINED = "QUARANTINED"
    LOST = "LOST"
    UNKNOWN = "UNKNOWN"
    # Well again after a quarantine, and given to tests only until one passed.
    PROBATION = "PROBATION"


@dataclass(frozen=True, slots=True)
class ForeignProcess:
    """A process on a GPU that RiseML did not start; with pid 0 all of what `user_name` names."""

    pid: int
    user_name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as its node's daemon described it last."""

    uuid: str
    index: int
    name: str
    model: str
    memory_bytes: int
    health: str = GpuHealthName.HEALTHY
    health_reason: str = ""
    health_message: str = ""
    # Since when health and reason are what they are.
    health_time: float | None = None
    simulated: bool = False
    foreign_memory_bytes: int = 0
    pci_bus_id: str = ""
    driver_version: str = ""
    numa_node: int = -1
    # GPUs of a node with equal numbers reach each other through NVLink; -1: unknown or none.
    nvlink_group: int = -1
    # GPUs of a node with equal numbers share a PCIe switch or host bridge; -1: unknown.
    pcie_group: int = -1
    # The largest of them.
    foreign_processes: tuple[ForeignProcess, ...] = ()
    # The node's device plugin does not offer it, so that no pod is given it.
    withheld: bool = False
    # NAMESPACE/NAME of the pod that the kubelet gave it to; "": none, or nobody says.
    pod: str = ""


@dataclass(frozen=True, slots=True)
class GpuQuarantine:
    """That a GPU was sick, kept until it has passed a test, or an admin says that it is well."""

    uuid: str
    # As its node said: `xid_79`, and in words.
    reason: str
    message: str
    begin_time: float
    # How long it has to be healthy before it is tested (again).
    wait_seconds: float
    # Since when its node calls it healthy; None: it does not.
    healthy_time: float | None = None
    # When it is tested next; None: that is not known yet.
    test_time: float | None = None
    # The experiment that tests it now; "": none.
    test_id: str = ""
    # What came of its last test, if that failed, and when.
    failure: str = ""
    failure_time: float | None = None


@dataclass(frozen=True, slots=True)
class NodeCapabilities:
    """What a node's daemon can do; see the contract for each field."""

    isolates_users: bool = False
    only_user: str = ""
    limits: str = ""
    output_root: str = "local"
    notes: tuple[str, ...] = ()
    runs_images: bool = False
    # Its device plugin gives out whole GPUs and chooses which: no job has a share of one.
    whole_gpus: bool = False
    # Its jobs are pods, each with an address of its own, and whoever watches it sees all of them.
    pod_network: bool = False


@dataclass(frozen=True, slots=True)
class NodeInventory:
    """A node as it introduces itself."""

    node_name: str
    boot_id: str
    daemon_version: str
    cpu_milli: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    capabilities: NodeCapabilities = field(default_factory=NodeCapabilities)
    address: str = "127.0.0.1"
    first_port: int = 0
    last_port: int = 0
    # Size of /dev/shm; 0: unknown.
    shm_bytes: int = 0
    # (key, value): taints that are set and removed where the node comes from. They count like those
    # that admins set here.
    taints: tuple[tuple[str, str], ...] = ()
    # Why nothing new may start there by the word of where it comes from, to follow "is":
    # "cordoned in Kubernetes"; "" if it is open.
    unschedulable: str = ""


class NodeStateName:
    """Names of a node's state, the same as in the contract."""

    READY = "READY"
    # No session, and the lease has not run out (yet, or since the control plane started).
    DISCONNECTED = "DISCONNECTED"
    # Lease ran out: what runs there is unknown.
    LOST = "LOST"


@dataclass(frozen=True, slots=True)
class Node:
    """A node that has introduced itself at least once."""

    name: str
    inventory: NodeInventory
    # Of the newest session.
    epoch: int
    state: str = NodeStateName.DISCONNECTED
    message: str = ""
    cordoned: bool = False
    draining: bool = False
    connect_time: float | None = None
    last_seen_time: float | None = None
    # When its lease ran out (or the control plane started since); None unless it is LOST.
    lost_time: float | None = None
    # (key, value): keep jobs away that do not tolerate them. Set by admins; the inventory may have
    # more.
    taints: tuple[tuple[str, str], ...] = ()
    # Its telemetry is late: nobody knows how it is, and nothing new starts there.
    telemetry_late: bool = False
    # Of its GPUs that were sick, by UUID; what `inventory` says of their health is true to these.
    quarantines: tuple[GpuQuarantine, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """What a node says of one attempt."""

    attempt_id: str
    state: AttemptState
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    exit_signal: int = 0
    start_time: float | None = None
    end_time: float | None = None
    final_log_offset: int = -1
    final_results_offset: int = -1


@dataclass(frozen=True, slots=True)
class Peer:
    """A member of a gang as the others reach it."""

    job_type: str
    job_number: int
    rank: int
    host: str
    port: int
    gpu_count: int


@dataclass(frozen=True, slots=True)
class AttemptOrder:
    """Everything that a node needs to run one attempt; see riseml/v1/daemon.proto."""

    attempt_id: str
    job_id: str
    experiment_id: str
    user_name: str
    project: str
    generation: int
    revision_id: str
    run: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    secret_env_names: tuple[str, ...]
    parameters: tuple[tuple[str, str], ...]
    cpu_milli: int
    memory_bytes: int
    shm_bytes: int
    gpus: tuple[GpuShare, ...]
    grace_period_seconds: float
    contact_timeout_seconds: float
    install: tuple[str, ...]
    build_attempt_id: str
    framework: str
    peers: tuple[Peer, ...]
    rank: int
    job_type: str
    job_number: int
    output_path: str
    image: str = ""
    framework_version: str = ""


# What the store keeps and watchers may hear of.
Entity = (
    User
    | ApiKey
    | NodeToken
    | Queue
    | UseRecord
    | Project
    | Revision
    | Experiment
    | Job
    | Attempt
    | Node
)
