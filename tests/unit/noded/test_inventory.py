"""How a node introduces itself, and what of it is news."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from noded.config import Config, NodeToken
from noded.inventory import Inventory, shm_bytes
from noded.telemetry.model import (
    GpuHealth,
    GpuInfo,
    GpuProcess,
    GpuSample,
    GpuStatus,
    HealthState,
)
from noded.telemetry.occupancy import TellingOccupancy

GIB = 1 << 30


def inventory(home: Path) -> Inventory:
    config = Config("127.0.0.1:1", NodeToken("n1", "token"), "n1", home)
    return Inventory(config, "boot", "", "cgroups", ())


def gpu(foreign_bytes: int) -> GpuStatus:
    processes = (GpuProcess(812, foreign_bytes, "ana"),)
    sample = GpuSample("GPU-1", processes=processes, temperature_celsius=foreign_bytes % 90)
    info = GpuInfo("GPU-1", 0, "NVIDIA H100", "H100", 80 * GIB)
    return GpuStatus(info, GpuHealth(HealthState.HEALTHY, since=5.0), sample)


def test_shared_memory_is_measured_where_there_is_any(tmp_path: Path) -> None:
    assert shm_bytes(str(tmp_path)) == 0, "an ordinary folder is none"
    assert shm_bytes(str(tmp_path / "missing")) == 0
    assert shm_bytes() >= 0


def test_an_inventory_names_the_largest_foreign_process(tmp_path: Path) -> None:
    (told,) = TellingOccupancy().steady([gpu(3 * GIB)], 0.0)
    message = inventory(tmp_path).describe([told], ())
    (listed,) = message.gpus
    assert listed.foreign_memory_bytes == 3 * GIB
    assert [(p.pid, p.user_name) for p in listed.foreign_processes] == [(812, "ana")]
    assert listed.health_time.seconds == 5
    assert message.shm_bytes == shm_bytes()


def test_readings_that_differ_a_little_are_no_news(tmp_path: Path) -> None:
    node, telling = inventory(tmp_path), TellingOccupancy()
    node.describe(telling.steady([gpu(3 * GIB)], 0.0), ())
    for second in range(1, 60):
        held = 3 * GIB + (second << 20)
        assert node.changed(telling.steady([gpu(held)], float(second)), ()) is None
    assert node.changed(telling.steady([gpu(5 * GIB)], 61.0), ()) is not None
    lost = replace(gpu(5 * GIB), health=GpuHealth(HealthState.LOST, "xid_79", since=62.0))
    assert node.changed(telling.steady([lost], 62.0), ()) is not None
