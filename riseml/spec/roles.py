"""Which jobs an experiment may have, and what each of them may ask of a node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from riseml.spec.errors import FieldError
from riseml.spec.gpus import GPU_MODEL
from riseml.spec.model import GPU, ROLE_NAMES, Resources, RoleSpec, TrainSpec

MAX_GANG_JOBS: Final = 1_024
MAX_CPU_MILLI: Final = 4_096 * 1_000
MAX_MEMORY_BYTES: Final = 1 << 50
MIN_MEMORY_BYTES: Final = 1 << 20
MAX_GPUS: Final = 1_024

GANG_FRAMEWORKS: Final = ("pytorch", "jax", "mpi")
"""Frameworks whose jobs are all equal: ``nodes``."""


def check_roles(spec: TrainSpec) -> Iterator[FieldError]:
    """What is wrong with the spec's roles and their resources."""
    names = [role.name for role in spec.roles]
    unknown = [name for name in names if name not in ROLE_NAMES]
    if unknown or not names or len(set(names)) < len(names):
        found = ", ".join(names) or "none"
        yield FieldError("train", f"roles must be some of {', '.join(ROLE_NAMES)}; found {found}")
        return
    yield from _check_shape(spec)
    if spec.job_count > MAX_GANG_JOBS:
        yield FieldError(
            counts_path(spec),
            f"{spec.job_count} jobs are too many for one experiment; {MAX_GANG_JOBS} are allowed",
        )
    for role in spec.roles:
        yield from _check_resources(resources_path(spec, role), role.resources)


def counts_path(spec: TrainSpec) -> str:
    """The key of riseml.yml that says how many jobs there are."""
    return "train.tensorflow.distributed" if spec.framework == "tensorflow" else "train.nodes"


def resources_path(spec: TrainSpec, role: RoleSpec) -> str:
    """The key of riseml.yml that says what the role's jobs ask for."""
    if spec.framework == "tensorflow" and role.name != "train":
        return f"train.tensorflow.distributed.{role.name}.resources"
    return "train.resources"


def _check_shape(spec: TrainSpec) -> Iterator[FieldError]:
    counts = {role.name: role.count for role in spec.roles}
    for name, count in counts.items():
        if count < 1:
            path = f"{counts_path(spec)}.{name}" if _is_distributed(spec) else counts_path(spec)
            yield FieldError(path, f"{count} is below 1; write 1 or more")
    if list(counts) == ["train"]:
        if counts["train"] > 1:
            yield FieldError("train.nodes", "a plain job is one job; write nodes: 1")
    elif list(counts) == ["worker"] and spec.framework in GANG_FRAMEWORKS:
        return
    elif spec.framework == "tensorflow" and "train" not in counts:
        if counts.get("master", 1) > 1:
            yield FieldError("train.tensorflow.distributed.master", "there can be only 1")
        if "worker" not in counts and "master" not in counts:
            yield FieldError(
                "train.tensorflow.distributed", "has neither workers nor a master; add worker: 1"
            )
    else:
        yield FieldError(
            "train.nodes",
            f"several jobs need framework: {', '.join(GANG_FRAMEWORKS)}, "
            "or tensorflow with tensorflow.distributed",
        )


def _is_distributed(spec: TrainSpec) -> bool:
    return spec.framework == "tensorflow" and any(role.name != "train" for role in spec.roles)


def _check_resources(path: str, resources: Resources) -> Iterator[FieldError]:
    if not 1 <= resources.cpu_milli <= MAX_CPU_MILLI:
        yield FieldError(f"{path}.cpus", "is not 0.001 to 4096")
    if not MIN_MEMORY_BYTES <= resources.memory_bytes <= MAX_MEMORY_BYTES:
        yield FieldError(f"{path}.mem", "is not 1Mi to 1Pi")
    if not 0 <= resources.shm_bytes <= MAX_MEMORY_BYTES:
        yield FieldError(f"{path}.shm_size", "is not 0Mi to 1Pi")
    elif resources.shm_bytes > resources.memory_bytes >= MIN_MEMORY_BYTES:
        yield FieldError(
            f"{path}.shm_size", "is more than mem, which it is a part of; raise mem or lower it"
        )
    gpu = resources.gpu_milli
    gpus = f"{path}.gpus"
    if not 0 <= gpu <= MAX_GPUS * GPU:
        yield FieldError(gpus, f"is not 0 to {MAX_GPUS}")
    elif gpu > GPU and gpu % GPU:
        yield FieldError(
            gpus, "is neither a whole number nor a share of one GPU below 1, such as 0.5"
        )
    if resources.gpu_model is not None and not GPU_MODEL.fullmatch(resources.gpu_model):
        yield FieldError(gpus, f"{resources.gpu_model[:80]!r} is no GPU's model; write H100:2")
    if not 0 <= resources.gpu_min_memory_bytes <= MAX_MEMORY_BYTES:
        yield FieldError(gpus, "the memory of a GPU is not 0Mi to 1Pi")
    if gpu == 0 and (resources.gpu_model is not None or resources.gpu_min_memory_bytes):
        yield FieldError(gpus, "asks for no GPU of a kind; write 0, or 1 or more of them")
