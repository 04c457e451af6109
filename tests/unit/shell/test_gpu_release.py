"""node gpu-release, and how nodes show their GPUs."""

from __future__ import annotations

import json
import re

import pytest

from riseml.v1 import node_pb2
from shell.run import OK, USAGE
from tests.unit.sdk.fake_cluster import FakeCluster
from tests.unit.shell.conftest import CommandLine

GIB = 1 << 30


@pytest.fixture(autouse=True)
def node(cluster: FakeCluster) -> node_pb2.Node:
    gpus = [
        node_pb2.Gpu(
            uuid=f"GPU-{index}",
            index=index,
            model="H100",
            memory_bytes=80 * GIB,
            health=node_pb2.GPU_HEALTH_HEALTHY,
            nvlink_group=0,
            pcie_group=index,
        )
        for index in range(2)
    ]
    gpus[1].health = node_pb2.GPU_HEALTH_PROBATION
    gpus[1].health_message = "well again after XID 79 (25 Nov 10:11 UTC); ana.1 tests it"
    gpus[1].health_time.FromSeconds(1_764_065_460)
    gpus[0].foreign_memory_bytes = 3 * GIB
    gpus[0].foreign_processes.add(pid=812, user_name="eve", memory_bytes=3 * GIB)
    made = node_pb2.Node(name="n1", state=node_pb2.NODE_STATE_READY, gpus=gpus)
    cluster.nodes = [made]
    return made


@pytest.mark.parametrize("which", ["1", "GPU-1"])
def test_a_gpu_is_released_by_number_or_uuid(line: CommandLine, which: str) -> None:
    assert line.run("node", "gpu-release", "n1", which) == OK
    assert line.err == "GPU 1 of n1 is HEALTHY.\n"


def test_a_release_shows_the_node_as_json(line: CommandLine) -> None:
    assert line.run("node", "gpu-release", "n1", "1", "--format", "json") == OK
    assert json.loads(line.out)["gpus"][1]["health"] == "GPU_HEALTH_HEALTHY"


def test_a_gpu_that_is_not_there_is_named_with_those_that_are(line: CommandLine) -> None:
    assert line.run("node", "gpu-release", "n1", "7") == USAGE
    assert "n1 has no GPU 7; it has 0, 1." in line.err


def test_a_node_shows_what_its_gpus_are_close_to_and_who_uses_them(line: CommandLine) -> None:
    assert line.run("node", "show", "n1") == OK
    assert "used by others: 3Gi: 812 (eve), nvlink 0, pcie 0, numa 0" in line.out
    assert re.search(r"probation since 2025-11-2\d \d\d:\d\d:00, well again after XID 79", line.out)


def test_late_telemetry_is_part_of_the_state(line: CommandLine, node: node_pb2.Node) -> None:
    node.telemetry_late = True
    node.cordoned = True
    assert line.run("node", "list") == OK
    assert "READY, cordoned, telemetry late" in line.out
    assert line.run("system", "test") == USAGE
