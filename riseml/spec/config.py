"""riseml.yml as a TrainSpec, or every reason why not with its line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from riseml.spec import model, schema, tree
from riseml.spec.errors import FieldError, InvalidConfig, InvalidName, Problem
from riseml.spec.gpus import parse_gpus
from riseml.spec.model import (
    EnvVar,
    Resources,
    RetryPolicy,
    RoleSpec,
    SearchSpec,
    TrainSpec,
    UtilizationPolicy,
    Volume,
)
from riseml.spec.parameters import read_parameters
from riseml.spec.reading import Reader
from riseml.spec.taints import Taint, parse_taint
from riseml.spec.template import placeholders, shell_variables, variable_name
from riseml.spec.tree import Node, Scalar, Sequence
from riseml.spec.units import parse_cpus, parse_duration, parse_memory
from riseml.spec.validate import validate

DEFAULT_FILE_NAME: Final = "riseml.yml"
DEFAULT_MAX_RETRIES: Final = 3

_DISTRIBUTED: Final = "train.tensorflow.distributed"


@dataclass(frozen=True, slots=True)
class Config:
    """A valid riseml.yml."""

    spec: TrainSpec
    warnings: tuple[Problem, ...]
    """What is odd but does no harm."""
    file_name: str
    lines: Mapping[str, int]
    """The line of each key, by its path."""

    def locate(self, errors: Iterable[FieldError]) -> tuple[Problem, ...]:
        """Errors that a server found in the spec, with the lines of this file."""
        return tuple(_placer(self.file_name, self.lines).place(error) for error in errors)


def read_config(
    text: str, environ: Mapping[str, str], file_name: str = DEFAULT_FILE_NAME
) -> Config:
    """Read a riseml.yml. ``environ`` gives the values of variables that stand there without one.

    Raises InvalidConfig with all that is wrong.
    """
    reader = Reader(file_name)
    try:
        root = tree.read_tree(text)
    except tree.InvalidYaml as error:
        raise InvalidConfig((Problem(file_name, error.line, "", error.message),)) from error
    spec = _read_root(reader, root, environ)
    known_bad = [problem.path for problem in reader.problems]
    for wrong in dict.fromkeys(_in_words_of(reader, found) for found in validate(spec)):
        # What could not be read was replaced by a default, of which there is nothing to say.
        if not any(_touches(wrong.path, path) for path in known_bad):
            reader.problems.append(reader.place(wrong))
    if reader.problems:
        raise InvalidConfig(tuple(sorted(reader.problems, key=lambda problem: problem.line)))
    return Config(spec, tuple(_warnings(reader, spec)), file_name, reader.lines)


def _placer(file_name: str, lines: Mapping[str, int]) -> Reader:
    reader = Reader(file_name)
    reader.lines = dict(lines)
    return reader


def _touches(one: str, other: str) -> bool:
    return one == other or any(
        long.startswith((f"{short}.", f"{short}[")) for long, short in ((one, other), (other, one))
    )


def _in_words_of(reader: Reader, error: FieldError) -> FieldError:
    """Roles without resources of their own have those of ``train.resources``: name them so."""
    role, dot, key = error.path.removeprefix(f"{_DISTRIBUTED}.").partition(".resources.")
    if not dot or not error.path.startswith(_DISTRIBUTED) or error.path in reader.lines:
        return error
    shared = f"train.resources.{key}"
    own = f"{_DISTRIBUTED}.{role}.resources"
    return (
        error if own in reader.lines and shared not in reader.lines else replace(error, path=shared)
    )


def _warnings(reader: Reader, spec: TrainSpec) -> Iterable[Problem]:
    used = {name for command in spec.run for name in placeholders(command)}
    variables = {
        name
        for text in (*spec.run, *(variable.value for variable in spec.env))
        for name in shell_variables(text)
    }
    for parameter in spec.parameters:
        variable = variable_name(parameter.name)
        if parameter.name not in used and variable not in variables:
            path = f"train.parameters.{parameter.name}"
            message = (
                f"is used by no command; write {{{{{parameter.name}}}}} in run, "
                f"or ignore this if the program reads {variable} from its environment"
            )
            yield reader.place(FieldError(path, message))


def _read_root(reader: Reader, root: Node, environ: Mapping[str, str]) -> TrainSpec:
    keys = reader.section(root, "", schema.ROOT)
    project = reader.text(keys["project"], "project") if "project" in keys else None
    train = reader.section(keys.get("train"), "train", schema.TRAIN) if "train" in keys else {}
    framework, version, tensorboard = _framework(reader, train)
    resources = _resources(reader, train.get("resources"), "train.resources", Resources())
    whole, texts = _Optional(reader, train).whole, reader.texts
    image = train.get("image")
    queue = train.get("queue")
    return TrainSpec(
        project=project or "",
        run=texts(train.get("run"), "train.run", one=True),
        framework=framework,
        framework_version=version,
        tensorboard=tensorboard,
        image=reader.text(image, "train.image") if image is not None else None,
        install=texts(train.get("install"), "train.install", one=True),
        roles=_roles(reader, train, resources),
        parameters=read_parameters(reader, train.get("parameters"), "train.parameters"),
        concurrency=whole("concurrency", 1),
        search=_search(reader, train.get("search")),
        env=_env(reader, train.get("env"), environ),
        secrets=texts(train.get("secrets"), "train.secrets"),
        priority=whole("priority", model.DEFAULT_PRIORITY),
        queue=(reader.text(queue, "train.queue") if queue is not None else None)
        or model.DEFAULT_QUEUE,
        max_duration_seconds=_seconds(reader, train, "train", "max_duration"),
        grace_period_seconds=_default(
            _seconds(reader, train, "train", "grace_period"), model.DEFAULT_GRACE_PERIOD_SECONDS
        ),
        retry=_retry(reader, train.get("retry")),
        utilization_policy=_utilization(reader, train.get("utilization_policy")),
        volumes=_volumes(reader, train.get("volumes")),
        labels=_labels(reader, train.get("labels"), "train.labels"),
        node_selector=_labels(reader, train.get("node_selector"), "train.node_selector"),
        tolerations=_tolerations(reader, train.get("tolerations")),
    )


@dataclass(frozen=True, slots=True)
class _Optional:
    """Numbers of a section that may be absent."""

    reader: Reader
    keys: Mapping[str, Node]
    path: str = "train"

    def whole(self, name: str, default: int) -> int:
        node = self.keys.get(name)
        number = self.reader.whole(node, f"{self.path}.{name}") if node is not None else None
        return _default(number, default)


def _default(value: int | None, default: int) -> int:
    return default if value is None else value


def _seconds(reader: Reader, keys: Mapping[str, Node], path: str, name: str) -> int | None:
    node = keys.get(name)
    return reader.quantity(node, f"{path}.{name}", parse_duration) if node is not None else None


def _framework(reader: Reader, train: Mapping[str, Node]) -> tuple[str | None, str | None, bool]:
    node = train.get("framework")
    framework = reader.word(node, "train.framework", model.FRAMEWORKS) if node else None
    version: str | None = None
    tensorboard = False
    for name in ("tensorflow", "pytorch", "jax"):
        path = f"train.{name}"
        keys = reader.section(train.get(name), path, schema.TRAIN.below(name))
        if name in train and framework != name:
            # A framework that could not be read has its own problem already.
            if framework is not None or node is None:
                found = f"framework is {framework}" if framework else "framework is missing"
                reader.problem(path, f"{found}; write framework: {name}, or remove this")
            continue
        if "version" in keys:
            version = reader.text(keys["version"], f"{path}.version")
        if "tensorboard" in keys:
            tensorboard = reader.truth(keys["tensorboard"], f"{path}.tensorboard") or False
    return framework, version, tensorboard


def _resources(reader: Reader, node: Node | None, path: str, base: Resources) -> Resources:
    """The resources at a key; what is not given there is as in ``base``."""
    keys = reader.section(node, path, schema.TRAIN.below("resources"))
    resources = base
    if "cpus" in keys:
        cpus = reader.quantity(keys["cpus"], f"{path}.cpus", parse_cpus)
        resources = replace(resources, cpu_milli=_default(cpus, base.cpu_milli))
    if "mem" in keys:
        memory = reader.quantity(keys["mem"], f"{path}.mem", parse_memory)
        resources = replace(resources, memory_bytes=_default(memory, base.memory_bytes))
    if "shm_size" in keys:
        shm = reader.quantity(keys["shm_size"], f"{path}.shm_size", parse_memory)
        resources = replace(resources, shm_bytes=_default(shm, base.shm_bytes))
    if "gpus" in keys:
        gpus = reader.quantity(keys["gpus"], f"{path}.gpus", parse_gpus)
        if gpus is not None:
            resources = replace(
                resources,
                gpu_milli=gpus.gpu_milli,
                gpu_model=gpus.gpu_model,
                gpu_min_memory_bytes=gpus.gpu_min_memory_bytes,
            )
    return resources


def _roles(reader: Reader, train: Mapping[str, Node], resources: Resources) -> tuple[RoleSpec, ...]:
    nodes = _Optional(reader, train).whole("nodes", 1)
    tensorflow = train.get("tensorflow")
    distributed = None
    if isinstance(tensorflow, tree.Mapping):
        distributed = next(
            (node for key, node in tensorflow.entries if key.text == "distributed"), None
        )
    if distributed is None or (isinstance(distributed, Scalar) and distributed.is_null):
        framework = train.get("framework")
        if nodes > 1 and isinstance(framework, Scalar) and framework.text == "tensorflow":
            instead = f"tensorflow: {{distributed: {{worker: {nodes}}}}}"
            reader.problem("train.nodes", f"is not for tensorflow; write {instead}")
        name = "train" if nodes == 1 else "worker"
        return (RoleSpec(name, nodes, resources),)
    if "nodes" in train:
        reader.problem("train.nodes", f"{_DISTRIBUTED} says how many jobs there are; remove this")
    keys = reader.section(distributed, _DISTRIBUTED, schema.TENSORFLOW.below("distributed"))
    if not keys and isinstance(distributed, tree.Mapping):
        reader.problem(_DISTRIBUTED, "names no jobs; write {ps: 1, worker: 3}, for example")
    roles = tuple(
        role
        for name in model.ROLE_NAMES
        if name in keys and (role := _role(reader, keys[name], name, resources)) is not None
    )
    return roles or (RoleSpec("train", 1, resources),)


def _role(reader: Reader, node: Node, name: str, resources: Resources) -> RoleSpec | None:
    """A role of a distributed TensorFlow; None for a count of 0."""
    path = f"{_DISTRIBUTED}.{name}"
    count: int | None = 1
    if isinstance(node, tree.Mapping):
        keys = reader.section(node, path, schema.TENSORFLOW.below("distributed", name))
        count = _Optional(reader, keys, path).whole("count", 1)
        resources = _resources(reader, keys.get("resources"), f"{path}.resources", resources)
    else:
        count = reader.whole(node, path)
    return None if count == 0 else RoleSpec(name, _default(count, 1), resources)


def _search(reader: Reader, node: Node | None) -> SearchSpec | None:
    if node is None:
        return None
    path = "train.search"
    keys = reader.section(node, path, schema.TRAIN.below("search"))
    method = goal = metric = None
    if "method" in keys:
        method = reader.word(keys["method"], f"{path}.method", model.SEARCH_METHODS)
    if "goal" in keys:
        goal = reader.word(keys["goal"], f"{path}.goal", model.SEARCH_GOALS)
    if "metric" in keys:
        metric = reader.text(keys["metric"], f"{path}.metric")
    trials = _Optional(reader, keys, path).whole("max_trials", 0)
    if "max_trials" in keys and trials == 0:
        reader.problem(f"{path}.max_trials", "found '0'; write 1 or more")
    return SearchSpec(method or "grid", metric, goal or "maximize", trials)


def _env(reader: Reader, node: Node | None, environ: Mapping[str, str]) -> tuple[EnvVar, ...]:
    if node is None:
        return ()
    variables = []
    for name, value in reader.entries(node, "train.env").items():
        path = f"train.env.{name}"
        if isinstance(value, Scalar) and value.is_null:
            if name in environ:
                variables.append(EnvVar(name, environ[name], secret=True))
            else:
                reader.problem(
                    path, f"has no value here and none in your environment; export {name}=..."
                )
        elif (text := reader.text(value, path)) is not None:
            variables.append(EnvVar(name, text))
    return tuple(variables)


def _retry(reader: Reader, node: Node | None) -> RetryPolicy:
    if node is None:
        return RetryPolicy()
    path = "train.retry"
    keys = reader.section(node, path, schema.TRAIN.below("retry"))
    events = reader.texts(keys.get("on_events"), f"{path}.on_events", one=True)
    known = tuple(event for event in model.RETRY_EVENTS if event in events)
    unknown = tuple(event for event in events if event not in model.RETRY_EVENTS)
    most = _Optional(reader, keys, path).whole("max", DEFAULT_MAX_RETRIES)
    return RetryPolicy(known + unknown, most)


def _utilization(reader: Reader, node: Node | None) -> UtilizationPolicy | None:
    if node is None:
        return None
    path = "train.utilization_policy"
    keys = reader.section(node, path, schema.TRAIN.below("utilization_policy"))
    percent = _Optional(reader, keys, path).whole("min_gpu_utilization", 1)
    window = _seconds(reader, keys, path, "time_window")
    return UtilizationPolicy(percent, _default(window, 60))


def _volumes(reader: Reader, node: Node | None) -> tuple[Volume, ...]:
    if node is None:
        return ()
    path = "train.volumes"
    if not isinstance(node, Sequence):
        reader.problem(path, "write a list, such as [{name: scratch, mount_path: /scratch}]")
        return ()
    volumes = []
    for place, item in enumerate(node.items):
        below = f"{path}[{place}]"
        reader.lines[below] = item.line
        keys = reader.section(item, below, schema.TRAIN.below("volumes"))
        name = reader.text(keys["name"], f"{below}.name") if "name" in keys else None
        where = keys.get("mount_path")
        mount = reader.text(where, f"{below}.mount_path") if where is not None else None
        read_only = "read_only" in keys and reader.truth(keys["read_only"], f"{below}.read_only")
        volumes.append(Volume(name or "", mount or "", bool(read_only)))
    return tuple(volumes)


def _labels(reader: Reader, node: Node | None, path: str) -> tuple[tuple[str, str], ...]:
    if node is None:
        return ()
    labels = {}
    for name, value in reader.entries(node, path).items():
        text = reader.text(value, f"{path}.{name}")
        if text is not None:
            labels[name] = text
    return tuple(sorted(labels.items()))


def _tolerations(reader: Reader, node: Node | None) -> tuple[Taint, ...]:
    path = "train.tolerations"
    found = []
    for place, text in enumerate(reader.texts(node, path)):
        try:
            found.append(parse_taint(text))
        except InvalidName as error:
            reader.problem(f"{path}[{place}]", str(error))
    return tuple(sorted(found))
