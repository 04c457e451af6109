"""The two containers of a job's pod."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.domain.model import AttemptOrder
from controlplane.launch.kubernetes import volumes
from controlplane.launch.kubernetes.api import Object
from controlplane.launch.kubernetes.command import job_command
from controlplane.launch.kubernetes.job_secrets import JobSecret, token_key, variable_key
from controlplane.launch.kubernetes.names import CODE_CONTAINER, GPU_RESOURCE, JOB_CONTAINER
from controlplane.launch.kubernetes.security import container_security_context
from controlplane.launch.kubernetes.settings import KubernetesSettings
from riseml.spec.environment import JobPlace, Member, job_environment, mpi_hostfile
from riseml.spec.ids import parse_attempt_id
from riseml.spec.model import EnvVar, Parameter

RESULTS: Final = f"{volumes.RUN_DIR}/results"
HOSTFILE: Final = f"{volumes.RUN_DIR}/hostfile"
CODE_MEMORY: Final = "512Mi"
"""Files pass through in pieces, so this does not depend on them."""
CODE_CPU_MILLI: Final = 50
CODE_MEMORY_BYTES: Final = 64 << 20


class NoImage(Exception):
    """Nothing says in which image a job runs; the message is for people."""


def code_container(
    order: AttemptOrder,
    settings: KubernetesSettings,
    *,
    secret: JobSecret | None,
    ca_pem: str,
    configuration: str,
) -> Object:
    """Brings the code, the SDK and riseml-configuration.yml; see `noded/pod/`."""
    environment = {
        "RISEML_ATTEMPT_ID": order.attempt_id,
        "RISEML_REVISION": order.revision_id,
        "RISEML_CODE_DIR": volumes.CODE_DIR,
        "RISEML_RUN_DIR": volumes.RUN_DIR,
    }
    if order.revision_id:
        environment |= {
            "RISEML_CONTROL_PLANE": settings.control_plane_address,
            "RISEML_CA_PEM": ca_pem,
        }
    hidden: list[Object] = []
    if order.revision_id and secret is not None:
        reference = secret.reference(token_key(order.attempt_id))
        hidden.append({"name": "RISEML_TOKEN", "valueFrom": reference})
    if configuration:
        environment["RISEML_CONFIGURATION"] = configuration
    if settings.output_volume is None:
        environment["RISEML_OUTPUT_DIR"] = volumes.OUTPUT_DIR
    else:
        environment["RISEML_OUTPUT_DIR"] = volumes.OUTPUT_ROOT
        environment["RISEML_OUTPUT_PATH"] = order.output_path
    return {
        "name": CODE_CONTAINER,
        "image": settings.platform_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["riseml-fetch-code"],
        "env": [*_variables(environment), *hidden],
        "resources": {"requests": _code_requests(order), "limits": {"memory": CODE_MEMORY}},
        "securityContext": container_security_context(settings),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": volumes.code_mounts(settings),
    }


def _code_requests(order: AttemptOrder) -> dict[str, str]:
    """Never more than the job has: a pod holds the larger of the two from its beginning on."""
    return {
        "cpu": f"{min(CODE_CPU_MILLI, order.cpu_milli)}m",
        "memory": str(min(CODE_MEMORY_BYTES, order.memory_bytes)),
    }


def job_container(
    order: AttemptOrder, settings: KubernetesSettings, secret: JobSecret | None
) -> Object:
    """Runs the job. Raises NoImage."""
    return {
        "name": JOB_CONTAINER,
        "image": image_of(order, settings),
        "imagePullPolicy": settings.image_pull_policy,
        "command": [_literal(word) for word in job_command(order)],
        "workingDir": volumes.CODE_DIR,
        "env": _job_variables(order, secret),
        "resources": _resources(order),
        "securityContext": container_security_context(settings),
        # The last lines of a container that failed stand in its status, also when it is gone.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": volumes.job_mounts(order, settings),
    }


def image_of(order: AttemptOrder, settings: KubernetesSettings) -> str:
    """The job's own image, its framework's, or the default. Raises NoImage."""
    if order.image:
        return order.image
    template = settings.framework_images.get(order.framework, "")
    if template:
        if "{version}" in template and not order.framework_version:
            raise NoImage(
                f"the image of framework {order.framework} needs a version here: set "
                "`framework_version` in riseml.yml, or name an `image`"
            )
        return template.replace("{version}", order.framework_version)
    if settings.default_image:
        return settings.default_image
    what = f"framework {order.framework}" if order.framework else "jobs that name none"
    raise NoImage(
        f"this cluster has no image for {what}: name an `image` in riseml.yml, or have an admin "
        "set kubernetes.default_image or kubernetes.framework_images"
    )


def _resources(order: AttemptOrder) -> Object:
    """Memory and GPUs are had for certain. CPU is too, and more of it while others leave it."""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    if order.cpu_milli:
        requests["cpu"] = f"{order.cpu_milli}m"
    if order.memory_bytes:
        requests["memory"] = limits["memory"] = str(order.memory_bytes)
    if order.gpus:
        requests[GPU_RESOURCE] = limits[GPU_RESOURCE] = str(len(order.gpus))
    return {"requests": requests, "limits": limits}


def job_variables(order: AttemptOrder) -> dict[str, str]:
    """The job's variables, but for what the supervisor adds to PATH and PYTHONPATH."""
    members = tuple(
        Member(p.job_type, p.job_number, p.host, p.port, p.gpu_count) for p in order.peers
    )
    wants_hostfile = order.framework == "mpi" and bool(members)
    secret = frozenset(order.secret_env_names)
    own = job_environment(
        JobPlace(
            attempt=parse_attempt_id(order.attempt_id),
            output_dir=volumes.OUTPUT_DIR,
            data_dir=volumes.DATA_DIR,
            results_path=RESULTS,
            gpu_uuids=tuple(gpu.uuid for gpu in order.gpus),
            resume_dir=volumes.OUTPUT_DIR if order.generation > 1 else None,
            parameters=tuple(Parameter(k, v) for k, v in sorted(order.parameters)),
            env=tuple(EnvVar(k, v, k in secret) for k, v in sorted(order.env)),
            framework=order.framework or None,
            framework_version=order.framework_version or None,
            members=members,
            hostfile_path=HOSTFILE if wants_hostfile else None,
        )
    )
    if order.gpus:
        # The device plugin chooses the GPUs and says which: ours are only counted.
        del own["CUDA_VISIBLE_DEVICES"], own["NVIDIA_VISIBLE_DEVICES"]
    else:
        # Images of CUDA say `all`.
        own["NVIDIA_VISIBLE_DEVICES"] = "void"
    if wants_hostfile:
        own["RISEML_HOSTFILE_TEXT"] = mpi_hostfile(members)
    return {**_base_variables(order), **own, "RISEML_RUN_DIR": volumes.RUN_DIR}


