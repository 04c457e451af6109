from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from riseml.spec import schema
from riseml.spec.config import Config, read_config
from riseml.spec.configuration import render_configuration
from riseml.spec.errors import FieldError, InvalidConfig
from riseml.spec.ids import ExperimentId
from riseml.spec.model import (
    EnvVar,
    Parameter,
    ParameterValues,
    Resources,
    RetryPolicy,
    RoleSpec,
    SearchSpec,
    TrainSpec,
    UtilizationPolicy,
    Volume,
)
from riseml.spec.reference import render_reference
from riseml.spec.starter import starter_config
from riseml.spec.validate import validate

FULL = """\
project: digits
train:
  framework: tensorflow
  tensorflow:
    version: 2.10
    tensorboard: true
    distributed: {ps: {count: 1, resources: {gpus: 0}}, worker: 3, master: 0}
  install:
    - pip install -r requirements.txt
  resources: {cpus: 2, mem: 4Gi, gpus: '80GB:2', shm_size: 2Gi}
  parameters:
    lr: [0.10, 1e-3]
    epochs: {range: {min: 3, max: 5, step: 1}}
  concurrency: 2
  search: {method: grid, metric: accuracy, goal: maximize, max_trials: 50}
  run:
    - python train.py --lr {{lr}} --epochs {{epochs}}
  env: {WANDB_MODE: offline, HF_TOKEN: , SWITCH: on, EMPTY: ""}
  secrets: [hf-token]
  priority: 60
  queue: research
  max_duration: 12h
  grace_period: 45s
  retry: {on_events: [interruption, error], max: 5}
  utilization_policy: {min_gpu_utilization: 10, time_window: 30m}
  volumes: [{name: scratch, mount_path: /scratch, read_only: true}]
  labels: {team: vision, app.kubernetes.io/part: x}
  node_selector: {zone: a}
  tolerations: [spot, dedicated=vision]
"""

BAD = """\
project: my digits
deploy: {}
train:
  framwork: pytorch
  framework: pytorh
  gpus: 3
  nodes: 3.5
  nodes: 4
  resources:
    cpu: 2
    mem: 4
    gpus: 1.5
  parameters:
    lr: {range: {min: 5, max: 3}}
    path: 3
  search: {method: asha}
  run:
    - python train.py --lr {{lrr}} {{lr}}
    -
  env: {HF_TOKEN: , RISEML_X: 3}
  priority: 500
  max_duration: 12
"""


def config(train: str, environ: dict[str, str] | None = None) -> Config:
    return read_config("project: p\ntrain:\n" + train, environ or {})


