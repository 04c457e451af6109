"""GPU telemetry through the real child process and a stub of NVIDIA's library (tests/nvml_stub)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from noded.telemetry.collector import Collector, CollectorSettings
from noded.telemetry.model import GpuStatus, HealthState, LiveAttempt
from noded.telemetry.nvml import NvmlSettings, NvmlSource, NvmlState, library_present
from tests.nvml_stub.library import NvmlStub, build_library

DEADLINE_SECONDS = 20.0
GIB = 1 << 30
HEALTHY, LOST = HealthState.HEALTHY, HealthState.LOST
QUARANTINED, UNKNOWN = HealthState.QUARANTINED, HealthState.UNKNOWN


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("old-nvml"), old_driver=True)


@pytest.fixture
def stub(driver: Path, tmp_path: Path) -> NvmlStub:
    return NvmlStub(driver, tmp_path / "scenario")


def quick(stub: NvmlStub) -> NvmlSettings:
    return NvmlSettings(
        period=0.05,
        reading_deadline=0.7,
        first_backoff=0.05,
        longest_backoff=0.2,
        look_again=0.1,
        reopen=0.5,
        environ=stub.environ,
    )


async def eventually(condition: Callable[[], bool], hint: asyncio.Event | None = None) -> None:
    """Awaits a condition; looks when the hint is given, and every 50 ms."""
    hint = hint or asyncio.Event()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            hint.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await hint.wait()


class Watched:
    """A source that runs, and a way to await what it comes to."""

    def __init__(self, settings: NvmlSettings) -> None:
        self._changed = asyncio.Event()
        self.source = NvmlSource(settings, self._changed.set)

    async def until(self, condition: Callable[[], bool]) -> None:
        await eventually(condition, self._changed)

    async def until_health(self, index: int, state: HealthState) -> GpuStatus:
        await self.until(
            lambda: len(self.source.gpus()) > index and self.gpu(index).health.state is state
        )
        return self.gpu(index)

    async def until_all(self, state: HealthState, count: int = 8) -> None:
        await self.until(lambda: self.states() == [state] * count)

    def gpu(self, index: int) -> GpuStatus:
        return self.source.gpus()[index]

    def states(self) -> list[HealthState]:
        return [gpu.health.state for gpu in self.source.gpus()]


@contextlib.asynccontextmanager
async def watched(settings: NvmlSettings) -> AsyncIterator[Watched]:
    watch = Watched(settings)
    task = asyncio.ensure_future(watch.source.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_eight_healthy_gpus_are_read_in_full(stub: NvmlStub) -> None:
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        gpus = watch.source.gpus()
        assert [gpu.info.index for gpu in gpus] == list(range(8))
        assert {gpu.info.model for gpu in gpus} == {"H100"}
        assert [gpu.info.numa_node for gpu in gpus] == [0] * 4 + [1] * 4
        assert [gpu.info.nvlink_group for gpu in gpus] == [0] * 8
        assert [gpu.info.pcie_group for gpu in gpus] == [0] * 4 + [4] * 4
        assert watch.source.notes == ()
        for gpu in gpus:
            assert gpu.sample is not None
            empty = [name for name in gpu.sample.__slots__ if getattr(gpu.sample, name) is None]
            assert empty == ["fault"]


async def test_every_property_arrives_in_its_own_field(stub: NvmlStub) -> None:
    stub.play("mixed", f"gpu 0 process {os.getpid()} {3 * GIB}", "gpu 0 graphics_process 1 4096")
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY, count=1)
        info, sample = watch.gpu(0).info, watch.gpu(0).sample
        assert (info.name, info.model) == ("NVIDIA A100-SXM4-40GB", "A100")
        assert info.uuid == "GPU-57ab0000-0000-0000-0000-000000000000"
        assert (info.pci_bus_id, info.driver_version) == ("0000FA00:10:00.0", "535.183.01")
        assert (info.memory_bytes, info.numa_node, info.nvlink_count) == (40 * GIB, 1, 12)
        assert (info.pcie_max_generation, info.pcie_max_width) == (4, 16)
        assert (info.slowdown_celsius, info.shutdown_celsius, info.mig_enabled) == (95, 98, False)
        assert sample is not None
        assert sample.memory_used_bytes == 20 * GIB
        assert sample.memory_free_bytes == 20 * GIB - 612368384
        assert (sample.utilization_percent, sample.temperature_celsius) == (83, 61)
        assert (sample.power_milliwatts, sample.power_limit_milliwatts) == (312345, 400000)
        assert (sample.ecc_corrected, sample.ecc_uncorrected) == (7, 0)
        assert (sample.pcie_generation, sample.pcie_width, sample.pcie_replays) == (3, 8, 41)
        assert (sample.nvlink_errors, sample.recovery_action) == (5, "none")
        assert sample.throttle_reasons == ("sw_power_cap",)
        assert [(p.pid, p.memory_bytes) for p in sample.processes] == [
            (1, 4096),
            (os.getpid(), 3 * GIB),
        ]


async def test_gpus_with_bridges_between_them_are_close_in_pairs(stub: NvmlStub) -> None:
    links = [f"gpu {gpu} link {link} {gpu ^ 1}" for gpu in range(4) for link in range(12)]
    stub.play("healthy-8", "devices 4", "gpu * nvlinks 12", *links)
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY, count=4)
        assert [gpu.info.nvlink_group for gpu in watch.source.gpus()] == [0, 0, 2, 2]


@pytest.mark.parametrize(
    ("lacks", "nvlink", "pcie"),
    [
        ("RemoteDeviceType", [0] * 4, [0, 0, 0, 0]),
        ("RemotePciInfo", [0] * 4, [0, 0, 0, 0]),
        ("NvLinkRemote", [None] * 4, [0, 0, 0, 0]),
        ("TopologyCommonAncestor", [0] * 4, [None] * 4),
        ("FieldValues", [None] * 4, [0, 0, 0, 0]),
    ],
)
async def test_a_driver_that_tells_less_of_the_topology_leaves_it_open(
    stub: NvmlStub, lacks: str, nvlink: list[int | None], pcie: list[int | None]
) -> None:
    stub.play("healthy-8", "devices 4", f"gpu * unsupported {lacks}")
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY, count=4)
        gpus = watch.source.gpus()
        assert [gpu.info.nvlink_group for gpu in gpus] == nvlink
        assert [gpu.info.pcie_group for gpu in gpus] == pcie


async def test_a_gpu_that_is_lost_while_neighbours_are_looked_for_hides_none(
    stub: NvmlStub,
) -> None:
    stub.play("healthy-8", "fail nvmlDeviceGetTopologyCommonAncestor 15")
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        assert {gpu.info.nvlink_group for gpu in watch.source.gpus()} == {0}
        assert {gpu.info.pcie_group for gpu in watch.source.gpus()} == {None}


async def test_a_lost_gpu_hides_none_of_its_siblings(stub: NvmlStub) -> None:
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        stub.play("one-lost")
        lost = await watch.until_health(3, LOST)
        assert lost.health.reason == "gpu_lost"
        assert lost.sample is None
        assert watch.states().count(HEALTHY) == 7


async def test_a_gpu_that_was_reset_comes_back(stub: NvmlStub) -> None:
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        stub.play("healthy-8", "devices 7")
        await watch.until_all(HEALTHY)
        stub.play("one-lost")
        await watch.until_health(3, LOST)
        stub.play("healthy-8")
        await watch.until_all(HEALTHY)


async def test_a_gpu_that_is_lost_from_the_start_is_noted(stub: NvmlStub) -> None:
    stub.play("one-lost")
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY, count=7)
        assert watch.source.notes == ("GPU 3 can't be opened: GPU is lost",)


async def test_a_hanging_driver_makes_health_unknown_until_it_answers_again(
    stub: NvmlStub,
) -> None:
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        child = watch.source.child_pid
        stub.play("hanging-call")
        loop = asyncio.get_running_loop()
        asked = loop.time()
        await watch.until_all(UNKNOWN)
        assert loop.time() - asked < 5
        await watch.until(lambda: watch.source.status.state is NvmlState.STALLED)
        assert child is not None
        assert not psutil.pid_exists(child)
        assert "does not answer" in watch.source.notes[0]
        stub.play("healthy-8")
        await watch.until_all(HEALTHY)


async def test_a_driver_that_hangs_while_opening_is_given_up_in_time(stub: NvmlStub) -> None:
    stub.play("healthy-8", "hang nvmlInitWithFlags")
    async with watched(replace(quick(stub), opening_deadline=0.8)) as watch:
        await watch.until(lambda: watch.source.status.state is NvmlState.STALLED)
        stub.play("healthy-8")
        await watch.until_all(HEALTHY)


async def test_xid_79_loses_its_gpu_and_later_xids_of_siblings_are_heard(stub: NvmlStub) -> None:
    # Not opened anew: the very child that the wait failed in has to hear of the sibling.
    async with watched(replace(quick(stub), reopen=60)) as watch:
        await watch.until_all(HEALTHY)
        child = watch.source.child_pid
        stub.play("xid-79")
        lost = await watch.until_health(5, LOST)
        assert lost.last_xid is not None
        assert lost.last_xid.code == 79
        stub.play("xid-79", "event 2 48 1")
        bad = await watch.until_health(1, QUARANTINED)
        assert bad.health.reason == "xid_48"
        assert watch.states().count(HEALTHY) == 6
        assert watch.source.child_pid == child


async def test_an_application_error_leaves_its_gpu_healthy(stub: NvmlStub) -> None:
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        stub.play("xid-31", "event 2 48 1")
        await watch.until_health(1, QUARANTINED)  # so the first event was heard as well
        blamed = watch.gpu(2)
        assert blamed.last_xid is not None
        assert blamed.last_xid.code == 31
        assert blamed.health.state is HEALTHY


async def test_an_xid_quarantine_outlives_good_readings_and_a_new_child(stub: NvmlStub) -> None:
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        stub.play("xid-48")
        await watch.until_health(1, QUARANTINED)
        stub.play("healthy-8")
        assert watch.source.child_pid is not None
        os.kill(watch.source.child_pid, signal.SIGKILL)
        await watch.until_health(0, UNKNOWN)
        await watch.until_health(0, HEALTHY)
        assert watch.gpu(1).health.reason == "xid_48"


async def test_memory_errors_quarantine_only_where_they_are_uncorrectable(stub: NvmlStub) -> None:
    stub.play("memory-errors")
    async with watched(quick(stub)) as watch:
        await watch.until_health(3, QUARANTINED)
        reasons = [gpu.health.reason for gpu in watch.source.gpus()]
        assert reasons == ["", "ecc_uncorrected", "remap_pending", "remap_failed"]


async def test_a_hot_gpu_rests_until_it_has_cooled_down(stub: NvmlStub) -> None:
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        stub.play("hot")
        hot = await watch.until_health(6, QUARANTINED)
        assert hot.health.reason == "overheated"
        assert hot.sample is not None
        assert hot.sample.throttle_reasons == (
            "hw_slowdown",
            "sw_thermal_slowdown",
            "hw_thermal_slowdown",
        )
        stub.play("healthy-8")
        await watch.until_health(6, HEALTHY)


async def test_an_old_driver_leaves_fields_empty_and_nothing_fails(
    old_driver: Path, tmp_path: Path
) -> None:
    stub = NvmlStub(old_driver, tmp_path / "scenario")
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        gpu = watch.gpu(0)
        assert gpu.sample is not None
        assert gpu.sample.temperature_celsius == 30
        assert gpu.sample.memory_used_bytes == 471859200  # it counts the driver's own as used
        assert gpu.sample.remap_pending is None
        assert gpu.sample.nvlink_errors is None
        assert gpu.sample.recovery_action is None
        assert gpu.sample.processes == ()
        assert gpu.info.mig_enabled is None
        assert (gpu.info.nvlink_group, gpu.info.pcie_group) == (None, 0)
        assert watch.source.notes == ("this NVIDIA driver reports no XID events",)


async def test_what_a_card_does_not_support_is_empty(stub: NvmlStub) -> None:
    stub.play("healthy-8", "gpu * unsupported Ecc", "gpu * unsupported Power")
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        sample = watch.gpu(0).sample
        assert sample is not None
        assert sample.ecc_uncorrected is None
        assert sample.power_milliwatts is None
        assert sample.temperature_celsius == 30


async def test_a_card_that_answers_nothing_is_unknown_and_one_that_wants_a_reset_quarantined(
    stub: NvmlStub,
) -> None:
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        stub.play("healthy-8", "gpu 0 unreadable 1", "gpu 1 reset_required 1")
        assert (await watch.until_health(0, UNKNOWN)).health.reason == "unreadable"
        assert (await watch.until_health(1, QUARANTINED)).health.reason == "reset_required"


async def test_a_killed_child_is_replaced(stub: NvmlStub) -> None:
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        first = watch.source.child_pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await watch.until(lambda: watch.source.child_pid not in (first, None))
        await watch.until_all(HEALTHY)


@pytest.mark.parametrize(
    ("scenario", "state", "words"),
    [
        ("no-gpus", NvmlState.EMPTY, "finds no GPU"),
        ("driver-not-loaded", NvmlState.BROKEN, "driver is not loaded"),
    ],
)
async def test_a_machine_without_usable_gpus_says_why_and_is_looked_at_again(
    stub: NvmlStub, scenario: str, state: NvmlState, words: str
) -> None:
    stub.play(scenario)
    async with watched(quick(stub)) as watch:
        await watch.until(lambda: watch.source.status.state is state)
        assert words in watch.source.notes[0]
        assert watch.source.gpus() == ()
        stub.play("healthy-8")
        await watch.until_all(HEALTHY)


async def test_without_a_driver_no_child_is_started() -> None:
    environ = {**os.environ, "LD_LIBRARY_PATH": ""}
    if library_present(environ):
        pytest.skip("this machine has an NVIDIA driver")
    async with watched(NvmlSettings(environ=environ)) as watch:
        await watch.until(lambda: watch.source.status.state is NvmlState.ABSENT)
        assert watch.source.child_pid is None
        assert watch.source.notes == ("no NVIDIA driver on this machine, so no GPUs",)


async def test_cancelling_the_source_ends_its_child(stub: NvmlStub) -> None:
    async with watched(quick(stub)) as watch:
        await watch.until_all(HEALTHY)
        child = watch.source.child_pid
    assert child is not None
    assert not psutil.pid_exists(child)


PARENT = """
import asyncio
from noded.telemetry.nvml import NvmlSettings, NvmlSource

