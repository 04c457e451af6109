"""The pictures of nodes and experiments that the scheduler is shown.

The applier checks placements with these same functions: the two cannot disagree on what is usable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from controlplane.core.gpu_words import lottery_reason, untestable_reason, unusable_reason
from controlplane.domain.model import (
    Attempt,
    Experiment,
    Job,
    Node,
    NodeInventory,
    NodeStateName,
)
from controlplane.domain.snapshot import (
    GangRequest,
    GpuView,
    MemberPlacement,
    MemberRequest,
    NodeView,
    RunningGang,
    Shape,
)
from riseml.spec.model import Resources
from riseml.spec.system_test import NODE_LABEL, gpu_under_test

GPU_MILLI: Final = 1000

POD_PORTS: Final = 1 << 16
"""Free ports of a node whose pods have addresses of their own: more than it could hold pods."""


@dataclass(slots=True)
class NodeUsage:
    """What live attempts hold on a node."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    shm_bytes: int = 0
    gpu_milli: dict[str, int] = field(default_factory=dict)
    ports: set[int] = field(default_factory=set)

    def copy(self) -> NodeUsage:
        """An independent copy, to try placements on."""
        return NodeUsage(
            self.cpu_milli,
            self.memory_bytes,
            self.shm_bytes,
            self.gpu_milli.copy(),
            self.ports.copy(),
        )

    def add(self, attempt: Attempt) -> None:
        """The attempt holds its allocation from now on."""
        self.cpu_milli += attempt.cpu_milli
        self.memory_bytes += attempt.memory_bytes
        self.shm_bytes += attempt.shm_bytes
        for share in attempt.gpus:
            self.gpu_milli[share.uuid] = self.gpu_milli.get(share.uuid, 0) + share.milli
        if attempt.port:
            self.ports.add(attempt.port)

    def remove(self, attempt: Attempt) -> None:
        """The attempt holds nothing any more."""
        self.cpu_milli -= attempt.cpu_milli
        self.memory_bytes -= attempt.memory_bytes
        self.shm_bytes -= attempt.shm_bytes
        for share in attempt.gpus:
            left = self.gpu_milli.get(share.uuid, 0) - share.milli
            if left:
                self.gpu_milli[share.uuid] = left
            else:
                self.gpu_milli.pop(share.uuid, None)
        self.ports.discard(attempt.port)


def closed_reason(node: Node) -> str:
    """Why nothing new starts on a node, in words; "" when it is open."""
    if node.state == NodeStateName.LOST:
        return "lost"
    if node.state != NodeStateName.READY:
        return "disconnected"
    if node.draining:
        return "draining"
    if node.cordoned:
        return "cordoned"
    if node.inventory.unschedulable:
        return node.inventory.unschedulable
    if node.telemetry_late:
        return "late with its telemetry"
    return ""


def node_labels(node: Node) -> tuple[tuple[str, str], ...]:
    """Its labels, with its name among them."""
    own = tuple(label for label in node.inventory.labels if label[0] != NODE_LABEL)
    return ((NODE_LABEL, node.name), *own)


def node_taints(node: Node) -> tuple[tuple[str, str], ...]:
    """Those that admins set and those that it has where it comes from, in order."""
    if not node.inventory.taints:
        return node.taints
    return tuple(sorted({*node.taints, *node.inventory.taints}))


def port_count(node: Node) -> int:
    """How many rendezvous ports a node has in all."""
    inventory = node.inventory
    if inventory.capabilities.pod_network:
        return POD_PORTS
    if inventory.first_port <= 0:
        return 0
    return max(0, inventory.last_port - inventory.first_port + 1)


def free_shm_bytes(inventory: NodeInventory, usage: NodeUsage) -> int:
    """What nobody has asked for of a node's /dev/shm; 0 where its size is unknown."""
    return inventory.shm_bytes - usage.shm_bytes if inventory.shm_bytes else 0


