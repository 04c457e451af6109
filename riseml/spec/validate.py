"""The rules that a TrainSpec obeys, whoever made it.

The client calls this on what it read from riseml.yml and adds the lines; the server calls it again
on what came over the wire. Errors stand under the names that riseml.yml has for things.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from riseml.spec import environment
from riseml.spec.errors import FieldError, InvalidName
from riseml.spec.ids import check_project_name, check_queue_name
from riseml.spec.labels import LABEL_KEY, LABEL_VALUE
from riseml.spec.model import (
    FRAMEWORKS,
    RETRY_EVENTS,
    SEARCH_GOALS,
    SEARCH_METHODS,
    SearchSpec,
    TrainSpec,
    Volume,
)
from riseml.spec.roles import check_roles
from riseml.spec.sets import MAX_CHILDREN, child_count
from riseml.spec.system_test import OWN_LABELS
from riseml.spec.taints import MAX_TAINTS, check_taint, format_taint
from riseml.spec.template import placeholders, unknown_placeholder, variable_name

MAX_COMMANDS: Final = 100
MAX_COMMAND_LENGTH: Final = 32 * 1024
MAX_PARAMETERS: Final = 100
MAX_VARIABLES: Final = 500
MAX_VALUE_LENGTH: Final = 32 * 1024
MAX_ENVIRONMENT_BYTES: Final = 256 * 1024
MAX_LABELS: Final = 64
MAX_RETRIES: Final = 100
MAX_SECONDS: Final = 10 * 365 * 86_400
MAX_GRACE_PERIOD_SECONDS: Final = 3_600
MAX_ENTRIES: Final = 32

_OBJECT_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}", re.ASCII)
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]{0,63}", re.ASCII)
_OWN_MOUNTS: Final = ("/data", "/output", "/proc", "/sys", "/dev")


def validate(spec: TrainSpec) -> list[FieldError]:
    """Everything that is wrong with the spec, by the order of riseml.yml's keys."""
    checks: tuple[Callable[[TrainSpec], Iterable[FieldError]], ...] = (
        _check_project,
        _check_framework,
        check_roles,
        _check_commands,
        _check_parameters,
        _check_set,
        _check_env,
        _check_scheduling,
        _check_tolerations,
        _check_times,
        _check_policies,
        _check_names,
    )
    return [error for check in checks for error in check(spec)]


def _check_project(spec: TrainSpec) -> Iterator[FieldError]:
    try:
        check_project_name(spec.project)
    except InvalidName as error:
        yield FieldError("project", str(error))


def _check_framework(spec: TrainSpec) -> Iterator[FieldError]:
    framework = spec.framework
    if framework is not None and framework not in FRAMEWORKS:
        yield FieldError(
            "train.framework", f"{framework!r} is unknown; use one of {', '.join(FRAMEWORKS)}"
        )
        return
    if spec.framework_version is not None:
        path = f"train.{framework}.version"
        if framework not in ("tensorflow", "pytorch", "jax"):
            yield FieldError("train.framework", "a version needs tensorflow, pytorch or jax")
        elif not _VERSION.fullmatch(spec.framework_version):
            yield FieldError(
                path, f"{spec.framework_version!r} is no version; write one like 2.19.0"
            )
        elif spec.image is not None:
            yield FieldError(path, "an image brings its own version; remove one of the two")
    if spec.tensorboard and framework != "tensorflow":
        yield FieldError("train.tensorflow.tensorboard", "needs framework: tensorflow")
    if spec.image is not None and not _IMAGE.fullmatch(spec.image):
        yield FieldError(
            "train.image", f"{spec.image[:80]!r} is no image; write one like pytorch/pytorch:2.9.0"
        )


def _check_commands(spec: TrainSpec) -> Iterator[FieldError]:
    if not spec.run:
        yield FieldError("train.run", "nothing to run; write a command such as python train.py")
    names = {parameter.name for parameter in spec.parameters}
    for key, commands in (("install", spec.install), ("run", spec.run)):
        if len(commands) > MAX_COMMANDS:
            yield FieldError(
                f"train.{key}",
                f"{len(commands)} commands are too many; {MAX_COMMANDS} are allowed, "
                "put more into a script",
            )
        for place, command in enumerate(commands):
            path = f"train.{key}[{place}]"
            yield from _check_text(path, command, MAX_COMMAND_LENGTH)
            if not command.strip():
                yield FieldError(path, "an empty command; write one or remove it")
            for name in placeholders(command):
                if key == "install" and name in names:
                    yield FieldError(
                        path, f"{{{{{name}}}}}: install steps take no parameters; use it in run"
                    )
                elif key == "run" and name not in names:
                    yield FieldError(path, unknown_placeholder(name, names))


def _check_text(path: str, text: str, max_length: int) -> Iterator[FieldError]:
    if "\0" in text:
        yield FieldError(path, "holds a NUL byte, which no command or variable can; remove it")
    if len(text) > max_length:
        yield FieldError(path, f"{len(text)} characters are too many; {max_length} are allowed")


