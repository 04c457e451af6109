from __future__ import annotations

import json

import pytest

from riseml.spec.environment import (
    JobPlace,
    Member,
    is_reserved,
    job_environment,
    mpi_hostfile,
    ranked,
)
from riseml.spec.ids import AttemptId, ExperimentId, JobId
from riseml.spec.model import EnvVar, Parameter


def place(
    role: str = "train",
    number: int = 1,
    *,
    framework: str | None = None,
    version: str | None = None,
    members: tuple[Member, ...] = (),
    gpus: tuple[str, ...] = (),
    parameters: tuple[Parameter, ...] = (),
    env: tuple[EnvVar, ...] = (),
    resume_dir: str | None = None,
    hostfile_path: str | None = None,
) -> JobPlace:
    return JobPlace(
        attempt=AttemptId(JobId(ExperimentId("ana", 17, 3), role, number), 2),
        output_dir="/output",
        data_dir="/data",
        results_path="/run/results",
        gpu_uuids=gpus,
        resume_dir=resume_dir,
        parameters=parameters,
        env=env,
        framework=framework,
        framework_version=version,
        members=members,
        hostfile_path=hostfile_path,
    )


WORKERS = tuple(Member("worker", n, f"10.0.0.{n}", 7000 + n, 8) for n in (1, 2, 3, 4))


def test_a_plain_job_knows_its_places_and_that_it_is_alone() -> None:
    assert job_environment(place()) == {
        "OUTPUT_DIR": "/output",
        "DATA_DIR": "/data",
        "EXPERIMENT_ID": "ana.17.3",
        "CUDA_VISIBLE_DEVICES": "",
        "NVIDIA_VISIBLE_DEVICES": "",
        "RISEML_ATTEMPT": "2",
        "RISEML_JOB_ID": "ana.17.3.train.1",
        "RISEML_NODE_RANK": "0",
        "RISEML_NODES_NUM": "1",
        "RISEML_GPUS_PER_NODE": "0",
        "RISEML_RESULTS": "/run/results",
    }


