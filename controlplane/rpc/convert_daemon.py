"""The daemon's side of the contract: what nodes say to values, orders to messages."""

from __future__ import annotations

from controlplane.domain import model
from controlplane.domain.effects import (
    EndSession,
    ForgetAttempt,
    SessionOpened,
    StartAttempt,
    StopAttempt,
)
from controlplane.launch.kubernetes.node_gpus import Devices
from controlplane.launch.kubernetes.observers import FollowLog, PodsHere
from controlplane.launch.outbox import Heard
from controlplane.launch.protocol import LaunchEffect
from controlplane.rpc.convert import ATTEMPT_STATE_FROM_PROTO, seconds
from riseml.v1 import daemon_pb2, daemon_service_pb2, job_pb2, node_pb2


def inventory(message: daemon_pb2.NodeInventory) -> model.NodeInventory:
    able = message.capabilities
    return model.NodeInventory(
        node_name=message.node_name,
        boot_id=message.boot_id,
        daemon_version=message.daemon_version,
        cpu_milli=message.cpu_milli,
        memory_bytes=message.memory_bytes,
        gpus=tuple(_gpu(g) for g in message.gpus),
        labels=tuple(sorted(message.labels.items())),
        capabilities=model.NodeCapabilities(
            isolates_users=able.isolates_users,
            only_user=able.only_user,
            limits=able.limits,
            output_root=able.output_root or "local",
            notes=tuple(able.notes),
            runs_images=able.runs_images,
            whole_gpus=able.whole_gpus,
            pod_network=able.pod_network,
        ),
        address=message.address or "127.0.0.1",
        first_port=message.first_port,
        last_port=message.last_port,
        shm_bytes=message.shm_bytes,
    )


def devices(message: daemon_pb2.NodeInventory) -> Devices:
    """What a daemon that observes says of the GPUs of its node."""
    return Devices(
        gpus=tuple(_gpu(gpu) for gpu in message.gpus),
        offered=frozenset(message.devices.offered_gpu_uuids),
        holders={
            holder.gpu_uuid: (holder.namespace, holder.pod_name)
            for holder in message.devices.holders
        },
        notes=tuple(message.capabilities.notes),
    )


def _gpu(message: node_pb2.Gpu) -> model.Gpu:
    health = node_pb2.GpuHealth.Name(message.health).removeprefix("GPU_HEALTH_")
    return model.Gpu(
        uuid=message.uuid,
        index=message.index,
        name=message.name,
        model=message.model,
        memory_bytes=message.memory_bytes,
        health=model.GpuHealthName.UNKNOWN if health == "UNSPECIFIED" else health,
        health_reason=message.health_reason,
        health_message=message.health_message,
        health_time=seconds(message.health_time) if message.HasField("health_time") else None,
        simulated=message.simulated,
        foreign_memory_bytes=message.foreign_memory_bytes,
        pci_bus_id=message.pci_bus_id,
        driver_version=message.driver_version,
        numa_node=message.numa_node,
        nvlink_group=message.nvlink_group if message.HasField("nvlink_group") else -1,
        pcie_group=message.pcie_group if message.HasField("pcie_group") else -1,
        foreign_processes=tuple(
            model.ForeignProcess(process.pid, process.user_name, process.memory_bytes)
            for process in message.foreign_processes
        ),
    )


def report(message: daemon_pb2.AttemptReport) -> model.AttemptReport | None:
    """None for a state that this version does not know."""
    state = ATTEMPT_STATE_FROM_PROTO.get(message.state)
    if state is None:
        return None
    return model.AttemptReport(
        attempt_id=message.attempt_id,
        state=state,
        reason=message.reason,
        message=message.message,
        exit_code=message.exit_code if message.HasField("exit_code") else None,
        exit_signal=message.exit_signal,
        start_time=seconds(message.start_time) if message.HasField("start_time") else None,
        end_time=seconds(message.end_time) if message.HasField("end_time") else None,
        final_log_offset=message.final_log_offset if state.ended else -1,
        final_results_offset=message.final_results_offset if state.ended else -1,
    )


