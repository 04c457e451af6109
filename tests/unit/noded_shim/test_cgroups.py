from __future__ import annotations

from pathlib import Path

from noded.cgroups import (
    CgroupsV1,
    CgroupsV2,
    Limits,
    NoCgroups,
    Support,
    cpu_weight,
    detect,
    owner_name,
)


def proc_of(tmp_path: Path, groups: str, mounts: str) -> tuple[Path, Path]:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cgroup").write_text(groups)
    (tmp_path / "mounts").write_text(mounts)
    return tmp_path / "proc", tmp_path / "mounts"


def test_v1_groups_are_made_below_the_daemons_own(tmp_path: Path) -> None:
    (tmp_path / "cpu/own").mkdir(parents=True)
    (tmp_path / "memory/own").mkdir(parents=True)
    proc, mounts = proc_of(
        tmp_path,
        "5:cpu,cpuacct:/own\n4:memory:/own\n0::/\n",
        f"cgroup {tmp_path}/cpu cgroup rw,cpu,cpuacct 0 0\n"
        f"cgroup {tmp_path}/memory cgroup rw,memory 0 0\n",
    )
    groups = detect("n1", proc, mounts)
    assert isinstance(groups, CgroupsV1)
    assert groups.support.controllers == ("cpu", "memory")
    assert "pids: this kernel has no such controller" in groups.support.describe()
    assert (tmp_path / "cpu/own/riseml-n1").is_dir()


def test_v2_says_why_limits_are_not_to_be_had(tmp_path: Path) -> None:
    (tmp_path / "cg/user").mkdir(parents=True)
    (tmp_path / "cg/user/cgroup.procs").write_text("1\n2\n")
    (tmp_path / "cg/user/cgroup.subtree_control").mkdir()  # refuses to be written, even by root
    proc, mounts = proc_of(tmp_path, "0::/user\n", f"cgroup2 {tmp_path}/cg cgroup2 rw,nosuid 0 0\n")
    groups = detect("n1", proc, mounts)
    assert isinstance(groups, CgroupsV2)
    assert groups.support.controllers == ()
    assert "also holds other processes" in groups.support.missing["memory"]


def test_without_control_groups_jobs_simply_have_no_limits(tmp_path: Path) -> None:
    proc, mounts = proc_of(tmp_path, "0::/\n", "tmpfs /tmp tmpfs rw 0 0\n")
    groups = detect("n1", proc, mounts)
    assert isinstance(groups, NoCgroups)
    assert groups.plan("a-1", Limits(cpu_milli=1000)).procs == ()
    assert groups.support.describe() == "no control groups (no control groups are mounted)"


def test_v2_limits_are_in_the_kernels_units(tmp_path: Path) -> None:
    (tmp_path / "cgroup.kill").touch()
    groups = CgroupsV2(tmp_path, Support(2, {}))
    group = str(tmp_path / "a-1")
    files = groups.plan("a-1", Limits(cpu_milli=2500, memory_bytes=1 << 30, max_processes=99))
    assert files.directories == (group,)
    assert dict(files.settings) == {
        f"{group}/cpu.weight": "250",
        f"{group}/memory.max": str(1 << 30),
        f"{group}/pids.max": "99",
    }
    assert files.wishes == ((f"{group}/memory.swap.max", "0"),)
    assert files.procs == (f"{group}/cgroup.procs",)
    assert files.kill == f"{group}/cgroup.kill"
    assert files.oom == f"{group}/memory.events"


def test_v1_has_groups_only_for_what_is_limited(tmp_path: Path) -> None:
    bases = {name: tmp_path / name for name in ("cpu", "memory", "pids")}
    files = CgroupsV1(bases, Support(1, {})).plan("a-1", Limits(cpu_milli=500, max_processes=9))
    assert files.directories == (f"{tmp_path}/cpu/a-1", f"{tmp_path}/pids/a-1")
    assert files.settings == (
        (f"{tmp_path}/cpu/a-1/cpu.shares", "512"),
        (f"{tmp_path}/pids/a-1/pids.max", "9"),
    )
    assert files.oom == ""


def test_weights_stay_within_the_kernels_bounds() -> None:
    assert [cpu_weight(milli) for milli in (1, 1000, 10_000_000)] == [1, 100, 10_000]


def test_clusters_in_different_homes_do_not_share_groups(tmp_path: Path) -> None:
    first, second = (owner_name("n1", tmp_path / home / "node" / "n1") for home in ("a", "b"))
    assert first != second
    assert first == owner_name("n1", tmp_path / "a" / "node" / "n1")
