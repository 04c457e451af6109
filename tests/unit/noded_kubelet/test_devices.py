"""Which pod has which GPU, by a kubelet that speaks its pod-resources API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from noded.kubelet import devices as module
from noded.kubelet.devices import Devices, gpu_uuid
from noded.kubelet.pod_resources import DeviceTable, read_devices
from noded.telemetry.model import GpuHealth, GpuInfo, GpuStatus, HealthState
from tests.unit.noded_kubelet.fake_kubelet import FakeKubelet


@pytest.fixture
async def kubelet(tmp_path: Path) -> AsyncIterator[FakeKubelet]:
    made = FakeKubelet(tmp_path / "kubelet.sock")
    yield made
    await made.stop()


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - it is asked, and tells nobody
        await asyncio.sleep(0.01)


def gpu(index: int, uuid: str) -> GpuStatus:
    return GpuStatus(GpuInfo(uuid, index, "NVIDIA H100", "H100", 80 << 30), _HEALTHY)


_HEALTHY = GpuHealth(HealthState.HEALTHY)


async def test_it_tells_devices_of_one_resource(kubelet: FakeKubelet) -> None:
    await kubelet.start()
    found = await read_devices(kubelet.socket, "nvidia.com/gpu")
    assert found == DeviceTable(frozenset({"GPU-a", "GPU-b"}), {"GPU-b": ("jobs", "ana-1")})


async def test_what_was_heard_stands_while_the_kubelet_is_away(
    kubelet: FakeKubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PERIOD_SECONDS", 0.01)
    devices = Devices(kubelet.socket)
    assert devices.describe([]) is None
    running = asyncio.create_task(devices.run())
    try:
        await until(devices.notes)
        assert "kubelet does not tell" in devices.notes()[0] and not devices.known
        await kubelet.start()
        await until(lambda: not devices.notes())
        await kubelet.stop()
        await until(devices.notes)
        said = devices.describe([gpu(0, "GPU-a"), gpu(1, "GPU-b")])
        assert said is not None
        assert list(said.offered_gpu_uuids) == ["GPU-a", "GPU-b"]
        (holder,) = said.holders
        assert (holder.gpu_uuid, holder.namespace, holder.pod_name) == ("GPU-b", "jobs", "ana-1")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_gpus_may_be_called_by_their_index() -> None:
    by_index = {"0": "GPU-a", "1": "GPU-b"}
    assert [gpu_uuid(one, by_index) for one in ("1", "GPU-a", "GPU-a::0", "7")] == [
        "GPU-b",
        "GPU-a",
        "GPU-a::0",
        "7",
    ]
