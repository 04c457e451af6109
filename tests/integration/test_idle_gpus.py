"""An experiment whose GPUs idle is told so, and stopped; one that computes now and then is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from riseml.follow import Follower
from riseml.spec.model import UtilizationPolicy
from riseml.v1 import node_pb2, state_pb2
from tests.integration.cluster import running_cluster, spec, submit, wait_for, wait_state
from tests.nvml_stub.library import NvmlStub, build_library


@pytest.fixture
def stub(tmp_path: Path) -> NvmlStub:
    made = NvmlStub(build_library(tmp_path / "nvml"), tmp_path / "scenario")
    made.play("healthy-8", "devices 2")
    return made


def test_idle_gpus_end_an_experiment_after_a_warning(stub: NvmlStub) -> None:
    with running_cluster(node=False) as cluster:
        cluster.start_node(environ=stub.environ)
        client = cluster.client()

        def healthy() -> bool:
            gpus = client.nodes.get("n1").gpus
            return len(gpus) == 2 and all(g.health == node_pb2.GPU_HEALTH_HEALTHY for g in gpus)

        wait_for(healthy, "healthy GPUs")
        policy = UtilizationPolicy(min_gpu_utilization_percent=10, time_window_seconds=10)
        wanted = replace(spec("sleep 300", gpu_milli=1000), utilization_policy=policy)
        made = client.experiments.create(wanted)
        assert not made.warnings
        idle = made.experiment.id
        wait_state(client, idle, state_pb2.STATE_RUNNING)
        (job,) = client.experiments.get(idle).experiment.jobs
        works = {gpu.uuid for gpu in client.nodes.get("n1").gpus}
        works -= {share.gpu_uuid for share in job.attempts[0].gpus}
        number = next(g.index for g in client.nodes.get("n1").gpus if g.uuid in works)
        stub.play("healthy-8", "devices 2", f"gpu {number} utilization 80")
        busy = submit(client, wanted)
        wait_state(client, busy, state_pb2.STATE_RUNNING)

        lines = [line.text.decode() for line in Follower(client, idle) if line.stream == "note"]
        (warning,) = [line for line in lines if "all of its GPUs have been below 10 %" in line]
        assert warning.startswith("--> RUNNING")
        assert "it is stopped when that lasts 10s" in warning
        ended = client.experiments.get(idle).experiment
        assert ended.state == state_pb2.STATE_FAILED
        assert ended.reason == "UTILIZATION_POLICY"
        assert ended.message.startswith("all of its GPUs stayed below 10 % for 10s")
        ran = ended.end_time.ToNanoseconds() - ended.start_time.ToNanoseconds()
        assert ran >= 9e9, "not before its window was over"
        assert client.experiments.get(busy).experiment.reason == ""
        client.experiments.kill(busy)
        wait_state(client, busy, state_pb2.STATE_KILLED)
