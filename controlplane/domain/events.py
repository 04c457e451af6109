"""All that can happen to the cluster. The reactor has one handler for each."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.domain.model import (
    ApiKey,
    AttemptReport,
    NodeInventory,
    QueueSettings,
    Revision,
)
from controlplane.domain.plan import Plan
from riseml.spec.model import TrainSpec


@dataclass(frozen=True, slots=True)
class ExperimentSubmitted:
    """A validated CreateExperiment. Reply: (Experiment, warnings). Idempotent by request_id."""

    user_name: str
    request_id: str
    spec: TrainSpec
    revision_id: str = ""
    # Parameter assignments of the children, when it is a set; one assignment otherwise.
    assignments: tuple[tuple[tuple[str, str], ...], ...] = ((),)


@dataclass(frozen=True, slots=True)
class KillRequested:
    """Reply: Experiment. Repeating it is harmless; on an ended experiment it changes nothing."""

    experiment_id: str
    force: bool = False
    by_user: str = ""


@dataclass(frozen=True, slots=True)
class UserCreated:
    """Reply: User. The first key comes with it."""

    name: str
    email: str
    admin: bool
    key: ApiKey
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class UserUpdated:
    """Reply: User. None leaves a field as it is."""

    name: str
    email: str | None = None
    admin: bool | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class ApiKeyCreated:
    """Reply: ApiKey (the first one when the request_id was repeated)."""

    key: ApiKey


@dataclass(frozen=True, slots=True)
class ApiKeyDeleted:
    """Reply: None."""

    key_id: str


@dataclass(frozen=True, slots=True)
class NodeTokenCreated:
    """Reply: None. Replaces the node's earlier token."""

    node_name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class NodeTokenDeleted:
    """Reply: None."""

    node_name: str


@dataclass(frozen=True, slots=True)
class QueueCreated:
    """Reply: Queue (the first one when the request_id was repeated)."""

    name: str
    settings: QueueSettings
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class QueueUpdated:
    """Reply: Queue. What runs goes on; submitted experiments keep their limits of time."""

    name: str
    settings: QueueSettings


@dataclass(frozen=True, slots=True)
class QueueDeleted:
    """Reply: None. Refused for `default` and while experiments wait or run in it."""

    name: str


@dataclass(frozen=True, slots=True)
class RevisionRecorded:
    """Reply: Revision. Makes the project if it is new; the same manifest again changes nothing."""

    revision: Revision


@dataclass(frozen=True, slots=True)
class NodeConnected:
    """A daemon's hello. Reply: SessionOpened. A lower epoch than the present one is refused."""

    inventory: NodeInventory
    epoch: int
    attempts: tuple[AttemptReport, ...] = ()
    # (attempt id, UUIDs of GPUs): what a device plugin that chooses by itself was seen to give.
    given: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class NodeDisconnected:
    """A session ended; the lease goes on."""

    node_name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class NodeLeaseExpired:
    """Nothing was heard for longer than the lease (monotonic time, measured by the runtime)."""

    node_name: str


@dataclass(frozen=True, slots=True)
class NodeTelemetryLate:
    """A connected node's samples do not come, or come again (monotonic time, measured by the
    runtime).
    """

    node_name: str
    late: bool


@dataclass(frozen=True, slots=True)
class NodeInventoryChanged:
    """Capacity, labels, health or occupancy changed, or GPUs were seen with other attempts."""

    inventory: NodeInventory
    epoch: int
    # As in NodeConnected.
    given: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class NodeCordoned:
    """Reply: Node."""

    node_name: str
    cordoned: bool


@dataclass(frozen=True, slots=True)
class NodeDrained:
    """Reply: Node. Cordons and sends what runs elsewhere."""

    node_name: str


@dataclass(frozen=True, slots=True)
class NodeTainted:
    """Reply: Node. Its taints are these from now on; what runs there goes on."""

    node_name: str
    taints: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class GpuReleased:
    """Reply: Node. An admin says that a GPU is well, without another test."""

    node_name: str
    uuid: str
    by_user: str = ""


@dataclass(frozen=True, slots=True)
class NodeForgotten:
    """Reply: None. An admin says that a lost node is gone for good."""

    node_name: str


@dataclass(frozen=True, slots=True)
class AttemptReported:
    """A node's word on an attempt; repeated and late words are harmless."""

    node_name: str
    report: AttemptReport


@dataclass(frozen=True, slots=True)
class GpusIdle:
    """All GPUs of an experiment have been idle, counted from samples outside of the reactor."""

    experiment_id: str
    generation: int
    # Since when; None: they are used again.
    since: float | None
    # For as long as its utilization_policy allows: it ends.
    stop: bool = False


@dataclass(frozen=True, slots=True)
class CheckpointWritten:
    """A node saw a new checkpoint in the output of an attempt. Kept in memory only: nodes tell it
    again when they connect.
    """

    node_name: str
    attempt_id: str
    write_time: float


@dataclass(frozen=True, slots=True)
class PlanMade:
    """The scheduler's answer. Each placement is checked again before it is applied."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class ControlPlaneStarted:
    """The first event of a process: no node has a session, and every lease starts anew."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """About once a second: ends what ran longer than its max_duration, saves recent use."""


Event = (
    ExperimentSubmitted
    | KillRequested
    | UserCreated
    | UserUpdated
    | ApiKeyCreated
    | ApiKeyDeleted
    | NodeTokenCreated
    | NodeTokenDeleted
    | QueueCreated
    | QueueUpdated
    | QueueDeleted
    | RevisionRecorded
    | NodeConnected
    | NodeDisconnected
    | NodeLeaseExpired
    | NodeTelemetryLate
    | NodeInventoryChanged
    | NodeCordoned
    | NodeDrained
    | NodeTainted
    | GpuReleased
    | NodeForgotten
    | AttemptReported
    | GpusIdle
    | CheckpointWritten
    | PlanMade
    | ControlPlaneStarted
    | TimePassed
)