def node_view(node: Node, usage: NodeUsage) -> NodeView:
    """A node with what is free on it."""
    inventory = node.inventory
    held = usage.gpu_milli
    gpus = []
    lottery = lottery_reason(inventory, held)
    for gpu in inventory.gpus:
        reason = unusable_reason(gpu) or lottery
        tested = not untestable_reason(gpu, gpu.uuid)
        free = GPU_MILLI - held.get(gpu.uuid, 0)
        gpus.append(GpuView(gpu, free, not reason, reason, tested))
    closed = closed_reason(node)
    return NodeView(
        name=node.name,
        cpu_milli=inventory.cpu_milli,
        memory_bytes=inventory.memory_bytes,
        free_cpu_milli=inventory.cpu_milli - usage.cpu_milli,
        free_memory_bytes=inventory.memory_bytes - usage.memory_bytes,
        gpus=tuple(gpus),
        labels=node_labels(node),
        open=not closed,
        closed_reason=closed,
        only_user=inventory.capabilities.only_user,
        free_ports=port_count(node) - len(usage.ports),
        shm_bytes=inventory.shm_bytes,
        free_shm_bytes=free_shm_bytes(inventory, usage),
        taints=node_taints(node),
        runs_images=inventory.capabilities.runs_images,
        whole_gpus=inventory.capabilities.whole_gpus,
    )


def gang_request(
    experiment: Experiment, gang: Sequence[Job], only_nodes: tuple[str, ...]
) -> GangRequest:
    """An experiment that waits."""
    spec = experiment.spec
    return GangRequest(
        experiment_id=experiment.id,
        user_name=experiment.user_name,
        queue=spec.queue,
        priority=spec.priority,
        submit_time=experiment.create_time,
        members=tuple([MemberRequest(job.id, job.resources) for job in gang]),
        node_selector=spec.node_selector,
        only_nodes=only_nodes,
        max_duration_seconds=experiment.max_duration_seconds,
        tolerations=spec.tolerations,
        grace_period_seconds=spec.grace_period_seconds,
        tests_gpu=gpu_under_test(spec),
        needs_image=bool(spec.image),
    )


def gang_shape(experiment: Experiment, gang: Sequence[Job], only_nodes: tuple[str, ...]) -> Shape:
    """The shape that its `gang_request` has."""
    return shape_of(experiment, tuple([job.resources for job in gang]), only_nodes)


def shape_of(
    experiment: Experiment, wanted: tuple[Resources, ...], only_nodes: tuple[str, ...] = ()
) -> Shape:
    """The shape of an experiment, or of the children of a set, whose members want this."""
    spec = experiment.spec
    return Shape(
        experiment.user_name,
        wanted,
        spec.node_selector,
        only_nodes,
        spec.queue,
        spec.tolerations,
        experiment.max_duration_seconds,
        grace_period_seconds=spec.grace_period_seconds,
        tests_gpu=gpu_under_test(spec),
        needs_image=bool(spec.image),
    )


def running_gang(
    experiment: Experiment, live: Iterable[Attempt], checkpoints: Mapping[str, float]
) -> RunningGang:
    """An experiment and what its live attempts hold; `checkpoints` are write times by attempt."""
    members = []
    stop_times: list[float | None] = []
    written: list[float] = []
    stopping_for = ""
    start_time = None
    for attempt in live:
        members.append(
            MemberPlacement(
                attempt.job_id,
                attempt.node_name,
                attempt.gpus,
                attempt.cpu_milli,
                attempt.memory_bytes,
                attempt.shm_bytes,
            )
        )
        stop_times.append(attempt.stop_time)
        if attempt.id in checkpoints:
            written.append(checkpoints[attempt.id])
        stopping_for = stopping_for or attempt.stopped_for
        begun = attempt.create_time if attempt.start_time is None else attempt.start_time
        if start_time is None or begun < start_time:
            start_time = begun
    spec = experiment.spec
    stopping_until = None
    if stop_times and None not in stop_times:
        stopping_until = max(time for time in stop_times if time is not None)
        stopping_until += spec.grace_period_seconds
    return RunningGang(
        experiment_id=experiment.id,
        user_name=experiment.user_name,
        queue=spec.queue,
        priority=spec.priority,
        start_time=experiment.create_time if start_time is None else start_time,
        max_duration_seconds=experiment.max_duration_seconds,
        members=tuple(members),
        stopping_until=stopping_until,
        checkpoint_time=max(written, default=None),
        grace_period_seconds=spec.grace_period_seconds,
        stopping_for=stopping_for,
    )