def problems(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(InvalidConfig) as caught:
        read_config(text, {})
    return [(problem.line, problem.path, problem.message) for problem in caught.value.problems]


def problems_of(train: str) -> list[tuple[int, str, str]]:
    return problems("project: p\ntrain:\n" + train)


def test_every_key_finds_its_place() -> None:
    read = read_config(FULL, {"HF_TOKEN": "s3cret"})
    resources = Resources(2000, 4 << 30, 2000, None, 80 * 10**9, 2 << 30)
    without_gpus = Resources(2000, 4 << 30, 0, None, 0, 2 << 30)
    assert read.spec == TrainSpec(
        project="digits",
        run=("python train.py --lr {{lr}} --epochs {{epochs}}",),
        framework="tensorflow",
        framework_version="2.10",
        tensorboard=True,
        install=("pip install -r requirements.txt",),
        roles=(RoleSpec("worker", 3, resources), RoleSpec("ps", 1, without_gpus)),
        parameters=(
            ParameterValues("lr", ("0.10", "1e-3")),
            ParameterValues("epochs", ("3", "4", "5")),
        ),
        concurrency=2,
        search=SearchSpec("grid", "accuracy", "maximize", 50),
        env=(
            EnvVar("WANDB_MODE", "offline"),
            EnvVar("HF_TOKEN", "s3cret", secret=True),
            EnvVar("SWITCH", "on"),
            EnvVar("EMPTY", ""),
        ),
        secrets=("hf-token",),
        priority=60,
        queue="research",
        max_duration_seconds=43_200,
        grace_period_seconds=45,
        retry=RetryPolicy(("error", "interruption"), 5),
        utilization_policy=UtilizationPolicy(10, 1800),
        volumes=(Volume("scratch", "/scratch", read_only=True),),
        labels=(("app.kubernetes.io/part", "x"), ("team", "vision")),
        node_selector=(("zone", "a"),),
        tolerations=(("dedicated", "vision"), ("spot", "")),
    )
    assert read.warnings == ()
    assert "s3cret" not in repr(read.spec)


def test_the_shortest_file_gets_the_defaults() -> None:
    read = read_config("project: digits\ntrain: {run: python train.py}\n", {})
    assert read.spec == TrainSpec("digits", ("python train.py",))
    assert read.spec.roles == (RoleSpec("train", 1, Resources(1000, 2 << 30)),)
    assert (read.spec.priority, read.spec.queue, read.spec.grace_period_seconds) == (
        50,
        "default",
        30,
    )


def test_all_that_is_wrong_is_said_at_once_with_lines_and_keys() -> None:
    expected = [
        (1, "project", "letters, digits"),
        (2, "deploy", "only trains"),
        (4, "train.framwork", "did you mean 'framework'"),
        (5, "train.framework", "did you mean pytorch"),
        (6, "train.gpus", "stands under train.resources"),
        (7, "train.nodes", "found '3.5'; write a whole number"),
        (8, "train.nodes", "first in line 7"),
        (10, "train.resources.cpu", "did you mean 'cpus'"),
        (11, "train.resources.mem", "write 4Gi"),
        (12, "train.resources.gpus", "write 1 or 2"),
        (14, "train.parameters.lr.range", "swap them"),
        (15, "train.parameters.path", "the variable PATH"),
        (16, "train.search.method", "not available yet"),
        (18, "train.run[0]", "did you mean {{lr}}"),
        (19, "train.run[1]", "found nothing"),
        (20, "train.env.HF_TOKEN", "export HF_TOKEN"),
        (20, "train.env.RISEML_X", "set by RiseML"),
        (21, "train.priority", "500 is not 0 to 100"),
        (22, "train.max_duration", "write 12s, 12m or 12h"),
    ]
    found = problems(BAD)
    assert [(line, path) for line, path, _ in found] == [(line, path) for line, path, _ in expected]
    for (_, path, message), (_, _, part) in zip(found, expected, strict=True):
        assert part in message, path


def test_a_problem_reads_like_a_compilers() -> None:
    with pytest.raises(InvalidConfig, match=re.escape("a.yml:2: train.run: is missing; add it")):
        read_config("project: p\ntrain: {}\n", {}, "a.yml")


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("", 1, "riseml init"),
        ("# nothing\n", 1, "riseml init"),
        ("a: b: c\n", 1, "no valid YAML"),
        ("project: p\n\ttrain: x\n", 2, "no valid YAML"),
        ("project: p\n--- \na: 1\n", 2, "second document"),
        ("project: &a p\ntrain: *a\n", 1, "anchors"),
        ("project: p\ntrain: *a\n", 2, "aliases"),
        ("project: !!python/object:os.system p\n", 1, "tags"),
        ("project: !!str p\n", 1, "tags"),
        ("? [a]\n: b\n", 1, "a key must be a word"),
        ("project: a\x00b\n", 1, "remove it"),
        ("a: " + "[" * 1000 + "]" * 1000, 1, "levels deep"),
        ("a" * 300_000, 1, "characters"),
        ("- a\n- b\n", 1, "found a list; write keys with values"),
        ("just text\n", 1, "found 'just text'"),
    ],
)
def test_files_that_are_no_configuration(text: str, line: int, part: str) -> None:
    first = problems(text)[0]
    assert first[0] == line and part in first[2]


