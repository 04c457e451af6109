"""The variables that a job finds, as a function of what it is and where its gang runs.

Ranks count from 0 over the experiment's jobs in the order master, worker 1, 2, ..., ps 1, 2, ...;
hosts and ports are given by whoever placed the gang.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from riseml.spec.ids import AttemptId
from riseml.spec.model import ROLE_NAMES, EnvVar, Parameter
from riseml.spec.template import variable_name

RESERVED_NAMES: Final = frozenset(
    {
        "OUTPUT_DIR",
        "DATA_DIR",
        "EXPERIMENT_ID",
        "CUDA_VISIBLE_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
        "TF_CONFIG",
        "MASTER_ADDR",
        "MASTER_PORT",
        "JAX_COORDINATOR_ADDRESS",
        "JAX_NUM_PROCESSES",
        "JAX_PROCESS_ID",
    }
)
"""Variables that RiseML sets and nobody else may; also all that begin with a reserved prefix."""

RESERVED_PREFIXES: Final = ("RISEML_", "PET_")

SYSTEM_NAMES: Final = frozenset(
    {
        "BASH_ENV",
        "ENV",
        "HOME",
        "IFS",
        "LANG",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "LOGNAME",
        "PATH",
        "PWD",
        "PYTHONHOME",
        "PYTHONPATH",
        "SHELL",
        "TMPDIR",
        "USER",
        "VIRTUAL_ENV",
    }
)
"""Variables that programs rely on: ``env`` may set them, a parameter may not."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def is_variable_name(name: str) -> bool:
    """Whether a shell can name the variable."""
    return _NAME.fullmatch(name) is not None


def is_reserved(name: str) -> bool:
    """Whether RiseML sets the variable itself."""
    return name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES)


@dataclass(frozen=True, slots=True)
class Member:
    """One job of a gang and where the others reach it."""

    role: str
    """One of ROLE_NAMES."""
    number: int
    """From 1 within its role."""
    host: str
    """A name or address; an IPv6 address without brackets."""
    port: int = 0
    """Free on that host for the framework's own use; 0 when none was set aside."""
    gpu_count: int = 0
    """GPU devices that it sees."""


@dataclass(frozen=True, slots=True)
class JobPlace:
    """Everything that a job's variables are made from."""

    attempt: AttemptId
    output_dir: str
    data_dir: str
    results_path: str
    """The file that ``riseml.report_result`` appends to."""
    gpu_uuids: tuple[str, ...] = ()
    """As NVML gives them (``GPU-...``); empty for a job without GPUs."""
    resume_dir: str | None = None
    """Where an earlier attempt may have left its state; None on the first."""
    parameters: tuple[Parameter, ...] = ()
    env: tuple[EnvVar, ...] = ()
    framework: str | None = None
    framework_version: str | None = None
    members: tuple[Member, ...] = ()
    """The whole gang with this job; empty for a job alone that nobody has to reach."""
    hostfile_path: str | None = None
    """Where the launcher put ``mpi_hostfile(members)``."""


def job_environment(place: JobPlace) -> dict[str, str]:
    """The variables of one job, over whatever the node sets first (PATH, HOME).

    The user's own come first, so that ours win should they collide.
    """
    return {
        **{variable.name: variable.value for variable in place.env},
        **{variable_name(p.name): p.value for p in place.parameters},
        **_own_variables(place),
        **_framework_variables(place),
    }


def _own_variables(place: JobPlace) -> dict[str, str]:
    devices = ",".join(place.gpu_uuids)
    return {
        "OUTPUT_DIR": place.output_dir,
        "DATA_DIR": place.data_dir,
        "EXPERIMENT_ID": str(place.attempt.job.experiment),
        "CUDA_VISIBLE_DEVICES": devices,
        # Empty gives a container no devices even where its image asks for all.
        "NVIDIA_VISIBLE_DEVICES": devices,
        "RISEML_ATTEMPT": str(place.attempt.generation),
        "RISEML_JOB_ID": str(place.attempt.job),
        "RISEML_NODE_RANK": str(_rank(place)),
        "RISEML_NODES_NUM": str(max(1, len(place.members))),
        "RISEML_GPUS_PER_NODE": str(len(place.gpu_uuids)),
        "RISEML_RESULTS": place.results_path,
        **({"RISEML_RESUME_DIR": place.resume_dir} if place.resume_dir is not None else {}),
    }