def _job_variables(order: AttemptOrder, secret: JobSecret | None) -> list[Object]:
    """Secret ones by where their values stand, unless RiseML says another value anyway."""
    own = dict(order.env)
    environment = job_variables(order)
    hidden: dict[str, Object] = {}
    for name in order.secret_env_names:
        if secret is not None and environment.get(name) == own.get(name):
            del environment[name]
            hidden[name] = {"name": name, "valueFrom": secret.reference(variable_key(name))}
    return [*_variables(environment), *hidden.values()]


def _base_variables(order: AttemptOrder) -> dict[str, str]:
    """What a job may set otherwise. The three of pip let install steps work without root."""
    return {
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PIP_NO_INPUT": "1",
        "PIP_USER": "1",
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PYTHONUSERBASE": f"{volumes.RUN_DIR}/user",
        "HOME": f"{volumes.RUN_DIR}/home",
        "TMPDIR": f"{volumes.RUN_DIR}/tmp",
        "USER": order.user_name,
        "LOGNAME": order.user_name,
        "SHELL": "/bin/sh",
    }


def _variables(environment: Mapping[str, str]) -> list[Object]:
    return [{"name": name, "value": _literal(value)} for name, value in environment.items()]


def _literal(text: str) -> str:
    """Kubernetes puts variables in where it finds ``$(NAME)``; ``$$`` is a dollar sign."""
    return text.replace("$", "$$")