@given(st.text(alphabet=st.sampled_from("ab:{}[]-,&*!'\"\n #|>?%@`~\t\x85\ufeff1"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for whole in (text, "project: p\ntrain:\n  run: x\n  env: " + text):
        try:
            read_config(whole, {})
        except InvalidConfig as error:
            assert error.problems


@pytest.mark.parametrize(
    ("train", "path", "part"),
    [
        ("  run: x\n  framework: pytorch\n  tensorflow: {version: 2}\n", "train.tensorflow",
         "framework is pytorch"),
        ("  run: x\n  jax: {version: 1}\n", "train.jax", "framework is missing"),
        ("  run: x\n  nodes: 4\n", "train.nodes", "need framework"),
        ("  run: x\n  nodes: 0\n  framework: jax\n", "train.nodes", "below 1"),
        ("  run: x\n  nodes: 4\n  framework: tensorflow\n", "train.nodes",
         "{distributed: {worker: 4}}"),
        ("  run: x\n  framework: tensorflow\n  tensorflow: {distributed: {ps: 1}}\n",
         "train.tensorflow.distributed", "add worker: 1"),
        ("  run: x\n  framework: tensorflow\n  tensorflow: {distributed: {}}\n",
         "train.tensorflow.distributed", "names no jobs"),
        ("  run: x\n  framework: tensorflow\n  tensorflow: {distributed: {master: 2}}\n",
         "train.tensorflow.distributed.master", "only 1"),
        ("  run: x\n  framework: tensorflow\n  nodes: 2\n"
         "  tensorflow: {distributed: {worker: 2}}\n", "train.nodes", "remove this"),
        ("  run: x\n  framework: pytorch\n  image: a/b:1\n  pytorch: {version: 2.9.0}\n",
         "train.pytorch.version", "remove one"),
        ("  run: x\n  image: 'a b'\n", "train.image", "no image"),
        ("  run: x\n  search: {method: random}\n  parameters: {a: [1, 2]}\n",
         "train.search.max_trials", "needs it"),
        ("  run: x\n  search: {max_trials: 0}\n  parameters: {a: [1, 2]}\n",
         "train.search.max_trials", "1 or more"),
        ("  run: x\n  search: {}\n", "train.search", "nothing to search"),
        ("  run: x\n  parameters: {a: [1, 1]}\n", "train.parameters.a[1]", "twice"),
        ("  run: x\n  parameters: {a: []}\n", "train.parameters.a", "no values"),
        ("  run: x\n  parameters: {a: {min: 1}}\n", "train.parameters.a.min", "known are range"),
        ("  run: x\n  parameters: {a: {}}\n", "train.parameters.a", "write a list"),
        ("  run: x\n  parameters: {a: {range: {min: 0, max: 1, step: 0}}}\n",
         "train.parameters.a.range", "above 0"),
        ("  run: x\n  parameters: {a: {range: {min: 0, max: 99999}}}\n",
         "train.parameters.a.range", "larger step"),
        ("  run: x\n  parameters: {a-b: 1}\n", "train.parameters.a-b", "no parameter's name"),
        ("  run: x\n  parameters: {a: 1, A: 2}\n", "train.parameters.A", "like 'a'"),
        ("  run: x\n  parameters: {a: 1}\n  env: {A: 2}\n", "train.parameters.a", "under env"),
        ("  run: x\n  parameters: {a: 1}\n  install: 'pip {{a}}'\n", "train.install[0]",
         "take no parameters"),
        ("  run: []\n", "train.run", "nothing to run"),
        ("  run: ' '\n", "train.run[0]", "empty command"),
        ("  run: {a: b}\n", "train.run", "write a list"),
        ("  run: x\n  command: y\n", "train.command", "did you mean 'run'"),
        ("  run: x\n  zzzz: y\n", "train.zzzz", "known are framework"),
        ("  run: x\n  retry: {max: 3}\n", "train.retry.on_events", "names no event"),
        ("  run: x\n  retry: {on_events: [errors]}\n", "train.retry.on_events", "use one of"),
        ("  run: x\n  utilization_policy: {min_gpu_utilization: 5, time_window: 5m}\n",
         "train.utilization_policy", "add resources.gpus"),
        ("  run: x\n  grace_period: 2h\n", "train.grace_period", "0s to 1h"),
        ("  run: x\n  resources: {shm_size: 4Gi}\n", "train.resources.shm_size", "raise mem"),
        ("  run: x\n  resources: {cpus: 0}\n", "train.resources.cpus", "0.001"),
        ("  run: x\n  volumes: [{name: a, mount_path: /data/x}]\n",
         "train.volumes[0].mount_path", "taken"),
        ("  run: x\n  volumes: {a: b}\n", "train.volumes", "write a list"),
        ("  run: x\n  labels: {team: 'a b'}\n", "train.labels.team", "label's value"),
        (
            "  run: x\n  labels: {riseml.com/tests-gpu: GPU-1}\n",
            "train.labels.riseml.com/tests-gpu",
            "RiseML's own",
        ),
        ("  run: x\n  labels: [a]\n", "train.labels", "found a list"),
        ("  run: x\n  tolerations: [spot, '=x']\n", "train.tolerations[1]", "KEY=VALUE"),
        ("  run: x\n  tolerations: [a=b=c]\n", "train.tolerations[0]", "no value of a taint"),
        ("  run: x\n  tolerations: [a, b, a]\n", "train.tolerations", "a stands here twice"),
        ("  run: x\n  tolerations: {a: b}\n", "train.tolerations", "write a list"),
        ("  run: x\n  queue: 'a b'\n", "train.queue", "no queue's name"),
        ("  run: x\n  secrets: [a, a]\n", "train.secrets[1]", "twice"),
        ("  run: x\n  framework: tensorflow\n  tensorflow: {tensorboard: maybe}\n",
         "train.tensorflow.tensorboard", "true or false"),
    ],
)  # fmt: skip
def test_what_is_refused_says_where_and_what_would_do(train: str, path: str, part: str) -> None:
    found = problems_of(train)
    assert [(path, True)] == [(where, part in message) for _, where, message in found], found


def test_roles_share_resources_and_their_mistakes_are_said_once() -> None:
    found = problems_of(
        "  run: x\n  framework: tensorflow\n"
        "  tensorflow: {distributed: {worker: 2, ps: {resources: {mem: 1Gi}}}}\n"
        "  resources:\n    cpus: 9999\n"
    )
    assert [(line, path) for line, path, _ in found] == [(7, "train.resources.cpus")]


def test_nodes_make_equal_workers() -> None:
    read = config("  run: x\n  framework: pytorch\n  nodes: 4\n  resources: {gpus: H100:8}\n")
    assert read.spec.roles == (RoleSpec("worker", 4, Resources(gpu_milli=8000, gpu_model="H100")),)
    assert config("  run: x\n  nodes: 1\n").spec.roles[0].name == "train"


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("min: 3, max: 5", ("3", "4", "5")),
        ("min: 0.1, max: 0.5, step: 0.1", ("0.1", "0.2", "0.3", "0.4", "0.5")),
        ("min: 0, max: 1, step: 0.3", ("0", "0.3", "0.6", "0.9")),
        ("min: -1, max: 1, step: 1", ("-1", "0", "1")),
        ("min: 7, max: 7", ("7",)),
    ],
)
def test_ranges_are_exact(rule: str, values: tuple[str, ...]) -> None:
    read = config("  run: 'x {{a}}'\n  parameters: {a: {range: {" + rule + "}}}\n")
    assert read.spec.parameters == (ParameterValues("a", values),)


def test_too_large_a_set_is_refused_and_says_how_to_limit_it() -> None:
    values = "{range: {min: 1, max: 101}}"
    train = "  run: x {{a}} {{b}}\n  parameters: {a: " + values + ", b: " + values + "}\n"
    assert "10201 combinations" in problems_of(train)[0][2]
    limited = config(train + "  search: {method: random, max_trials: 100}\n")
    assert limited.spec.search == SearchSpec("random", None, "maximize", 100)


def test_a_parameter_that_nothing_uses_is_a_warning() -> None:
    read = config(
        "  parameters:\n    a: 1\n    b: 2\n    c: 3\n    d: 4\n"
        "  run: x {{a}} $B\n  env: {X: '${C}'}\n"
    )
    assert [(problem.line, problem.path) for problem in read.warnings] == [
        (7, "train.parameters.d")
    ]


def test_a_servers_errors_get_this_files_lines() -> None:
    read = config("  run: x\n  resources:\n    gpus: 1\n")
    errors = [
        FieldError("train.resources.gpus", "no"),
        FieldError("train.resources.mem", "no"),
        FieldError("train.queue", "no"),
    ]
    assert [problem.line for problem in read.locate(errors)] == [5, 4, 2]


@pytest.mark.parametrize("folder", ["digits", "My Project!", "007", "null", "yes", "..", "ä"])
@pytest.mark.parametrize("script", [None, "train.py", "it's here.py"])
def test_the_starter_file_is_valid_and_its_comments_too(folder: str, script: str | None) -> None:
    text = starter_config(folder, script)
    assert read_config(text, {}).warnings == ()
    # With every comment that holds a key opened, it still reads.
    opened = re.sub(r"^  # (?=  |[a-z_]+:)", "  ", text, flags=re.MULTILINE)
    assert read_config(opened, {"HF_TOKEN": "x"}).spec.job_count == 2


def test_the_starter_file_runs_as_it_is(tmp_path: Path) -> None:
    (command,) = read_config(starter_config("digits"), {}).spec.run
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Hello")


def test_every_key_of_the_schema_is_in_the_full_file() -> None:
    tree = yaml.safe_load(FULL)
    tree["train"]["tensorflow"]["distributed"] = {
        role: {"count": 1, "resources": tree["train"]["resources"]}
        for role in ("ps", "worker", "master")
    }
    tree["train"] |= {"pytorch": {"version": 1}, "jax": {"version": 1}, "image": "a", "nodes": 1}

    def missing(key: schema.Key, value: object) -> list[str]:
        if isinstance(value, list):
            value = value[0] if value and isinstance(value[0], dict) else {}
        found = value if isinstance(value, dict) else {}
        names = [child.name for child in key.keys if child.name not in found]
        return names + [
            name for child in key.keys for name in missing(child, found.get(child.name))
        ]

    assert missing(schema.ROOT, tree) == []


def test_the_committed_reference_is_current() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "riseml-yml.md"
    assert page.read_text() == render_reference(), "run python -m riseml.spec.reference"


def test_a_valid_spec_of_the_wire_is_valid_and_absurd_ones_are_not() -> None:
    assert validate(TrainSpec("p", ("x",))) == []
    train = RoleSpec("train")
    absurd = [
        TrainSpec("p", ("x",), roles=()),
        TrainSpec("p", ("x",), roles=(train, train)),
        TrainSpec("p", ("x",), roles=(RoleSpec("boss"),)),
        TrainSpec("p", ("x",), roles=(RoleSpec("train", 2),)),
        TrainSpec("p", ("x",), roles=(train, RoleSpec("worker"))),
        TrainSpec("p", ("x",), framework="jax", roles=(RoleSpec("worker", 5000),)),
        TrainSpec("p", ("x",), roles=(RoleSpec("train", 1, Resources(gpu_milli=1500)),)),
        TrainSpec("p", ("x",), roles=(RoleSpec("train", 1, Resources(gpu_milli=-1)),)),
        TrainSpec("p", ("x",), roles=(RoleSpec("train", 1, Resources(gpu_model="H100")),)),
        TrainSpec("p", ("x\0",)),
        TrainSpec("p", ("x" * 100_000,)),
        TrainSpec("p", ("x",) * 1000),
        TrainSpec("../p", ("x",)),
        TrainSpec("p", ("x",), framework="caffe"),
        TrainSpec("p", ("x",), framework="mpi", framework_version="4"),
        TrainSpec("p", ("x",), tensorboard=True),
        TrainSpec("p", ("x",), concurrency=0),
        TrainSpec("p", ("x",), search=SearchSpec("magic", goal="win", max_trials=-1)),
        TrainSpec("p", ("x",), env=(EnvVar("A", "1"), EnvVar("A", "2"))),
        TrainSpec("p", ("x",), env=(EnvVar("A=B", "1"),)),
        TrainSpec("p", ("x",), env=tuple(EnvVar(f"A{n}", "x" * 30_000) for n in range(20))),
        TrainSpec("p", ("x",), queue=""),
        TrainSpec("p", ("x",), max_duration_seconds=0),
        TrainSpec("p", ("x",), grace_period_seconds=-1),
        TrainSpec("p", ("x",), retry=RetryPolicy(("error",), -1)),
        TrainSpec("p", ("x",), volumes=(Volume("a", "/x/../y"), Volume("", "/x"))),
        TrainSpec("p", ("x",), labels=(("a b", "c"),)),
        TrainSpec("p", ("x",), tolerations=(("a", "b c"),)),
        TrainSpec("p", ("x",), tolerations=(("", "b"),)),
        TrainSpec("p", ("x",), tolerations=tuple((f"k{n}", "") for n in range(65))),
    ]
    for spec in absurd:
        assert validate(spec), spec


def test_the_configuration_of_an_output_folder_tells_what_ran() -> None:
    spec = read_config(FULL, {"HF_TOKEN": "s3cret"}).spec
    parameters = tuple(
        Parameter(name, value)
        for name, value in [
            ("lr", "0.10"), ("small", "1e-3"), ("epochs", "3"), ("name", "007"), ("on", "true"),
            ("exact", "0.1234567890123456789"), ("huge", "1e999"), ("text", "a: b"),
        ]
    )  # fmt: skip
    text = render_configuration(spec, ExperimentId("ana", 17, 3), "r1", parameters)
    content = yaml.safe_load(text)
    assert content["experiment"] == "ana.17.3" and content["revision"] == "r1"
    assert content["parameters"] == {
        "lr": 0.1,
        "small": 0.001,
        "epochs": 3,
        "name": "007",
        "on": True,
        "exact": "0.1234567890123456789",
        "huge": "1e999",
        "text": "a: b",
    }
    assert content["jobs"]["worker"] == {
        "count": 3,
        "resources": {"cpus": 2, "mem": "4Gi", "gpus": "80G:2", "shm_size": "2Gi"},
    }
    assert content["env"] == {"WANDB_MODE": "offline", "SWITCH": "on", "EMPTY": ""}
    assert "s3cret" not in text