def _framework_variables(place: JobPlace) -> dict[str, str]:
    match place.framework:
        case "pytorch":
            return _torch_variables(place)
        case "jax":
            return _jax_variables(place)
        case "tensorflow" if len(place.members) > 1:
            return {"TF_CONFIG": tf_config(place)}
        case "mpi" if place.hostfile_path is not None:
            # Open MPI 4 and, with PRRTE, 5; others take RISEML_HOSTFILE on their command line.
            return {
                "RISEML_HOSTFILE": place.hostfile_path,
                "OMPI_MCA_orte_default_hostfile": place.hostfile_path,
                "PRTE_MCA_prte_default_hostfile": place.hostfile_path,
            }
        case _:
            return {}


def _torch_variables(place: JobPlace) -> dict[str, str]:
    """torchrun reads its options from PET_*: https://pytorch.org/docs/stable/elastic/run.html."""
    variables = {
        "PET_NNODES": str(max(1, len(place.members))),
        "PET_NPROC_PER_NODE": str(max(1, len(place.gpu_uuids))),
        "PET_NODE_RANK": str(_rank(place)),
    }
    first = _reachable_first(place)
    if first is not None:
        host, port = first.host, str(first.port)
        variables |= {"PET_MASTER_ADDR": host, "PET_MASTER_PORT": port}
        variables |= {"MASTER_ADDR": host, "MASTER_PORT": port}
    return variables


def _jax_variables(place: JobPlace) -> dict[str, str]:
    """What ``jax.distributed.initialize()`` looks for; a job alone needs none of it."""
    first = _reachable_first(place)
    if first is None or len(place.members) < 2:
        return {}
    return {
        "JAX_COORDINATOR_ADDRESS": _address(first),
        "JAX_NUM_PROCESSES": str(len(place.members)),
        "JAX_PROCESS_ID": str(_rank(place)),
    }


def tf_config(place: JobPlace) -> str:
    """TensorFlow's description of the cluster and of this job's part in it, as JSON.

    The first worker is the master unless there is one. TensorFlow 2 knows the master as ``chief``
    and refuses any other name for it (its multi_worker_util); TensorFlow 1 takes ``master``.
    """
    version = place.framework_version or ""
    chief = "master" if version == "1" or version.startswith("1.") else "chief"
    members = ranked(place.members)
    lead = next((m for m in members if m.role in ("master", "worker")), None)
    cluster: dict[str, list[str]] = {}
    task: dict[str, str | int] = {}
    job = place.attempt.job
    for member in members:
        task_type = chief if member is lead else member.role
        addresses = cluster.setdefault(task_type, [])
        if (member.role, member.number) == (job.type, job.number):
            task = {"type": task_type, "index": len(addresses)}
        addresses.append(_address(member))
    return json.dumps({"cluster": cluster, "task": task}, separators=(",", ":"))


def mpi_hostfile(members: tuple[Member, ...]) -> str:
    """Open MPI's hostfile: one line for each node, with a slot for each GPU, or one."""
    lines = (f"{member.host} slots={max(1, member.gpu_count)}\n" for member in ranked(members))
    return "".join(lines)


def ranked(members: tuple[Member, ...]) -> tuple[Member, ...]:
    """The members in the order of their ranks."""
    order: Mapping[str, int] = {name: place for place, name in enumerate(ROLE_NAMES)}
    return tuple(sorted(members, key=lambda member: (order[member.role], member.number)))


def _rank(place: JobPlace) -> int:
    job = place.attempt.job
    for rank, member in enumerate(ranked(place.members)):
        if (member.role, member.number) == (job.type, job.number):
            return rank
    if place.members:
        raise ValueError(f"{job} is none of the gang's members")
    return 0


def _reachable_first(place: JobPlace) -> Member | None:
    members = ranked(place.members)
    return members[0] if members and members[0].port else None


def _address(member: Member) -> str:
    host = f"[{member.host}]" if ":" in member.host else member.host
    return f"{host}:{member.port}"
