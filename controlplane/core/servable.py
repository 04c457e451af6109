"""What the launcher of this cluster can never serve: refused at submission, for no node that may
join would change it. What only lacks room waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from controlplane.core.settings import LauncherName
from controlplane.domain.errors import FieldViolation, invalid_spec
from riseml.spec.model import GPU, TrainSpec
from riseml.spec.roles import resources_path


def check_servable(spec: TrainSpec, launcher: LauncherName) -> None:
    """Raises InvalidRequest for a valid spec that cannot be served, with what to do instead."""
    violations = [*_OF_LAUNCHER[launcher](spec), *_of_any(spec)]
    if violations:
        raise invalid_spec(violations)


def _of_daemons(spec: TrainSpec) -> Iterator[FieldViolation]:
    if spec.image:
        yield FieldViolation(
            "train.image",
            "this cluster runs jobs as processes and cannot run images: use `install` steps "
            "(and `framework`) instead, or submit to a cluster with Kubernetes",
        )


def _of_kubernetes(spec: TrainSpec) -> Iterator[FieldViolation]:
    for role in spec.roles:
        if role.resources.gpu_milli % GPU:
            yield FieldViolation(
                f"{resources_path(spec, role)}.gpus",
                "this cluster runs jobs as pods, and its GPUs are given out whole: ask for 1 "
                "instead of a share, or submit to a cluster whose nodes run noded",
            )


def _of_any(spec: TrainSpec) -> Iterator[FieldViolation]:
    for path, used, instead in (
        ("train.secrets", spec.secrets, "name the variable under `env` without a value"),
        ("train.volumes", spec.volumes, "use DATA_DIR and OUTPUT_DIR"),
    ):
        if used:
            yield FieldViolation(path, f"not available on this cluster: {instead}")


_OF_LAUNCHER: Final = {"daemon": _of_daemons, "kubernetes": _of_kubernetes}