def _check_parameters(spec: TrainSpec) -> Iterator[FieldError]:
    if len(spec.parameters) > MAX_PARAMETERS:
        yield FieldError(
            "train.parameters",
            f"{len(spec.parameters)} parameters are too many; {MAX_PARAMETERS} are allowed",
        )
    env_names = {variable.name for variable in spec.env}
    seen: dict[str, str] = {}
    for parameter in spec.parameters:
        path = f"train.parameters.{parameter.name}"
        variable = variable_name(parameter.name)
        if not environment.is_variable_name(parameter.name) or len(parameter.name) > 64:
            yield FieldError(
                path,
                f"{parameter.name[:80]!r} is no parameter's name; use up to 64 letters, digits "
                "and '_', with no digit first",
            )
            continue
        if environment.is_reserved(variable) or variable in environment.SYSTEM_NAMES:
            yield FieldError(path, f"would replace the variable {variable}; choose another name")
        if variable in seen:
            yield FieldError(
                path, f"is the variable {variable} like {seen[variable]!r}; choose another name"
            )
        if variable in env_names:
            yield FieldError(path, f"is also the variable {variable} under env; rename one")
        seen[variable] = parameter.name
        yield from _check_values(path, parameter.values)


def _check_values(path: str, values: tuple[str, ...]) -> Iterator[FieldError]:
    if not values:
        yield FieldError(path, "has no values; write one or a list of them")
    if len(values) > MAX_CHILDREN:
        yield FieldError(path, f"{len(values)} values are too many; {MAX_CHILDREN} are allowed")
        return
    seen: set[str] = set()
    for place, value in enumerate(values):
        yield from _check_text(f"{path}[{place}]", value, MAX_VALUE_LENGTH)
        if value in seen:
            yield FieldError(
                f"{path}[{place}]",
                f"{value[:80]!r} stands here twice; to repeat a run add a parameter such as seed",
            )
        seen.add(value)


def _check_set(spec: TrainSpec) -> Iterator[FieldError]:
    if not 1 <= spec.concurrency <= MAX_CHILDREN:
        yield FieldError("train.concurrency", f"{spec.concurrency} is not 1 to {MAX_CHILDREN}")
    if spec.search is not None:
        yield from _check_search(spec, spec.search)
    if spec.is_set and (count := child_count(spec)) > MAX_CHILDREN:
        path = "train.search.max_trials" if spec.search is not None else "train.parameters"
        yield FieldError(
            path,
            f"{count} combinations are too many; {MAX_CHILDREN} are allowed: "
            "lower search.max_trials, or give fewer values",
        )


def _check_search(spec: TrainSpec, search: SearchSpec) -> Iterator[FieldError]:
    path = "train.search"
    if search.method not in SEARCH_METHODS:
        yield FieldError(f"{path}.method", f"{search.method!r} is unknown; use grid or random")
    elif search.method == "asha":
        yield FieldError(
            f"{path}.method",
            "asha is not available yet: it stops children by what they report halfway, and nothing "
            "does that so far; use random with max_trials, or grid",
        )
    if search.goal not in SEARCH_GOALS:
        yield FieldError(f"{path}.goal", f"{search.goal!r} is unknown; use maximize or minimize")
    if search.metric is not None and not 1 <= len(search.metric) <= 128:
        yield FieldError(f"{path}.metric", "write a reported result's name of 1 to 128 characters")
    if search.max_trials < 0:
        yield FieldError(f"{path}.max_trials", f"{search.max_trials} is below 1; write 1 or more")
    elif search.method == "random" and search.max_trials == 0:
        yield FieldError(f"{path}.max_trials", "a random search needs it; write how many to try")
    if not spec.parameters:
        yield FieldError(path, "nothing to search; add train.parameters or remove search")


def _check_env(spec: TrainSpec) -> Iterator[FieldError]:
    if len(spec.env) > MAX_VARIABLES:
        yield FieldError(
            "train.env", f"{len(spec.env)} variables are too many; {MAX_VARIABLES} are allowed"
        )
    seen: set[str] = set()
    for variable in spec.env:
        path = f"train.env.{variable.name}"
        if not environment.is_variable_name(variable.name) or len(variable.name) > 255:
            yield FieldError(
                path,
                f"{variable.name[:80]!r} is no variable's name; use letters, digits and '_', "
                "with no digit first",
            )
        elif environment.is_reserved(variable.name):
            yield FieldError(path, "is set by RiseML itself; choose another name")
        if variable.name in seen:
            yield FieldError(path, "stands here twice; remove one")
        seen.add(variable.name)
        yield from _check_text(path, variable.value, MAX_VALUE_LENGTH)
    total = sum(len(v.name) + len(v.value.encode("utf-8", "replace")) + 2 for v in spec.env)
    if total > MAX_ENVIRONMENT_BYTES:
        yield FieldError(
            "train.env",
            f"{total} bytes are too many for the environment; {MAX_ENVIRONMENT_BYTES} are allowed",
        )


