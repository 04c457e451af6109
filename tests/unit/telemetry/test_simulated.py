"""Simulated GPUs, the collector around them, and the messages they become."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noded.telemetry.collector import Collector, CollectorSettings
from noded.telemetry.convert import gpu_to_proto, node_sample_to_proto
from noded.telemetry.model import (
    AttemptSample,
    GpuHealth,
    GpuInfo,
    GpuProcess,
    GpuSample,
    GpuStatus,
    HealthState,
    HostSample,
    LiveAttempt,
    NodeSample,
    Occupancy,
    XidEvent,
)
from noded.telemetry.simulated import (
    CARDS,
    UUID_PREFIX,
    SimulationError,
    simulated_gpus,
    simulated_status,
)
from riseml.spec.gpus import model_fits
from riseml.v1 import node_pb2


def test_a_text_becomes_gpus_that_are_marked_as_simulated() -> None:
    gpus = simulated_gpus("2xA100, l4", "node-1")
    assert [gpu.model for gpu in gpus] == ["A100", "A100", "L4"]
    assert [gpu.index for gpu in gpus] == [0, 1, 2]
    assert len({gpu.uuid for gpu in gpus}) == 3
    for gpu in gpus:
        assert gpu.simulated
        assert gpu.uuid.startswith(UUID_PREFIX)
        assert "simulated" in gpu.name
        assert "," not in gpu.uuid


def test_uuids_stay_the_same_and_differ_between_nodes() -> None:
    assert simulated_gpus("8xH100", "a") == simulated_gpus("8xH100", "a")
    uuids = {gpu.uuid for node in ("a", "b") for gpu in simulated_gpus("8xH100", node)}
    assert len(uuids) == 16


def test_simulated_gpus_are_as_close_as_in_the_usual_machines() -> None:
    gpus = simulated_gpus("10xH100,2xL4,A100", "n")
    assert [gpu.nvlink_group for gpu in gpus] == [0] * 8 + [8] * 2 + [None] * 3
    assert [gpu.pcie_group for gpu in gpus] == [0] * 4 + [4] * 4 + [8] * 4 + [12]
    assert [gpu.numa_node for gpu in gpus] == [0] * 4 + [1] * 4 + [0] * 4 + [1]


@pytest.mark.parametrize("model", CARDS)
def test_every_card_is_what_its_name_says(model: str) -> None:
    (gpu,) = simulated_gpus(f"1x{model}", "n")
    assert model_fits(model, gpu.name)


@pytest.mark.parametrize(
    "text", ["", "8", "8x", "xH100", "8xFOO", "1xH100,,", "-1xH100", "9999xT4"]
)
def test_what_can_not_be_simulated_is_refused_with_words(text: str) -> None:
    with pytest.raises(SimulationError, match="simulated"):
        simulated_gpus(text, "n")


def test_an_idle_gpu_is_idle_and_a_busy_one_busy() -> None:
    (gpu,) = simulated_gpus("H100", "n")
    idle = simulated_status(gpu, (), since=1.0).sample
    busy = simulated_status(
        gpu, (LiveAttempt("ana.1.train.1-1", 7, {gpu.uuid: 1000}),), since=1.0
    ).sample
    assert idle is not None
    assert busy is not None
    assert (idle.utilization_percent, idle.memory_used_bytes, idle.processes) == (0, 0, ())
    assert busy.utilization_percent == 90
    assert [(p.pid, p.attempt_id) for p in busy.processes] == [(7, "ana.1.train.1-1")]
    assert (idle.power_milliwatts or 0) < (busy.power_milliwatts or 0) < 700_000


@given(st.lists(st.integers(1, 1000), max_size=4))
def test_a_simulated_gpu_never_shows_more_than_it_has(shares: list[int]) -> None:
    (gpu,) = simulated_gpus("T4", "n")
    attempts = [
        LiveAttempt(f"a.{n}.train.1-1", n, {gpu.uuid: milli}) for n, milli in enumerate(shares, 1)
    ]
    status = simulated_status(gpu, attempts, since=1.0)
    assert status.health.state is HealthState.HEALTHY
    assert status.occupancy.memory_bytes == 0
    assert status.sample is not None
    assert 0 <= (status.sample.utilization_percent or 0) <= 100
    assert 0 <= (status.sample.memory_used_bytes or 0) <= gpu.memory_bytes
    assert (status.sample.power_milliwatts or 0) <= (status.sample.power_limit_milliwatts or 0)


async def test_the_collector_says_what_the_node_does(tmp_path: Path) -> None:
    running: list[LiveAttempt] = []
    settings = CollectorSettings("n", tmp_path, period=0.02, simulate_gpus="2xL4", nvml=None)
    collector = Collector(settings, lambda: running)
    assert [gpu.info.model for gpu in collector.inventory()] == ["L4", "L4"]
    assert collector.newest() is None
    assert collector.take() is None
    assert collector.notes() == ("2 GPUs are simulated: no computation runs there",)
    task = asyncio.ensure_future(collector.run())
    try:
        async with asyncio.timeout(20):
            async for sample in collector.samples():
                assert len(sample.gpus) == 2
                break
            assert collector.take() is not None
            uuid = collector.inventory()[1].info.uuid
            running.append(LiveAttempt("ana.1.train.1-1", 0, {uuid: 500}))
            async for sample in collector.samples():
                used = sample.gpus[1].sample
                assert used is not None
                if used.utilization_percent == 45:
                    break
            assert collector.inventory()[1].occupancy.memory_bytes == 0
    finally:
        task.cancel()
        await asyncio.wait([task])


INFO = GpuInfo("GPU-1", 2, "NVIDIA H100", "H100", 80 << 30, "0:1", "550", numa_node=None)


def test_what_is_not_known_is_absent_in_the_message() -> None:
    health = GpuHealth(HealthState.QUARANTINED, "xid_48", "XID 48: bad")
    sample = GpuSample(
        "GPU-1",
        temperature_celsius=0,
        throttle_reasons=("sw_power_cap",),
        processes=(GpuProcess(5, 900, "eve"), GpuProcess(6, 70, "ana", "ana.1.train.1-1")),
    )
    occupancy = Occupancy(900, (GpuProcess(5, 900, "eve"), GpuProcess(8, None)))
    gpu = GpuStatus(INFO, health, sample, XidEvent("GPU-1", 48, 12.5), occupancy)
    host = HostSample(25.0, 4, 100, 60, 0.5, 7)
    message = node_sample_to_proto(
        "n1", NodeSample(1.0, 99.25, host, (gpu,), (AttemptSample("ana.1.train.1-1", 150.0, 8),))
    )
    assert message.node_name == "n1"
    assert message.sample_time.ToNanoseconds() == 99_250_000_000
    assert message.host.memory_available_bytes == 60
    assert message.attempts[0].cpu_percent == 150.0
    (reading,) = message.gpus
    assert reading.HasField("temperature_celsius")
    assert not reading.HasField("utilization_percent")
    assert not reading.HasField("remap_pending")
    assert list(reading.throttle_reasons) == ["sw_power_cap"]
    assert (reading.health, reading.health_reason) == (node_pb2.GPU_HEALTH_QUARANTINED, "xid_48")
    assert (reading.last_xid, reading.last_xid_time.seconds) == (48, 12)
    assert [p.attempt_id for p in reading.processes] == ["", "ana.1.train.1-1"]

    assert not gpu_to_proto(gpu).HasField("nvlink_group")
    listed = gpu_to_proto(replace(gpu, info=replace(INFO, nvlink_group=0, pcie_group=4)))
    assert (listed.nvlink_group, listed.HasField("nvlink_group"), listed.pcie_group) == (0, True, 4)
    named = [(p.pid, p.user_name, p.memory_bytes) for p in listed.foreign_processes]
    assert named == [(5, "eve", 900), (8, "", 0)]
    assert (listed.uuid, listed.index, listed.model) == ("GPU-1", 2, "H100")
    assert (listed.foreign_memory_bytes, listed.numa_node) == (900, -1)
    assert listed.health_message == "XID 48: bad"


def test_a_gpu_without_a_reading_is_in_the_message_with_its_health() -> None:
    gpu = GpuStatus(INFO, GpuHealth(HealthState.LOST, "gpu_lost"))
    message = node_sample_to_proto("n1", NodeSample(1.0, 2.0, HostSample(0, 1, 1, 1, 0, 0), (gpu,)))
    assert message.gpus[0].health == node_pb2.GPU_HEALTH_LOST
    assert not message.gpus[0].HasField("last_xid_time")
