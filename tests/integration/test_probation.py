"""A GPU falls ill, comes back, fails its test, passes the next one, and is given to jobs again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from riseml.v1 import experiment_pb2, node_pb2, state_pb2
from tests.integration.cluster import (
    Cluster,
    running_cluster,
    spec,
    submit,
    wait_for,
    wait_state,
)
from tests.nvml_stub.library import NvmlStub, build_library

SICK_XID = "event 1 48 1"
HEALTHY, PROBATION = node_pb2.GPU_HEALTH_HEALTHY, node_pb2.GPU_HEALTH_PROBATION
QUARANTINED = node_pb2.GPU_HEALTH_QUARANTINED


@pytest.fixture
def stub(tmp_path: Path) -> NvmlStub:
    made = NvmlStub(build_library(tmp_path / "nvml"), tmp_path / "scenario")
    made.play("healthy-8", "devices 2")
    return made


class SickTool:
    """An `nvidia-smi` that jobs find first, and that fails for as long as the test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tools"
        self.folder.mkdir(mode=0o755)
        self._flag = self.folder / "broken"
        tool = self.folder / "nvidia-smi"
        tool.write_text(
            f'#!/bin/sh\n[ -e {self._flag} ] && echo "no devices" && exit 9\necho H100\n'
        )
        tool.chmod(0o755)

    def breaks(self) -> None:
        self._flag.touch()

    def works(self) -> None:
        self._flag.unlink()


def gpu_that(
    cluster: Cluster, fits: Callable[[node_pb2.Gpu], bool], what: str, index: int = 1
) -> node_pb2.Gpu:
    """The GPU once it is as it is waited for."""
    client = cluster.client()

    def found() -> node_pb2.Gpu | None:
        gpus = client.nodes.get("n1").gpus
        return gpus[index] if len(gpus) > index and fits(gpus[index]) else None

    return wait_for(found, what)


def gpu_tests(cluster: Cluster) -> list[experiment_pb2.Experiment]:
    found = cluster.client().experiments.list(project="system-test")
    return sorted(found, key=lambda experiment: experiment.number)


def test_a_gpu_that_fell_ill_comes_back_by_a_test(stub: NvmlStub) -> None:
    with running_cluster("--probation-seconds", "1", node=False) as cluster:
        tool = SickTool(cluster.home)
        environ = {**stub.environ, "PATH": f"{tool.folder}:{os.environ['PATH']}"}
        node = cluster.start_node(environ=environ)
        client = cluster.client()
        gpu_that(cluster, lambda gpu: gpu.health == HEALTHY, "a healthy GPU")

        stub.play("healthy-8", "devices 2", SICK_XID)
        sick = gpu_that(cluster, lambda gpu: gpu.health == QUARANTINED, "the quarantine")
        assert sick.health_reason == "xid_48"
        waiting = submit(client, spec("true", gpu_milli=2000))

        # The daemon forgets it with its end; the control plane, which ends as well, does not.
        tool.breaks()
        stub.play("healthy-8", "devices 2")
        assert node.stop() == 0
        cluster.control_plane.stop()
        cluster.start_control_plane()
        cluster.start_node()
        failed = gpu_that(cluster, lambda gpu: gpu.health_reason == "test_failed", "a bad test")
        assert failed.health == QUARANTINED
        (test,) = gpu_tests(cluster)
        assert f"its test {test.id} failed" in failed.health_message
        assert test.user_name == "admin"
        (job,) = client.experiments.get(test.id).experiment.jobs
        assert [share.gpu_uuid for share in job.attempts[0].gpus] == [failed.uuid]
        waits = client.experiments.get(waiting).experiment
        assert waits.state == state_pb2.STATE_PENDING

        tool.works()
        gpu_that(cluster, lambda gpu: gpu.health == HEALTHY, "the GPU to be back")
        wait_state(client, waiting, state_pb2.STATE_FINISHED)
        second = gpu_tests(cluster)[-1]
        assert second.id != test.id
        wait_state(client, second.id, state_pb2.STATE_FINISHED)


def test_an_admin_releases_a_gpu_in_probation(stub: NvmlStub) -> None:
    with running_cluster("--probation-seconds", "600", node=False) as cluster:
        node = cluster.start_node(environ=stub.environ)
        client = cluster.client()
        gpu_that(cluster, lambda gpu: gpu.health == HEALTHY, "a healthy GPU")
        stub.play("healthy-8", "devices 2", SICK_XID)
        gpu_that(cluster, lambda gpu: gpu.health == QUARANTINED, "the quarantine")
        stub.play("healthy-8", "devices 2")
        node.stop()
        cluster.start_node()
        gpu = gpu_that(cluster, lambda gpu: gpu.health == PROBATION, "probation")
        assert "well again after XID 48" in gpu.health_message
        released = client.nodes.release_gpu("n1", gpu.uuid)
        assert released.gpus[1].health == HEALTHY
        assert not gpu_tests(cluster)
        wait_state(client, submit(client, spec("true", gpu_milli=2000)), state_pb2.STATE_FINISHED)
