"""riseml-configuration.yml: what a job's output folder says about the experiment that made it.

Years later it should still tell which code ran, with which parameters, on how many of what. Values
that are secret stay out of it.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, TypeAlias

import yaml

from riseml.spec.gpus import format_gpus
from riseml.spec.ids import ExperimentId
from riseml.spec.model import Parameter, Resources, TrainSpec
from riseml.spec.units import format_memory_exact, format_milli

FILE_NAME: Final = "riseml-configuration.yml"

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value]"

_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)


def render_configuration(
    spec: TrainSpec,
    experiment: ExperimentId,
    revision_id: str | None,
    parameters: tuple[Parameter, ...],
) -> str:
    """The file's text. ``parameters`` are this experiment's own; ``revision_id`` names its code."""
    content: dict[str, Value] = {
        "project": spec.project,
        "experiment": str(experiment),
        **({"revision": revision_id} if revision_id else {}),
        "parameters": {p.name: _typed(p.value) for p in parameters},
        **_software(spec),
        "run": list(spec.run),
        "jobs": {
            role.name: {"count": role.count, "resources": _resources(role.resources)}
            for role in spec.roles
        },
    }
    env: dict[str, Value] = {v.name: v.value for v in spec.env if not v.secret}
    if env:
        content["env"] = env
    if spec.labels:
        content["labels"] = dict(spec.labels)
    head = f"# Written by RiseML for {experiment}.\n"
    return head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _software(spec: TrainSpec) -> dict[str, Value]:
    software: dict[str, Value] = {}
    if spec.framework is not None:
        software["framework"] = spec.framework
    if spec.framework_version is not None:
        software["framework_version"] = spec.framework_version
    if spec.image is not None:
        software["image"] = spec.image
    if spec.install:
        software["install"] = list(spec.install)
    return software


def _resources(resources: Resources) -> dict[str, Value]:
    gpus = format_gpus(resources.gpu_milli, resources.gpu_model, resources.gpu_min_memory_bytes)
    return {
        "cpus": _typed(format_milli(resources.cpu_milli)),
        "mem": format_memory_exact(resources.memory_bytes),
        "gpus": _typed(gpus),
        **({"shm_size": format_memory_exact(resources.shm_bytes)} if resources.shm_bytes else {}),
    }


def _typed(text: str) -> Value:
    """Numbers and truths as such, so that a reader needs no conversion; all else as text."""
    if text in ("true", "false"):
        return text == "true"
    if not _NUMBER.fullmatch(text) or len(text) > 30:
        return text
    number = float(text)
    if number != number or number in (float("inf"), float("-inf")):
        return text
    is_whole = text.lstrip("-").isdigit()
    # A number that a double cannot hold keeps all its digits as text.
    if not is_whole and Decimal(repr(number)) != Decimal(text):
        return text
    return int(text) if is_whole else number
