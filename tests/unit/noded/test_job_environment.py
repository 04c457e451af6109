from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from noded.job_environment import JobBase, configuration_text, order_variables
from noded.uids import Identity
from riseml.spec.job_text import join_commands
from riseml.v1 import daemon_pb2

ME = Identity(os.getuid(), os.getgid(), separate=False)


def run(*commands: str, shell: str = "sh") -> tuple[int, str]:
    done = subprocess.run(
        [shell, "-e", "-c", join_commands(commands)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize(
    ("commands", "outcome"),
    [
        (("echo a", "echo b"), (0, "a\nb\n")),
        (("cd /; X=1", "pwd; echo $X"), (0, "/\n1\n")),
        (("exit 3", "echo b"), (3, "")),
        (("false && true", "echo b"), (1, "")),
        (("sh -c 'exit 7' && true", "echo b"), (7, "")),
        (("false || true", "echo b"), (0, "b\n")),
        (("false; echo never", "echo b"), (1, "")),
        (("for i in 1 2; do\n  echo $i\ndone", "echo b"), (0, "1\n2\nb\n")),
        (("cat <<END\ntext\nEND", "echo b"), (0, "text\nb\n")),
        (("echo a # with a remark", "echo b"), (0, "a\nb\n")),
    ],
)
def test_commands_run_one_after_the_other_until_one_fails(
    shell: str, commands: tuple[str, ...], outcome: tuple[int, str]
) -> None:
    assert run(*commands, shell=shell) == outcome


def test_little_of_the_daemon_passes_into_jobs(tmp_path: Path) -> None:
    pip = tmp_path / "etc-pip.conf"
    pip.write_text("[global]\n")
    daemon = {
        "PATH": os.environ["PATH"],
        "HOME": "/root",
        "LANG": "de_DE.UTF-8",
        "PIP_INDEX_URL": "https://index.example.org",
        "PIP_CACHE_DIR": "/root/.cache",
        "PIP_CONFIG_FILE": str(pip),
        "https_proxy": "http://proxy:1",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "RISEML_API_KEY": "secret",
        "LD_PRELOAD": "/evil.so",
        "PYTHONPATH": "/daemon",
    }
    base = JobBase(tmp_path, daemon, False, "")
    seen = base.variables("ana", ME, "/t")
    assert seen["LANG"] == "de_DE.UTF-8"
    assert seen["PIP_INDEX_URL"] and seen["https_proxy"]
    assert seen["PIP_CONFIG_FILE"] == str(tmp_path / "pip.conf")
    assert seen["HOME"] == str(tmp_path / "homes" / "ana") and seen["TMPDIR"] == "/t"
    assert not {"AWS_SECRET_ACCESS_KEY", "RISEML_API_KEY", "LD_PRELOAD", "PIP_CACHE_DIR"} & set(
        seen
    )
    assert "/daemon" not in seen["PYTHONPATH"]
    assert (tmp_path / "sdk" / "riseml" / "results.py").exists()


def test_python_is_found_even_where_only_python3_is(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    base = JobBase(tmp_path, {"PATH": str(programs)}, False, "")
    done = subprocess.run(
        ["/bin/sh", "-c", "python -c 'import riseml.results; print(riseml.__name__)'"],
        env=base.variables("ana", ME, "/tmp"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "riseml\n"


def test_the_configuration_is_yaml_that_says_what_ran() -> None:
    order = daemon_pb2.AttemptOrder(
        experiment_id="ana.17.3",
        project="digits",
        revision_id="abc",
        parameters={"lr": "0.1", "name": "on", "note": 'quo"te: #x\n', "n": "7"},
        run=["python train.py --lr 0.1", "echo: 'x' # y"],
        environment=daemon_pb2.EnvironmentOrder(install=["pip install numpy<2"]),
    )
    assert yaml.safe_load(configuration_text(order)) == {
        "project": "digits",
        "experiment": "ana.17.3",
        "revision": "abc",
        "parameters": {"lr": 0.1, "name": "on", "note": 'quo"te: #x\n', "n": 7},
        "install": ["pip install numpy<2"],
        "run": ["python train.py --lr 0.1", "echo: 'x' # y"],
    }


def test_a_gang_member_knows_its_peers_and_a_retry_where_to_resume() -> None:
    peers = [
        daemon_pb2.Peer(job_type="worker", job_number=n, rank=n - 1, host=f"h{n}", port=29400)
        for n in (1, 2)
    ]
    order = daemon_pb2.AttemptOrder(
        attempt_id="ana.17.worker.2-3",
        generation=3,
        framework="pytorch",
        peers=peers,
        rank=1,
        job_type="worker",
        job_number=2,
    )
    seen = order_variables(order, "/out", "/data", "/results", "")
    assert seen["PET_NODE_RANK"] == "1" and seen["MASTER_ADDR"] == "h1"
    assert seen["RISEML_RESUME_DIR"] == "/out" and seen["RISEML_ATTEMPT"] == "3"
    assert seen["CUDA_VISIBLE_DEVICES"] == ""
