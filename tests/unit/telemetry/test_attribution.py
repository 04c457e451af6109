"""Whose process it is, and what an attempt uses."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from noded.telemetry.attribution import (
    Attribution,
    attempt_in_cgroup,
    attempt_in_environment,
    pod_in_cgroup,
    user_name,
)
from noded.telemetry.host import (
    AttemptReader,
    HostReader,
    ProcessStat,
    parse_stat,
    usage_of_session,
)
from noded.telemetry.model import LiveAttempt

ATTEMPT = "ana.17.train.1-2"
V1 = f"5:memory:/riseml/{ATTEMPT}\n3:cpuacct:/riseml/{ATTEMPT}\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("text", "attempt_id"),
    [
        (f"0::/riseml/{ATTEMPT}\n", ATTEMPT),
        (f"0::/system.slice/noded.service/riseml/node-1/{ATTEMPT}/inner\n", ATTEMPT),
        (V1, ATTEMPT),
        ("0::/riseml/ben.4.2.worker.3-1\n", "ben.4.2.worker.3-1"),
        ("0::/riseml/leftover\n", None),
        ("0::/user.slice/user-1000.slice\n", None),
        (f"0::/elsewhere/{ATTEMPT}\n", None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_the_cgroup_names_the_attempt(text: str, attempt_id: str | None) -> None:
    assert attempt_in_cgroup(text) == attempt_id


UID = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        (f"0::/kubepods/burstable/pod{UID}/1234abcd\n", UID),
        (f"4:memory:/kubepods/pod{UID}\n", UID),
        (
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
            f"{UID.replace('-', '_')}.slice/cri-containerd-1234.scope\n",
            UID,
        ),
        # As it looks from a cgroup namespace beside it.
        (f"0::/../../pod{UID}/1234abcd\n", UID),
        ("0::/system.slice/podman.service\n", ""),
        (f"0::/kubepods/spod{UID}x\n", ""),
    ],
)
def test_the_cgroup_names_the_pod(text: str, uid: str) -> None:
    assert pod_in_cgroup(text) == uid


def test_processes_of_a_pod_are_those_of_its_attempt(tmp_path: Path) -> None:
    for pid, uid in ((1, UID), (2, UID.replace("0f", "1f"))):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(f"0::/kubepods/burstable/pod{uid}/c\n")
    found = Attribution([LiveAttempt(ATTEMPT, 0, pod_uid=UID)], proc=tmp_path)
    assert found.attempt_of(1) == ATTEMPT
    assert found.attempt_of(2) is None


@pytest.mark.parametrize(
    "folder",
    [
        f"kubepods/burstable/pod{UID}",
        f"kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice",
        f"k.slice/k-kubepods.slice/k-kubepods-pod{UID.replace('-', '_')}.slice",
        f"of-a-test/kubepods/besteffort/pod{UID}",
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_pod_is_measured_by_its_cgroup(tmp_path: Path, folder: str, version: int) -> None:
    attempts = [LiveAttempt(ATTEMPT, 0, pod_uid=UID)]
    reader = AttemptReader(cgroups=tmp_path)
    assert reader.read(attempts, 1.0) == ()
    files = {
        1: {"cpuacct": ("cpuacct.usage", "{}000000000"), "memory": ("memory.usage_in_bytes", "7")},
        2: {"": ("cpu.stat", "usage_usec {}000000\nuser_usec 1\n"), ".": ("memory.current", "7")},
    }[version]

    def used(seconds: int) -> None:
        for tree, (name, content) in files.items():
            (tmp_path / tree / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / tree / folder / name).write_text(content.format(seconds))

    used(3)
    reader.read(attempts, 10.0)
    used(5)
    (sample,) = reader.read(attempts, 12.0)
    assert (sample.attempt_id, sample.cpu_percent, sample.memory_bytes) == (ATTEMPT, 100.0, 7)


def test_the_environment_is_believed_only_for_attempts_that_run_here() -> None:
    environment = b"PATH=/bin\0RISEML_ATTEMPT_ID=ana.17.train.1-2\0HOME=/"
    assert attempt_in_environment(environment, {ATTEMPT}) == ATTEMPT
    assert attempt_in_environment(environment, {"ben.1.train.1-1"}) is None
    assert attempt_in_environment(b"MY_RISEML_ATTEMPT_ID=x\0", {"x"}) is None


def _stat_line(pid: int, parent: int, session: int, *, name: str = "python", cpu: int = 0) -> str:
    before = f"{pid} ({name}) S {parent} {pid} {session} 0 -1 0 0 0 0 0"
    return f"{before} {cpu} 0 0 0 20 0 1 0 100 4096 25 0 0"


def _process(proc: Path, pid: int, session: int, cgroup: str = "0::/\n") -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cgroup").write_text(cgroup)
    (folder / "environ").write_bytes(b"A=1\0")
    (folder / "stat").write_text(_stat_line(pid, 1, session))


def test_a_process_is_found_by_cgroup_then_by_session_and_else_is_foreign(tmp_path: Path) -> None:
    _process(tmp_path, 10, 10, cgroup=V1)
    _process(tmp_path, 21, 20)
    _process(tmp_path, 30, 30)
    whose = Attribution([LiveAttempt("ben.1.train.1-1", 20)], proc=tmp_path)
    assert whose.attempt_of(10) == ATTEMPT
    assert whose.attempt_of(21) == "ben.1.train.1-1"
    assert whose.attempt_of(30) is None
    assert whose.attempt_of(99) is None
    assert whose.user_of(99) is None
    assert whose.user_of(30) == user_name(os.getuid())


def test_a_user_without_a_name_is_a_number() -> None:
    assert user_name(4_000_123) == "4000123"


def test_a_program_may_have_brackets_and_spaces_in_its_name() -> None:
    stat = parse_stat(_stat_line(5, 4, 3, name="a) R (b", cpu=200).encode())
    assert (stat.pid, stat.parent_pid, stat.session) == (5, 4, 3)
    assert stat.cpu_seconds == 200 / os.sysconf("SC_CLK_TCK")
    assert stat.memory_bytes == 25 * os.sysconf("SC_PAGE_SIZE")


def test_a_session_counts_with_all_descendants_of_its_leader() -> None:
    processes = [
        ProcessStat(10, 1, 10, 1.0, 100),
        ProcessStat(11, 10, 10, 2.0, 200),
        ProcessStat(12, 11, 12, 4.0, 400),  # made a session of its own
        ProcessStat(13, 1, 10, 8.0, 800),  # its parent is gone
        ProcessStat(50, 1, 50, 16.0, 1600),
    ]
    usage = usage_of_session(10, processes)
    assert usage is not None
    assert (usage.cpu_seconds, usage.memory_bytes) == (15.0, 1500)
    assert usage_of_session(77, processes) is None


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_an_attempt_with_a_cgroup_is_measured_by_it(tmp_path: Path, version: str) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    text = V1 if version == "v1" else f"0::/slice/riseml/{ATTEMPT}/own\n"
    _process(proc, 10, 10, cgroup=text)
    reader = AttemptReader(proc, cgroups)
    attempts = [LiveAttempt(ATTEMPT, 10)]

    def use(seconds: float, memory_bytes: int) -> None:
        if version == "v2":
            folder = cgroups / "slice" / "riseml" / ATTEMPT
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cpu.stat").write_text(f"usage_usec {int(seconds * 1e6)}\nuser_usec 1\n")
            (folder / "memory.current").write_text(f"{memory_bytes}\n")
            return
        for controller, file, value in (
            ("cpuacct", "cpuacct.usage", int(seconds * 1e9)),
            ("memory", "memory.usage_in_bytes", memory_bytes),
        ):
            folder = cgroups / controller / "riseml" / ATTEMPT
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(f"{value}\n")

    use(10.0, 4096)
    (first,) = reader.read(attempts, now=100.0)
    assert (first.cpu_percent, first.memory_bytes) == (0.0, 4096)
    use(13.0, 8192)
    (second,) = reader.read(attempts, now=102.0)
    assert second.cpu_percent == pytest.approx(150.0)
    assert second.memory_bytes == 8192


def test_an_attempt_without_a_cgroup_is_measured_by_its_session() -> None:
    busy = "import os\nprint(flush=True)\nwhile True: os.getppid()"
    job = subprocess.Popen(
        ["/usr/bin/env", "python3", "-c", busy], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert job.stdout is not None
        job.stdout.readline()
        reader = AttemptReader()
        attempts = [LiveAttempt("ana.1.train.1-1", job.pid), LiveAttempt("ana.2.train.1-1", 0)]
        start = time.monotonic()
        (first,) = reader.read(attempts, start)
        assert first.memory_bytes > 1 << 20
        percent = 0.0
        while percent == 0.0 and time.monotonic() < start + 20:
            (sample,) = reader.read(attempts, time.monotonic())
            percent = sample.cpu_percent
        assert percent > 0
    finally:
        job.kill()
        job.communicate()
    assert reader.read(attempts, time.monotonic()) == ()


def test_the_host_is_read(tmp_path: Path) -> None:
    host = HostReader(tmp_path).read()
    assert host.cpu_count >= 1
    assert 0 <= host.cpu_percent <= 100
    assert 0 < host.memory_available_bytes <= host.memory_total_bytes
    assert host.disk_free_bytes > 0
    assert HostReader(tmp_path / "missing").read().disk_free_bytes == 0
