"""The self check: what it asks for, and how it judges."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from riseml.cri import encode
from riseml.spec.system_test import _SCRIPTS, spec_of
from riseml.spec.validate import validate
from riseml.v1 import node_pb2, state_pb2
from shell.commands.system_test import kinds
from shell.run import FAILED, OK, USAGE
from tests.nvml_stub.library import build_cuda
from tests.unit.sdk.fake_cluster import FakeCluster, one
from tests.unit.shell.conftest import CommandLine

READY = node_pb2.Node(name="n1", state=node_pb2.NODE_STATE_READY)


@pytest.mark.parametrize("kind", sorted(_SCRIPTS))
def test_experiments_are_valid_and_bound_to_their_node(kind: str) -> None:
    spec = spec_of("n1", kind)
    assert list(validate(spec)) == []
    assert spec.node_selector == (("riseml.com/node", "n1"),)


@pytest.mark.parametrize("kind", ["cpu", "memory", "disk", "gpu"])
def test_scripts_run_and_say_what_they_found(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", spec_of("n1", kind).run[0]],
        env={"PATH": "/usr/bin:/bin", "OUTPUT_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": "x"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("system test: ")
    assert not list(tmp_path.iterdir())


def run_gpu_script(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", spec_of("n1", "gpu").run[0]],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def cuda(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_cuda(tmp_path_factory.mktemp("cuda")))


@pytest.mark.parametrize("devices", ["GPU-1", "GPU-1,GPU-2"])
def test_the_memory_of_every_given_gpu_is_tried(cuda: str, devices: str) -> None:
    count = str(len(devices.split(",")))
    done = run_gpu_script(
        LD_LIBRARY_PATH=cuda, CUDA_VISIBLE_DEVICES=devices, RISEML_CUDA_DEVICES=count
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"system test: given {devices}, 64 MiB written and read back\n"


@pytest.mark.parametrize(
    ("devices", "more", "words"),
    [
        ("GPU-1", {"RISEML_CUDA_BAD_BIT": "1"}, "memory of device 0 holds something else"),
        ("GPU-1", {"RISEML_CUDA_DEVICES": "0"}, "CUDA sees 0 devices"),
        ("GPU-1,GPU-2", {}, "CUDA sees 1 devices"),
        ("", {}, "CUDA_VISIBLE_DEVICES is empty"),
    ],
)
def test_a_gpu_that_does_not_hold_what_is_written_fails(
    cuda: str, devices: str, more: dict[str, str], words: str
) -> None:
    done = run_gpu_script(LD_LIBRARY_PATH=cuda, CUDA_VISIBLE_DEVICES=devices, **more)
    assert done.returncode != 0
    assert words in done.stderr


def test_a_simulated_gpu_has_no_memory_to_try(cuda: str) -> None:
    done = run_gpu_script(LD_LIBRARY_PATH=cuda, CUDA_VISIBLE_DEVICES="SIM-H100-0-0")
    assert done.stdout == "system test: given SIM-H100-0-0, simulated\n"


def test_gpu_is_tried_only_where_there_is_one() -> None:
    assert "gpu" not in kinds(READY)
    assert "gpu" in kinds(node_pb2.Node(gpus=[node_pb2.Gpu()]))


def play(cluster: FakeCluster, failing: str) -> threading.Thread:
    """Each experiment ends at once; the one with the id ``failing`` badly."""

    def run() -> None:
        for number in range(1, 4):
            id = f"ana.{number}"
            with cluster.changed:
                while id not in cluster.experiments:
                    cluster.changed.wait(20)
            bad = id == failing
            ended = one(id, state_pb2.STATE_FAILED if bad else state_pb2.STATE_FINISHED)
            ended.jobs[0].attempts[0].exit_code = int(bad)
            said = b"AssertionError: no\n" if bad else b"system test: fine\n"
            cluster.write_log(f"{id}.train.1-1", encode(1, "stdout", said), end=True)
            cluster.put(ended)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize(("failing", "status"), [("", OK), ("ana.2", FAILED)])
def test_one_failure_fails_the_check(
    line: CommandLine, cluster: FakeCluster, failing: str, status: int
) -> None:
    cluster.nodes = [READY]
    player = play(cluster, failing)
    assert line.run("system", "test") == status
    player.join()
    rows = [row.split() for row in line.out.splitlines()[1:]]
    assert [row[1] for row in rows] == ["cpu", "memory", "disk"]
    assert [row[3] for row in rows] == ["ok", "failed" if failing else "ok", "ok"]
    assert ("AssertionError: no" in line.out) == bool(failing)


def test_nodes_that_are_not_ready_are_left_out(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.nodes = [node_pb2.Node(name="n1", state=node_pb2.NODE_STATE_LOST)]
    assert line.run("system", "test") == USAGE
    assert "n1 is left out: it is LOST" in line.err
    assert line.run("system", "test", "--nodename", "n9") == USAGE