def order(value: model.AttemptOrder) -> daemon_pb2.AttemptOrder:
    message = daemon_pb2.AttemptOrder(
        attempt_id=value.attempt_id,
        job_id=value.job_id,
        experiment_id=value.experiment_id,
        user_name=value.user_name,
        project=value.project,
        generation=value.generation,
        revision_id=value.revision_id,
        run=value.run,
        env=dict(value.env),
        secret_env_names=value.secret_env_names,
        parameters=dict(value.parameters),
        cpu_milli=value.cpu_milli,
        memory_bytes=value.memory_bytes,
        shm_bytes=value.shm_bytes,
        gpus=[job_pb2.GpuShare(gpu_uuid=g.uuid, milli=g.milli) for g in value.gpus],
        grace_period_milliseconds=round(value.grace_period_seconds * 1000),
        contact_timeout_milliseconds=round(value.contact_timeout_seconds * 1000),
        framework=value.framework,
        peers=[
            daemon_pb2.Peer(
                job_type=p.job_type,
                job_number=p.job_number,
                rank=p.rank,
                host=p.host,
                port=p.port,
                gpu_count=p.gpu_count,
            )
            for p in value.peers
        ],
        rank=value.rank,
        job_type=value.job_type,
        job_number=value.job_number,
        output_path=value.output_path,
    )
    if value.build_attempt_id:
        message.environment.install.extend(value.install)
        message.environment.build_attempt_id = value.build_attempt_id
    return message


def stop(effect: StopAttempt) -> daemon_service_pb2.StopAttempt:
    grace = effect.grace_period_seconds
    return daemon_service_pb2.StopAttempt(
        attempt_id=effect.attempt_id,
        grace_period_milliseconds=-1 if grace is None else round(grace * 1000),
        reason=effect.reason,
    )


def observer_response(
    value: PodsHere | FollowLog | Heard,
) -> daemon_service_pb2.SessionResponse:
    """What a daemon that observes is sent."""
    match value:
        case PodsHere():
            pods = [
                daemon_pb2.PodOfAttempt(attempt_id=attempt_id, pod_uid=uid)
                for uid, attempt_id in value.attempts.items()
            ]
            return daemon_service_pb2.SessionResponse(pods=daemon_service_pb2.PodsOfNode(pods=pods))
        case FollowLog():
            log = value.log
            follow = daemon_pb2.FollowContainerLog(
                reading_id=value.reading_id,
                namespace=log.namespace,
                pod_name=log.pod_name,
                pod_uid=log.pod_uid,
                container_name=log.container,
                follow=value.follow,
            )
            if value.since_time:
                follow.since_time.FromJsonString(value.since_time)
            return daemon_service_pb2.SessionResponse(follow_log=follow)
        case Heard():
            return _heard(value)


def _heard(value: Heard) -> daemon_service_pb2.SessionResponse:
    return daemon_service_pb2.SessionResponse(
        heartbeat_ack=daemon_service_pb2.HeartbeatAck(sequence=value.sequence)
    )


def response(effect: LaunchEffect | Heard) -> daemon_service_pb2.SessionResponse | None:
    """What a daemon is sent for an effect; None for what it need not know."""
    match effect:
        case StartAttempt():
            return daemon_service_pb2.SessionResponse(
                start=daemon_service_pb2.StartAttempt(order=order(effect.order))
            )
        case StopAttempt():
            return daemon_service_pb2.SessionResponse(stop=stop(effect))
        case ForgetAttempt():
            return daemon_service_pb2.SessionResponse(
                forget=daemon_service_pb2.ForgetAttempt(attempt_id=effect.attempt_id)
            )
        case Heard():
            return _heard(effect)
        case EndSession():
            return None


def welcome(
    opened: SessionOpened,
    cluster_id: str,
    heartbeat_seconds: float,
    lease_seconds: float,
) -> daemon_service_pb2.SessionResponse:
    return daemon_service_pb2.SessionResponse(
        welcome=daemon_service_pb2.Welcome(
            cluster_id=cluster_id,
            heartbeat_interval_milliseconds=round(heartbeat_seconds * 1000),
            lease_milliseconds=round(lease_seconds * 1000),
            desired=[order(o) for o in opened.desired],
            forget=opened.forget,
            stopping=[stop(s) for s in opened.stopping],
        )
    )