def _check_scheduling(spec: TrainSpec) -> Iterator[FieldError]:
    if not 0 <= spec.priority <= 100:
        yield FieldError("train.priority", f"{spec.priority} is not 0 to 100")
    try:
        check_queue_name(spec.queue)
    except InvalidName as error:
        yield FieldError("train.queue", str(error))
    for key, labels in (("labels", spec.labels), ("node_selector", spec.node_selector)):
        if len(labels) > MAX_LABELS:
            yield FieldError(
                f"train.{key}", f"{len(labels)} labels are too many; {MAX_LABELS} are allowed"
            )
        for name, value in labels:
            path = f"train.{key}.{name}"
            if key == "labels" and name.startswith(OWN_LABELS):
                yield FieldError(path, f"labels that begin with {OWN_LABELS} are RiseML's own")
            if not LABEL_KEY.fullmatch(name):
                yield FieldError(path, f"{name[:80]!r} is no label; use letters, digits, '-_.'")
            if not LABEL_VALUE.fullmatch(value):
                yield FieldError(
                    path,
                    f"{value[:80]!r} is no label's value; use up to 63 letters, digits, '-_.', "
                    "with a letter or digit at both ends",
                )


def _check_tolerations(spec: TrainSpec) -> Iterator[FieldError]:
    path = "train.tolerations"
    if len(spec.tolerations) > MAX_TAINTS:
        yield FieldError(
            path, f"{len(spec.tolerations)} tolerations are too many; {MAX_TAINTS} are allowed"
        )
    for place, toleration in enumerate(spec.tolerations):
        try:
            check_taint(toleration)
        except InvalidName as error:
            yield FieldError(path, str(error))
        if toleration in spec.tolerations[:place]:
            yield FieldError(path, f"{format_taint(toleration)} stands here twice; remove one")


def _check_times(spec: TrainSpec) -> Iterator[FieldError]:
    limit = spec.max_duration_seconds
    if limit is not None and not 1 <= limit <= MAX_SECONDS:
        yield FieldError("train.max_duration", "is not 1s to 3650d")
    if not 0 <= spec.grace_period_seconds <= MAX_GRACE_PERIOD_SECONDS:
        yield FieldError("train.grace_period", "is not 0s to 1h")


def _check_policies(spec: TrainSpec) -> Iterator[FieldError]:
    retry = spec.retry
    for event in dict.fromkeys(retry.on_events):
        if event not in RETRY_EVENTS:
            yield FieldError(
                "train.retry.on_events",
                f"{event!r} is unknown; use one of {', '.join(RETRY_EVENTS)}",
            )
    if not 0 <= retry.max_retries <= MAX_RETRIES:
        yield FieldError("train.retry.max", f"{retry.max_retries} is not 0 to {MAX_RETRIES}")
    elif retry.max_retries and not retry.on_events:
        yield FieldError("train.retry.on_events", "names no event; write [error], for example")
    policy = spec.utilization_policy
    if policy is None:
        return
    path = "train.utilization_policy"
    if not 1 <= policy.min_gpu_utilization_percent <= 100:
        yield FieldError(
            f"{path}.min_gpu_utilization",
            f"{policy.min_gpu_utilization_percent} is not 1 to 100 (percent)",
        )
    if not 10 <= policy.time_window_seconds <= MAX_SECONDS:
        yield FieldError(f"{path}.time_window", "is not 10s to 3650d")
    if not any(role.resources.gpu_milli for role in spec.roles):
        yield FieldError(path, "watches GPUs, and none is asked for; add resources.gpus")


def _check_names(spec: TrainSpec) -> Iterator[FieldError]:
    for key, entries in (("secrets", spec.secrets), ("volumes", spec.volumes)):
        if len(entries) > MAX_ENTRIES:
            yield FieldError(
                f"train.{key}", f"{len(entries)} entries are too many; {MAX_ENTRIES} are allowed"
            )
    for place, name in enumerate(spec.secrets):
        if not _OBJECT_NAME.fullmatch(name):
            yield FieldError(f"train.secrets[{place}]", f"{name[:80]!r} is no secret's name")
        elif name in spec.secrets[:place]:
            yield FieldError(f"train.secrets[{place}]", f"{name!r} stands here twice; remove one")
    mounted: set[str] = set()
    for place, volume in enumerate(spec.volumes):
        yield from _check_volume(f"train.volumes[{place}]", volume, mounted)
        mounted.add(volume.mount_path)


def _check_volume(path: str, volume: Volume, mounted: set[str]) -> Iterator[FieldError]:
    if not _OBJECT_NAME.fullmatch(volume.name):
        yield FieldError(f"{path}.name", f"{volume.name[:80]!r} is no volume's name")
    where = volume.mount_path
    parts = where.split("/")
    if not where.startswith("/") or any(part in ("", ".", "..") for part in parts[1:]):
        yield FieldError(
            f"{path}.mount_path",
            f"{where[:80]!r} is no plain absolute folder; write one like /scratch",
        )
    elif any(where == own or where.startswith(f"{own}/") for own in _OWN_MOUNTS):
        yield FieldError(f"{path}.mount_path", f"{where!r} is taken; choose another folder")
    elif where in mounted:
        yield FieldError(f"{path}.mount_path", f"{where!r} is used twice; choose another folder")
    yield from _check_text(f"{path}.mount_path", where, 1024)
