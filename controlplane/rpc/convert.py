"""Between the control plane's values and the contract's messages. No decisions, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from controlplane.core.queues import QueueUse, Use
from controlplane.domain import model
from controlplane.domain.states import AttemptState, State
from riseml.v1 import (
    experiment_pb2,
    job_pb2,
    node_pb2,
    project_pb2,
    queue_pb2,
    spec_pb2,
    state_pb2,
    user_pb2,
)

STATE_TO_PROTO: Mapping[State, state_pb2.State.ValueType] = {
    state: state_pb2.State.Value(f"STATE_{state.name}") for state in State
}
STATE_FROM_PROTO: Mapping[int, State] = {value: key for key, value in STATE_TO_PROTO.items()}
ATTEMPT_STATE_TO_PROTO: Mapping[AttemptState, job_pb2.AttemptState.ValueType] = {
    state: job_pb2.AttemptState.Value(f"ATTEMPT_STATE_{state.name}") for state in AttemptState
}
ATTEMPT_STATE_FROM_PROTO: Mapping[int, AttemptState] = {
    value: key for key, value in ATTEMPT_STATE_TO_PROTO.items()
}


PLACEMENT_TO_PROTO: Mapping[model.PlacementStyle, queue_pb2.PlacementStyle.ValueType] = {
    style: queue_pb2.PlacementStyle.Value(f"PLACEMENT_STYLE_{style.name}")
    for style in model.PlacementStyle
}
PLACEMENT_FROM_PROTO: Mapping[int, model.PlacementStyle] = {
    value: key for key, value in PLACEMENT_TO_PROTO.items()
}


def timestamp(seconds: float | None) -> Timestamp | None:
    """Seconds since the epoch as a message; None stays absent."""
    if seconds is None:
        return None
    nanos = round(seconds * 1e9)
    return Timestamp(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def seconds(message: Timestamp) -> float:
    """The reverse of `timestamp`."""
    return message.seconds + message.nanos / 1e9


def user(value: model.User) -> user_pb2.User:
    return user_pb2.User(
        name=value.name,
        email=value.email,
        admin=value.admin,
        enabled=value.enabled,
        create_time=timestamp(value.create_time),
    )


def api_key(value: model.ApiKey) -> user_pb2.ApiKey:
    return user_pb2.ApiKey(
        id=value.id,
        user_name=value.user_name,
        description=value.description,
        create_time=timestamp(value.create_time),
    )


def project(value: model.Project) -> project_pb2.Project:
    return project_pb2.Project(
        user_name=value.user_name,
        name=value.name,
        create_time=timestamp(value.create_time),
    )


def revision(value: model.Revision) -> project_pb2.Revision:
    return project_pb2.Revision(
        id=value.id,
        user_name=value.user_name,
        project=value.project,
        file_count=value.file_count,
        size_bytes=value.size_bytes,
        create_time=timestamp(value.create_time),
    )


def attempt(value: model.Attempt) -> job_pb2.Attempt:
    return job_pb2.Attempt(
        id=value.id,
        job_id=value.job_id,
        generation=value.generation,
        node_name=value.node_name,
        gpus=[job_pb2.GpuShare(gpu_uuid=g.uuid, milli=g.milli) for g in value.gpus],
        state=ATTEMPT_STATE_TO_PROTO[value.state],
        reason=value.reason,
        message=value.message,
        node_lost=value.node_lost,
        exit_code=value.exit_code,
        exit_signal=value.exit_signal,
        create_time=timestamp(value.create_time),
        start_time=timestamp(value.start_time),
        end_time=timestamp(value.end_time),
    )


def job(value: model.Job, attempts: Sequence[model.Attempt]) -> job_pb2.Job:
    needs = value.resources
    return job_pb2.Job(
        id=value.id,
        experiment_id=value.experiment_id,
        type=value.type,
        number=value.number,
        state=STATE_TO_PROTO[value.state],
        reason=value.reason,
        message=value.message,
        resources=spec_pb2.Resources(
            cpu_milli=needs.cpu_milli,
            memory_bytes=needs.memory_bytes,
            gpu_milli=needs.gpu_milli,
            gpu_model=needs.gpu_model or "",
            gpu_min_memory_bytes=needs.gpu_min_memory_bytes,
            shm_bytes=needs.shm_bytes,
        ),
        attempts=[attempt(a) for a in attempts],
    )


def experiment(value: model.Experiment, *, private: bool = True) -> experiment_pb2.Experiment:
    """Without spec, jobs and set counts, which callers add. `private` False leaves out what only
    the owner and admins may see: parameters and revision.
    """
    return experiment_pb2.Experiment(
        id=value.id,
        user_name=value.user_name,
        number=value.number,
        child_number=value.child_number,
        project=value.project,
        revision_id=value.revision_id if private else "",
        state=STATE_TO_PROTO[value.state],
        reason=value.reason,
        message=value.message if private else "",
        generation=value.generation,
        parameters=[spec_pb2.Parameter(name=n, value=v) for n, v in value.parameters]
        if private
        else [],
        priority=value.spec.priority,
        queue=value.spec.queue,
        max_duration_seconds=value.max_duration_seconds or 0,
        create_time=timestamp(value.create_time),
        start_time=timestamp(value.start_time),
        end_time=timestamp(value.end_time),
    )


def set_summary(value: model.Experiment, counts: Mapping[State, int]) -> experiment_pb2.SetSummary:
    return experiment_pb2.SetSummary(
        child_count=value.child_count,
        waiting_count=counts.get(State.CREATED, 0) + counts.get(State.PENDING, 0),
        running_count=sum(
            counts.get(s, 0) for s in (State.BUILDING, State.STARTING, State.RUNNING)
        ),
        finished_count=counts.get(State.FINISHED, 0),
        failed_count=counts.get(State.FAILED, 0),
        killed_count=counts.get(State.KILLED, 0),
    )


def queue(value: QueueUse) -> queue_pb2.Queue:
    of, use = value.queue, value.use
    return queue_pb2.Queue(
        name=of.name,
        weight=of.weight,
        guaranteed_gpu_milli=of.guaranteed_gpu_milli,
        limit_gpu_milli=of.limit_gpu_milli,
        placement=PLACEMENT_TO_PROTO[of.placement],
        preempts_lower_priority=of.preempts_lower_priority,
        default_max_duration_seconds=of.default_max_duration_seconds or 0,
        # `default` was never made.
        create_time=timestamp(of.create_time or None),
        use=queue_pb2.QueueUse(
            allocated_gpu_milli=use.held.gpu_milli,
            allocated_cpu_milli=use.held.cpu_milli,
            allocated_memory_bytes=use.held.memory_bytes,
            borrowed_gpu_milli=value.borrowed_gpu_milli,
            running_count=use.running_count,
            waiting_count=use.waiting_count,
            waiting_gpu_milli=use.waiting_gpu_milli,
            fair_share=value.fair_share,
            recent_share=use.recent_share,
            share=use.share,
            users=[_user_use(name, own) for name, own in value.users],
        ),
    )


def _user_use(user_name: str, use: Use) -> queue_pb2.UserUse:
    return queue_pb2.UserUse(
        user_name=user_name,
        allocated_gpu_milli=use.held.gpu_milli,
        allocated_cpu_milli=use.held.cpu_milli,
        allocated_memory_bytes=use.held.memory_bytes,
        running_count=use.running_count,
        waiting_count=use.waiting_count,
        waiting_gpu_milli=use.waiting_gpu_milli,
        recent_share=use.recent_share,
        share=use.share,
    )


def gpu(value: model.Gpu) -> node_pb2.Gpu:
    return node_pb2.Gpu(
        uuid=value.uuid,
        index=value.index,
        name=value.name,
        model=value.model,
        memory_bytes=value.memory_bytes,
        health=node_pb2.GpuHealth.Value(f"GPU_HEALTH_{value.health}"),
        health_reason=value.health_reason,
        health_message=value.health_message,
        health_time=timestamp(value.health_time),
        simulated=value.simulated,
        foreign_memory_bytes=value.foreign_memory_bytes,
        pci_bus_id=value.pci_bus_id,
        driver_version=value.driver_version,
        numa_node=value.numa_node,
        nvlink_group=None if value.nvlink_group < 0 else value.nvlink_group,
        pcie_group=None if value.pcie_group < 0 else value.pcie_group,
        foreign_processes=[
            node_pb2.ForeignProcess(
                pid=process.pid, user_name=process.user_name, memory_bytes=process.memory_bytes
            )
            for process in value.foreign_processes
        ],
        pod=value.pod,
        withheld=value.withheld,
    )


def node(
    value: model.Node, attempts: Sequence[model.Attempt], last_seen: float | None
) -> node_pb2.Node:
    """`attempts` are those that hold something on the node."""
    inventory = value.inventory
    able = inventory.capabilities
    return node_pb2.Node(
        name=value.name,
        state=node_pb2.NodeState.Value(f"NODE_STATE_{value.state}"),
        message=value.message,
        cordoned=value.cordoned,
        draining=value.draining,
        labels=dict(inventory.labels),
        cpu_milli=inventory.cpu_milli,
        memory_bytes=inventory.memory_bytes,
        gpus=[gpu(g) for g in inventory.gpus],
        allocated_cpu_milli=sum(a.cpu_milli for a in attempts),
        allocated_memory_bytes=sum(a.memory_bytes for a in attempts),
        gpu_allocations=[
            node_pb2.GpuAllocation(gpu_uuid=g.uuid, attempt_id=a.id, milli=g.milli)
            for a in attempts
            for g in a.gpus
        ],
        attempt_ids=[a.id for a in attempts],
        capabilities=node_pb2.NodeCapabilities(
            isolates_users=able.isolates_users,
            only_user=able.only_user,
            limits=able.limits,
            output_root=able.output_root,
            notes=able.notes,
            runs_images=able.runs_images,
            whole_gpus=able.whole_gpus,
            pod_network=able.pod_network,
        ),
        address=inventory.address,
        daemon_version=inventory.daemon_version,
        boot_id=inventory.boot_id,
        connect_time=timestamp(value.connect_time),
        last_seen_time=timestamp(last_seen),
        taints=[node_pb2.Taint(key=key, value=text) for key, text in value.taints],
        telemetry_late=value.telemetry_late,
        shm_bytes=inventory.shm_bytes,
        allocated_shm_bytes=sum(a.shm_bytes for a in attempts),
        external_taints=[node_pb2.Taint(key=key, value=text) for key, text in inventory.taints],
        unschedulable=inventory.unschedulable,
    )
