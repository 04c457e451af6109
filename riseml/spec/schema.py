"""Every key that riseml.yml knows: what it takes, what it means. The reader and the docs use this.

The rules for values are in ``validate``; here are only the words about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Key:
    """One key with its place for others below it."""

    name: str
    takes: str
    """The kind of value, in words."""
    help: str
    default: str | None = None
    """As it would be written; None when there is none."""
    example: str | None = None
    """A value as it would be written in one line."""
    keys: tuple[Key, ...] = ()
    required: bool = False

    @property
    def key_names(self) -> tuple[str, ...]:
        """What may stand below it."""
        return tuple(key.name for key in self.keys)

    def below(self, *names: str) -> Key:
        """The key at a path below this one."""
        key = self
        for name in names:
            key = next(child for child in key.keys if child.name == name)
        return key


RESOURCES: Final = (
    Key("cpus", "number", "CPUs that are guaranteed; a job may use more while they are idle.", "1"),
    Key(
        "mem",
        "amount with a unit",
        "Memory. A suffix is required: `Ki`, `Mi`, `Gi`, `Ti` (powers of 1024) or `K`, `M`, `G`, "
        "`T` (powers of 1000).",
        "2Gi",
        "4Gi",
    ),
    Key(
        "gpus",
        "GPUs",
        "A count (`2`), a share of one GPU (`0.5`; more than one is a whole number, and where jobs "
        "are pods so is every request), a model with "
        "a count (`H100:2`), models of which any will do (`H100|A100:2`), or a memory that each "
        "GPU has at least (`80GB:2`).",
        "0",
        "H100:2",
    ),
    Key(
        "shm_size",
        "amount with a unit",
        "Size of `/dev/shm`, a part of `mem`.",
        "what the node has",
        "2Gi",
    ),
)


def _role(name: str, help: str) -> Key:
    return Key(
        name,
        "count, or a mapping",
        help,
        keys=(
            Key("count", "whole number", "How many.", "1"),
            Key(
                "resources",
                "mapping",
                "What each of them asks for; keys that are not given come from `train.resources`.",
                keys=RESOURCES,
            ),
        ),
    )


_VERSION: Final = Key(
    "version", "text", "The version that is installed, or the tag of the image.", example="2.9.0"
)

TENSORFLOW: Final = Key(
    "tensorflow",
    "mapping",
    "Only with `framework: tensorflow`.",
    keys=(
        Key("version", "text", _VERSION.help, example="2.19.0"),
        Key("tensorboard", "true or false", "Whether to run TensorBoard over the output.", "false"),
        Key(
            "distributed",
            "mapping",
            "Several jobs that find each other through `TF_CONFIG`. The first worker is the "
            "master unless there is one; when it fails, the experiment fails, and when all "
            "workers have finished, the parameter servers are stopped.",
            example="{ps: 1, worker: 3}",
            keys=(
                _role("master", "The master; at most one."),
                _role("worker", "Workers."),
                _role("ps", "Parameter servers."),
            ),
        ),
    ),
)

TRAIN: Final = Key(
    "train",
    "mapping",
    "What to run, and with what.",
    required=True,
    keys=(
        Key(
            "framework",
            "tensorflow, pytorch, jax or mpi",
            "Sets the variables by which its processes find GPUs and each other.",
            example="pytorch",
        ),
        TENSORFLOW,
        Key("pytorch", "mapping", "Only with `framework: pytorch`.", keys=(_VERSION,)),
        Key("jax", "mapping", "Only with `framework: jax`.", keys=(_VERSION,)),
        Key(
            "image",
            "text",
            "A container image, in place of a framework's version. Refused where only processes "
            "run.",
            example="pytorch/pytorch:2.9.0",
        ),
        Key(
            "install",
            "command or list",
            "Build steps. Run once per node, and again when they or the files that they name "
            "change; where jobs are pods, in each of them.",
            example="[pip install -r requirements.txt]",
        ),
        Key("resources", "mapping", "What each job asks of its node.", keys=RESOURCES),
        Key(
            "nodes",
            "whole number",
            "With pytorch, jax or mpi: so many equal jobs, which start together or not at all.",
            "1",
            "4",
        ),
        Key(
            "parameters",
            "mapping of name to a value, a list, or `{range: {min, max, step}}`",
            "Each combination of values becomes one experiment of a set. A job finds its values "
            "as variables in upper case, and `run` takes them as `{{name}}`. A range includes "
            "`max` if a step meets it; `step` is 1 unless given.",
            example="{lr: [0.1, 0.01], epochs: {range: {min: 3, max: 5}}}",
        ),
        Key("concurrency", "whole number", "Experiments of a set that run at once.", "1", "2"),
        Key(
            "search",
            "mapping",
            "How the experiments of a set are chosen.",
            keys=(
                Key(
                    "method",
                    "grid or random",
                    "`grid` tries all combinations, `random` draws `max_trials` of them. `asha` "
                    "is not available yet.",
                    "grid",
                ),
                Key("metric", "text", "The reported result to compare by.", example="accuracy"),
                Key("goal", "maximize or minimize", "What a good result is.", "maximize"),
                Key("max_trials", "whole number", "At most so many experiments.", example="50"),
            ),
        ),
        Key(
            "run",
            "command or list",
            "Commands for the shell, one after the other; the first that fails ends the job. "
            "`{{name}}` inserts a parameter, quoted for the shell.",
            example="[python train.py]",
            required=True,
        ),
        Key(
            "env",
            "mapping of name to value",
            "Variables. A name without a value takes that of whoever runs `train`, and is kept "
            "and shown like a secret.",
            example="{WANDB_MODE: offline, HF_TOKEN: }",
        ),
        Key("secrets", "list of names", "Stored secrets; masked in logs.", example="[hf-token]"),
        Key("priority", "0 to 100", "Higher goes first.", "50"),
        Key("queue", "text", "The queue to wait in.", "default", "research"),
        Key("max_duration", "time", "Ends the experiment after so long.", example="12h"),
        Key("grace_period", "time", "Between SIGTERM and SIGKILL when a job is stopped.", "30s"),
        Key(
            "retry",
            "mapping",
            "When to start again.",
            keys=(
                Key(
                    "on_events",
                    "list of error, interruption, node_lost",
                    "`error`: a job failed. `interruption`: its node stopped it. `node_lost`: "
                    "nobody knows whether it still runs; then jobs stop by themselves without "
                    "contact.",
                    "[]",
                    "[error, interruption]",
                ),
                Key(
                    "max",
                    "whole number",
                    "At most so many times; preemptions and lost nodes do not count.",
                    "3",
                ),
            ),
        ),
        Key(
            "utilization_policy",
            "mapping",
            "Ends an experiment whose GPUs stay idle: it is FAILED with the reason "
            "UTILIZATION_POLICY. It is idle while each GPU that it uses is below the minimum (what "
            "others do on a GPU that it shares counts as well), counted from when all of its jobs "
            "run, and anew from every reading that is not below; time without readings does not "
            "count. At half of the window its message warns.",
            keys=(
                Key(
                    "min_gpu_utilization",
                    "percent",
                    "Share of time in which a kernel ran, 1 to 100, as the driver tells it.",
                    example="10",
                    required=True,
                ),
                Key(
                    "time_window",
                    "time",
                    "For so long, 10s or more.",
                    example="30m",
                    required=True,
                ),
            ),
        ),
        Key(
            "volumes",
            "list of mappings",
            "Volumes of the cluster.",
            keys=(
                Key("name", "text", "The volume.", example="scratch", required=True),
                Key(
                    "mount_path", "folder", "Where jobs see it.", example="/scratch", required=True
                ),
                Key("read_only", "true or false", "Whether jobs may not write to it.", "false"),
            ),
        ),
        Key(
            "labels", "mapping", "Words of your own, to find experiments.", example="{team: vision}"
        ),
        Key("node_selector", "mapping", "Labels that a node must have.", example="{zone: a}"),
        Key(
            "tolerations",
            "list of texts",
            "Taints of nodes that its jobs put up with: `key=value`, or `key` for any value.",
            example="[dedicated=vision, spot]",
        ),
    ),
)

ROOT: Final = Key(
    "riseml.yml",
    "mapping",
    "Describes the experiments of a project.",
    keys=(
        Key(
            "project",
            "text",
            "Name of the project: letters, digits, `.`, `-`, `_`.",
            example="digits",
            required=True,
        ),
        TRAIN,
    ),
)

OTHER_WORDS: Final = {
    "cmd": "run",
    "command": "run",
    "commands": "run",
    "entrypoint": "run",
    "environment": "env",
    "envs": "env",
    "hyperparameters": "parameters",
    "memory": "mem",
    "num_nodes": "nodes",
    "params": "parameters",
    "script": "run",
    "setup": "install",
    "timeout": "max_duration",
}
"""What other systems call our keys."""

RETIRED: Final = {
    "deploy": "the first RiseML served models; this one only trains: remove it",
}
"""Keys that were known once, with what to say."""


def paths_of(name: str) -> list[str]:
    """Where a key of this name stands, as dotted paths of the keys above it, shortest first."""

    def walk(key: Key, path: str) -> list[str]:
        found = [path] if name in key.key_names else []
        for child in key.keys:
            found += walk(child, f"{path}.{child.name}" if path else child.name)
        return found

    return sorted(walk(ROOT, ""), key=lambda path: path.count("."))
