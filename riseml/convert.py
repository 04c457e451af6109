"""TrainSpec to its message and back, in one place that client and server share.

The way there and back gives an equal TrainSpec. What a message leaves out takes the model's
default, so a client in another language may send only what it cares about. Rules are not checked
here: see
``riseml.spec.validate``.
"""

from __future__ import annotations

from riseml.spec import model
from riseml.v1 import spec_pb2 as pb


def train_spec_to_proto(spec: model.TrainSpec) -> pb.TrainSpec:
    """The message of a spec. Raises ValueError where a number does not fit the message's field."""
    message = pb.TrainSpec(
        project=spec.project,
        framework=spec.framework or "",
        framework_version=spec.framework_version or "",
        tensorboard=spec.tensorboard,
        image=spec.image or "",
        install=spec.install,
        run=spec.run,
        roles=[
            pb.Role(name=role.name, count=role.count, resources=resources_to_proto(role.resources))
            for role in spec.roles
        ],
        parameters=[pb.ParameterValues(name=p.name, values=p.values) for p in spec.parameters],
        concurrency=spec.concurrency,
        env=[pb.EnvVar(name=v.name, value=v.value, secret=v.secret) for v in spec.env],
        secrets=spec.secrets,
        priority=spec.priority,
        queue=spec.queue,
        max_duration_seconds=spec.max_duration_seconds or 0,
        grace_period_seconds=spec.grace_period_seconds,
        retry=pb.RetryPolicy(on_events=spec.retry.on_events, max_retries=spec.retry.max_retries),
        volumes=[
            pb.Volume(name=v.name, mount_path=v.mount_path, read_only=v.read_only)
            for v in spec.volumes
        ],
        labels=dict(spec.labels),
        node_selector=dict(spec.node_selector),
        tolerations=[pb.Toleration(key=key, value=value) for key, value in spec.tolerations],
    )
    if spec.search is not None:
        message.search.CopyFrom(
            pb.Search(
                method=spec.search.method,
                metric=spec.search.metric or "",
                goal=spec.search.goal,
                max_trials=spec.search.max_trials,
            )
        )
    if spec.utilization_policy is not None:
        message.utilization_policy.CopyFrom(
            pb.UtilizationPolicy(
                min_gpu_utilization_percent=spec.utilization_policy.min_gpu_utilization_percent,
                time_window_seconds=spec.utilization_policy.time_window_seconds,
            )
        )
    return message


def train_spec_from_proto(message: pb.TrainSpec) -> model.TrainSpec:
    """The spec of a message, with the model's defaults for what is absent; not validated."""
    search = message.search
    policy = message.utilization_policy
    return model.TrainSpec(
        project=message.project,
        run=tuple(message.run),
        framework=message.framework or None,
        framework_version=message.framework_version or None,
        tensorboard=message.tensorboard,
        image=message.image or None,
        install=tuple(message.install),
        roles=tuple(_role_from_proto(role) for role in message.roles) or (model.RoleSpec("train"),),
        parameters=tuple(
            model.ParameterValues(p.name, tuple(p.values)) for p in message.parameters
        ),
        concurrency=message.concurrency or 1,
        search=model.SearchSpec(
            method=search.method or "grid",
            metric=search.metric or None,
            goal=search.goal or "maximize",
            max_trials=search.max_trials,
        )
        if message.HasField("search")
        else None,
        env=tuple(model.EnvVar(v.name, v.value, v.secret) for v in message.env),
        secrets=tuple(message.secrets),
        priority=message.priority if message.HasField("priority") else model.DEFAULT_PRIORITY,
        queue=message.queue or model.DEFAULT_QUEUE,
        max_duration_seconds=message.max_duration_seconds or None,
        grace_period_seconds=message.grace_period_seconds
        if message.HasField("grace_period_seconds")
        else model.DEFAULT_GRACE_PERIOD_SECONDS,
        retry=model.RetryPolicy(tuple(message.retry.on_events), message.retry.max_retries),
        utilization_policy=model.UtilizationPolicy(
            policy.min_gpu_utilization_percent, policy.time_window_seconds
        )
        if message.HasField("utilization_policy")
        else None,
        volumes=tuple(model.Volume(v.name, v.mount_path, v.read_only) for v in message.volumes),
        labels=tuple(sorted(message.labels.items())),
        node_selector=tuple(sorted(message.node_selector.items())),
        tolerations=tuple(sorted((t.key, t.value) for t in message.tolerations)),
    )


def resources_to_proto(resources: model.Resources) -> pb.Resources:
    """The message of what one job asks for."""
    return pb.Resources(
        cpu_milli=resources.cpu_milli,
        memory_bytes=resources.memory_bytes,
        gpu_milli=resources.gpu_milli,
        gpu_model=resources.gpu_model or "",
        gpu_min_memory_bytes=resources.gpu_min_memory_bytes,
        shm_bytes=resources.shm_bytes,
    )


def resources_from_proto(message: pb.Resources) -> model.Resources:
    """What one job asks for, number by number: 0 is 0, not a default."""
    return model.Resources(
        cpu_milli=message.cpu_milli,
        memory_bytes=message.memory_bytes,
        gpu_milli=message.gpu_milli,
        gpu_model=message.gpu_model or None,
        gpu_min_memory_bytes=message.gpu_min_memory_bytes,
        shm_bytes=message.shm_bytes,
    )


def _role_from_proto(message: pb.Role) -> model.RoleSpec:
    resources = (
        resources_from_proto(message.resources)
        if message.HasField("resources")
        else model.Resources()
    )
    return model.RoleSpec(message.name, message.count, resources)