async def main():
    source = NvmlSource(NvmlSettings(period=0.05), lambda: None)
    task = asyncio.ensure_future(source.run())
    while source.child_pid is None:
        await asyncio.sleep(0.02)
    print(source.child_pid, flush=True)
    await task

asyncio.run(main())
"""


@pytest.mark.parametrize("more", ["", "hang nvmlInitWithFlags"])
async def test_a_child_dies_with_its_parent(stub: NvmlStub, more: str) -> None:
    stub.play("healthy-8", more)
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", PARENT), stdout=asyncio.subprocess.PIPE, env=stub.environ
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    # Where nobody reaps orphans, it stays behind as a zombie.
    await eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def _sleeper(attempt_id: str | None) -> subprocess.Popen[bytes]:
    environ = {"RISEML_ATTEMPT_ID": attempt_id} if attempt_id else {}
    return subprocess.Popen(["/bin/sleep", "60"], env=environ, start_new_session=True)


async def test_processes_are_shown_as_an_attempts_or_as_foreign_with_their_user(
    stub: NvmlStub, tmp_path: Path
) -> None:
    ours, by_session, foreign = _sleeper("ana.17.train.1-1"), _sleeper(None), _sleeper(None)
    attempts: Sequence[LiveAttempt] = (
        LiveAttempt("ana.17.train.1-1", 0),
        LiveAttempt("ben.3.train.1-2", by_session.pid),
    )
    stub.play(
        "healthy-8",
        f"gpu 0 process {ours.pid} {2 * GIB}",
        f"gpu 0 process {by_session.pid} {3 * GIB}",
        f"gpu 1 process {foreign.pid} {5 * GIB}",
        "gpu 2 process 4194303 1073741824",
    )
    changes: list[int] = []
    settings = CollectorSettings("n1", tmp_path, period=0.05, nvml=quick(stub))
    collector = Collector(settings, lambda: attempts, lambda: changes.append(1))
    task = asyncio.ensure_future(collector.run())
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for sample in collector.samples():
                if len(sample.gpus) == 8 and all(gpu.sample for gpu in sample.gpus):
                    break
            first, second, third = (gpu.sample for gpu in collector.inventory()[:3])
            assert first is not None
            assert second is not None
            assert third is not None
            user = pwd.getpwuid(os.getuid()).pw_name
            assert {p.pid: p.attempt_id for p in first.processes} == {
                ours.pid: "ana.17.train.1-1",
                by_session.pid: "ben.3.train.1-2",
            }
            assert [(p.user_name, p.attempt_id) for p in second.processes] == [(user, None)]
            assert [(p.user_name, p.attempt_id) for p in third.processes] == [(None, None)]
            held = [gpu.occupancy.memory_bytes for gpu in collector.inventory()[:3]]
            assert held == [0, 5 * GIB, GIB]
            said = len(changes)
            assert said >= 1
            stub.play("healthy-8")  # the foreign process lets go: that is news
            async for _ in collector.samples():
                if len(changes) > said:
                    break
            assert collector.inventory()[1].occupancy.memory_bytes == 0
    finally:
        task.cancel()
        await asyncio.wait([task])
        for process in (ours, by_session, foreign):
            process.kill()
            process.wait()


def test_the_command_prints_a_table(stub: NvmlStub) -> None:
    stub.play("hot", f"gpu 0 process {os.getpid()} {2 * GIB}")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "noded.telemetry"],
        env=stub.environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.count("GPU-57ab") == 8
    assert done.stdout.count("nvlink 0, pcie 4, numa 1") == 4
    assert "GPU 6: overheated: it reached 87 °C, where it slows down" in done.stdout
    user = pwd.getpwuid(os.getuid()).pw_name
    held = f"GPU 0: process {os.getpid()} (foreign, of {user}) holds 2048 MiB"
    assert held in done.stdout