def test_gpus_are_named_by_uuid() -> None:
    variables = job_environment(place(gpus=("GPU-a", "GPU-b")))
    assert variables["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert variables["NVIDIA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert variables["RISEML_GPUS_PER_NODE"] == "2"


def test_parameters_come_in_upper_case_beside_the_users_own_variables() -> None:
    variables = job_environment(
        place(
            parameters=(Parameter("num_layers", "4"), Parameter("LR", "0.1")),
            env=(EnvVar("WANDB_MODE", "offline"), EnvVar("HF_TOKEN", "x", secret=True)),
            resume_dir="/output/attempt-1",
        )
    )
    assert variables["NUM_LAYERS"] == "4" and variables["LR"] == "0.1"
    assert variables["WANDB_MODE"] == "offline" and variables["HF_TOKEN"] == "x"
    assert variables["RISEML_RESUME_DIR"] == "/output/attempt-1"


def test_nothing_of_the_users_replaces_what_riseml_sets() -> None:
    variables = job_environment(place(env=(EnvVar("CUDA_VISIBLE_DEVICES", "0"),)))
    assert variables["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize(("number", "rank"), [(1, "0"), (2, "1"), (4, "3")])
def test_torchrun_finds_its_rendezvous(number: int, rank: str) -> None:
    gpus = tuple(f"GPU-{n}" for n in range(8))
    variables = job_environment(
        place("worker", number, framework="pytorch", members=WORKERS, gpus=gpus)
    )
    expected = {
        "PET_NNODES": "4",
        "PET_NPROC_PER_NODE": "8",
        "PET_NODE_RANK": rank,
        "PET_MASTER_ADDR": "10.0.0.1",
        "PET_MASTER_PORT": "7001",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "7001",
        "RISEML_NODE_RANK": rank,
        "RISEML_NODES_NUM": "4",
        "RISEML_GPUS_PER_NODE": "8",
    }
    assert expected.items() <= variables.items()


def test_torchrun_alone_and_without_gpus_starts_one_process() -> None:
    variables = job_environment(place(framework="pytorch"))
    assert variables["PET_NNODES"] == variables["PET_NPROC_PER_NODE"] == "1"
    assert "MASTER_ADDR" not in variables


def test_jax_finds_its_coordinator() -> None:
    members = (*WORKERS[1:], Member("worker", 1, "fd00::1", 7001))
    variables = job_environment(place("worker", 3, framework="jax", members=members))
    assert variables["JAX_COORDINATOR_ADDRESS"] == "[fd00::1]:7001"
    assert variables["JAX_NUM_PROCESSES"] == "4"
    assert variables["JAX_PROCESS_ID"] == "2"
    alone = job_environment(place(framework="jax"))
    assert not any(name.startswith("JAX_") for name in alone)


PS = (Member("ps", 1, "p1", 1), Member("ps", 2, "p2", 2))
TF_WORKERS = tuple(Member("worker", n, f"w{n}", 10 + n) for n in (1, 2, 3))
MASTER = Member("master", 1, "m1", 99)


@pytest.mark.parametrize(
    ("role", "number", "version", "members", "cluster", "task"),
    [
        (
            "worker", 1, "2.19.0", PS + TF_WORKERS,
            {"chief": ["w1:11"], "worker": ["w2:12", "w3:13"], "ps": ["p1:1", "p2:2"]},
            {"type": "chief", "index": 0},
        ),
        (
            "worker", 3, "2.19.0", PS + TF_WORKERS,
            {"chief": ["w1:11"], "worker": ["w2:12", "w3:13"], "ps": ["p1:1", "p2:2"]},
            {"type": "worker", "index": 1},
        ),
        (
            "ps", 2, "1.15.5", (*PS, *TF_WORKERS, MASTER),
            {
                "master": ["m1:99"],
                "worker": ["w1:11", "w2:12", "w3:13"],
                "ps": ["p1:1", "p2:2"],
            },
            {"type": "ps", "index": 1},
        ),
        (
            "worker", 1, None, (MASTER, *TF_WORKERS),
            {"chief": ["m1:99"], "worker": ["w1:11", "w2:12", "w3:13"]},
            {"type": "worker", "index": 0},
        ),
        (
            "worker", 2, None, TF_WORKERS,
            {"chief": ["w1:11"], "worker": ["w2:12", "w3:13"]},
            {"type": "worker", "index": 0},
        ),
    ],
)  # fmt: skip
def test_tensorflow_knows_the_cluster_and_its_part(
    role: str,
    number: int,
    version: str | None,
    members: tuple[Member, ...],
    cluster: dict[str, list[str]],
    task: dict[str, str | int],
) -> None:
    variables = job_environment(
        place(role, number, framework="tensorflow", version=version, members=members)
    )
    assert json.loads(variables["TF_CONFIG"]) == {"cluster": cluster, "task": task}


def test_tensorflow_alone_has_no_cluster() -> None:
    assert "TF_CONFIG" not in job_environment(place(framework="tensorflow"))


def test_mpi_gets_a_slot_for_each_gpu() -> None:
    assert mpi_hostfile((Member("worker", 2, "b", gpu_count=4), Member("worker", 1, "a"))) == (
        "a slots=1\nb slots=4\n"
    )
    variables = job_environment(
        place("worker", 1, framework="mpi", members=WORKERS, hostfile_path="/run/hosts")
    )
    assert variables["RISEML_HOSTFILE"] == "/run/hosts"


def test_ranks_go_from_the_master_over_the_workers_to_the_servers() -> None:
    assert [(m.role, m.number) for m in ranked((*PS, *TF_WORKERS, MASTER))] == [
        ("master", 1),
        ("worker", 1),
        ("worker", 2),
        ("worker", 3),
        ("ps", 1),
        ("ps", 2),
    ]


def test_a_job_that_is_not_of_its_gang_is_an_error() -> None:
    with pytest.raises(ValueError, match="none of the gang"):
        job_environment(place("worker", 9, members=WORKERS))


def test_all_that_is_set_is_reserved() -> None:
    gang = place(
        "worker", 1, framework="pytorch", members=WORKERS, gpus=("GPU-a",), resume_dir="/r"
    )
    assert all(is_reserved(name) for name in job_environment(gang))
