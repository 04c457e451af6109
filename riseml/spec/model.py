"""The canonical form of a riseml.yml: what the client sends, the server validates again, and jobs
are made from.

Everything is an immutable value that can be hashed and compared. Optional text is None when absent,
never "". Values are only shaped here; their rules are in ``riseml.spec.validate``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GPU: Final = 1000
"""One whole GPU, in thousandths."""

CPU: Final = 1000
"""One whole CPU, in thousandths."""

GIB: Final = 1 << 30

DEFAULT_MEMORY_BYTES: Final = 2 * GIB
DEFAULT_PRIORITY: Final = 50
DEFAULT_QUEUE: Final = "default"
DEFAULT_GRACE_PERIOD_SECONDS: Final = 30

FRAMEWORKS: Final = ("tensorflow", "pytorch", "jax", "mpi")

ROLE_NAMES: Final = ("train", "master", "worker", "ps")
"""What a user's job can be, in the order in which an experiment's jobs are listed."""

JOB_TYPES: Final = (*ROLE_NAMES, "build", "tensorboard")
"""Every type a job can have; the last two are made by the control plane."""

RETRY_EVENTS: Final = ("error", "interruption", "node_lost")
SEARCH_METHODS: Final = ("grid", "random", "asha")
SEARCH_GOALS: Final = ("maximize", "minimize")


@dataclass(frozen=True, slots=True)
class Resources:
    """What one job asks of one node. 0 asks for nothing, and for the shared memory means the node's
    default.
    """

    cpu_milli: int = CPU
    """Thousandths of a CPU: guaranteed, may burst above it."""
    memory_bytes: int = DEFAULT_MEMORY_BYTES
    gpu_milli: int = 0
    """Thousandths of GPUs in all: below 1000 a share of one GPU, else a multiple of 1000."""
    gpu_model: str | None = None
    """Such as ``H100``, or one of several: ``H100|A100``; matched without regard to case. None
    takes any model.
    """
    gpu_min_memory_bytes: int = 0
    """Each GPU has at least this much memory; 0 takes any."""
    shm_bytes: int = 0
    """Size of /dev/shm; 0 leaves the node's default."""

    @property
    def gpu_count(self) -> int:
        """How many GPU devices the job sees: a share is a device too."""
        return -(-self.gpu_milli // GPU)


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """``count`` equal jobs of one type, numbered from 1.

    All roles of an experiment form one gang.
    """

    name: str
    """One of ROLE_NAMES; also the type of its jobs."""
    count: int = 1
    resources: Resources = Resources()


@dataclass(frozen=True, slots=True)
class ParameterValues:
    """A parameter of riseml.yml with everything it may be, as text that goes into commands
    (``0.01``, ``adam``).
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of one experiment with its one value."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class EnvVar:
    """A variable of the jobs' environment.

    A secret one came from the caller's own and is never shown or logged.
    """

    name: str
    value: str
    secret: bool = False

    def __repr__(self) -> str:
        shown = "..." if self.secret else self.value
        return f"EnvVar(name={self.name!r}, value={shown!r}, secret={self.secret})"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When jobs start again. Preemptions and node losses do not count against ``max_retries``."""

    on_events: tuple[str, ...] = ()
    """Of RETRY_EVENTS, in that order, without repeats."""
    max_retries: int = 0


@dataclass(frozen=True, slots=True)
class UtilizationPolicy:
    """Ends an experiment whose GPUs stayed below a utilization for the whole of a window."""

    min_gpu_utilization_percent: int
    time_window_seconds: int


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """How the children of a set come from its parameters."""

    method: str = "grid"
    """One of SEARCH_METHODS."""
    metric: str | None = None
    """The reported result that the children are compared by."""
    goal: str = "maximize"
    """One of SEARCH_GOALS."""
    max_trials: int = 0
    """At most so many children; 0 sets no limit of its own."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A named volume of the cluster and where the job sees it."""

    name: str
    mount_path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """One experiment, or one set of them, as asked for."""

    project: str
    run: tuple[str, ...]
    """Commands for the shell; the first that fails ends the job.

    ``{{name}}`` inserts a parameter.
    """
    framework: str | None = None
    """One of FRAMEWORKS."""
    framework_version: str | None = None
    tensorboard: bool = False
    image: str | None = None
    """A container image, in place of a framework's version."""
    install: tuple[str, ...] = ()
    """Build steps, run once per node and content; where jobs are pods, in each of them."""
    roles: tuple[RoleSpec, ...] = (RoleSpec("train"),)
    """A plain job is ``train`` once; ``nodes: 4`` is ``worker`` four times; TensorFlow has master,
    worker, ps.
    """
    parameters: tuple[ParameterValues, ...] = ()
    """In the order of the file, which is the order in which a grid varies (the first slowest)."""
    concurrency: int = 1
    """How many children of a set run at once."""
    search: SearchSpec | None = None
    env: tuple[EnvVar, ...] = ()
    secrets: tuple[str, ...] = ()
    """Names of stored secrets that the jobs get; masked in logs."""
    priority: int = DEFAULT_PRIORITY
    """0 to 100, high first."""
    queue: str = DEFAULT_QUEUE
    max_duration_seconds: int | None = None
    grace_period_seconds: int = DEFAULT_GRACE_PERIOD_SECONDS
    """Between SIGTERM and SIGKILL."""
    retry: RetryPolicy = RetryPolicy()
    utilization_policy: UtilizationPolicy | None = None
    volumes: tuple[Volume, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    """Sorted by key."""
    node_selector: tuple[tuple[str, str], ...] = ()
    """Labels that a node must bear; sorted by key."""
    tolerations: tuple[tuple[str, str], ...] = ()
    """Taints of nodes, as key and value, that its jobs put up with; an empty value is any. Sorted.
    """

    @property
    def is_set(self) -> bool:
        """Whether it makes children: a parameter with several values, or a search that was asked
        for.
        """
        return self.search is not None or any(len(p.values) > 1 for p in self.parameters)

    @property
    def job_count(self) -> int:
        """Jobs of one experiment of it."""
        return sum(role.count for role in self.roles)
