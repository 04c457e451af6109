"""Names of models and reasons, and the messages of the NVML child."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noded.telemetry import naming, wire
from noded.telemetry.model import GpuInfo, GpuProcess, GpuSample, ReadingFault, XidEvent
from riseml.spec.gpu_names import short_model
from riseml.spec.gpus import model_fits


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA GB200", "GB200"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("Tesla T4", "T4"),
        ("Tesla P100-PCIE-16GB", "P100"),
        ("Tesla K80", "K80"),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX6000Ada"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA GeForce RTX 3080 Ti", "RTX3080Ti"),
        ("NVIDIA GeForce GTX 1080", "GTX1080"),
        ("Quadro RTX 8000", "RTX8000"),
        ("NVIDIA TITAN V", "TITANV"),
        ("Graphics Device", "GraphicsDevice"),
    ],
)
def test_the_short_model_is_what_people_write(name: str, model: str) -> None:
    assert short_model(name) == model
    assert model_fits(model, name)


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0, ()),
        (0x1, ()),  # idle
        (0x5, ("sw_power_cap",)),
        (0x68, ("hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown")),
        (0x10000, ("unknown_0x10000",)),
    ],
)
def test_throttle_reasons_have_names(bits: int, names: tuple[str, ...]) -> None:
    assert naming.throttle_reasons(bits) == names


def test_recovery_actions_have_names() -> None:
    assert naming.recovery_action(0) == "none"
    assert naming.recovery_action(2) == "node_reboot"
    assert naming.recovery_action(77) == "unknown_77"


FULL = GpuSample(
    "GPU-1",
    utilization_percent=50,
    memory_used_bytes=1 << 40,
    throttle_reasons=("sync_boost",),
    processes=(GpuProcess(7, None), GpuProcess(8, 9)),
)


@pytest.mark.parametrize(
    "message",
    [
        wire.Hello("550", (GpuInfo("GPU-1", 0, "N", "M", 5),), (wire.Unopened(1, "gone", True),)),
        wire.Failed(9, "Driver Not Loaded"),
        wire.Readings((FULL, GpuSample("GPU-2", ReadingFault.LOST, "GPU is lost"))),
        wire.Xid(XidEvent("GPU-1", 79, 1.5)),
    ],
)
def test_a_message_arrives_as_it_was_sent(message: wire.Message) -> None:
    data = wire.encode(message)
    length = wire.body_length(data[: wire.LENGTH_BYTES])
    assert len(data) == wire.LENGTH_BYTES + length
    assert wire.decode(data[wire.LENGTH_BYTES :]) == message


@given(st.binary(max_size=64))
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind":"Xid"}',
        b'{"kind":"Other"}',
        b'{"kind":"Readings","gpus":[{"uuid":"GPU-1"}]}',
        b'{"kind":"Failed","code":1,"message":"m","more":2}',
        b"[1]",
        b"null",
    ],
)
def test_json_that_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(body)


def test_a_length_beyond_all_messages_is_refused() -> None:
    for prefix in (b"\x7f\xff\xff\xff", b"\0\0\0\0"):
        with pytest.raises(wire.WireError):
            wire.body_length(prefix)
