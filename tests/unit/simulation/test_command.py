"""`riseml-simulate`: files in, one object out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.domain.recording import Recording, write
from controlplane.scheduler.cycle import schedule
from controlplane.simulation.__main__ import main
from tests.unit.scheduler.pictures import NOW, gang, node, resources, snapshot

TASKS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,"
TASKS += "creation_time,deletion_time,scheduled_time\n"
TASKS += "".join(
    f"t{n},1000,1024,1,{milli},,LS,Succeeded,0,{600 + n},0\n"
    for n, milli in enumerate((400, 500, 1000, 1000))
)
TASKS += "last,1000,1024,2,1000,,BE,Running,0,99999,0\n"


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.csv"
    path.write_text(TASKS)
    return path


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main([*map(str, words), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_allocation_prints_the_means_of_its_seeds(
    tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(
        capsys, "allocation", "--nodes", "4x2", "--tasks", tasks, "--seeds", 3, "--policy", "fgd"
    )
    assert (found["policy"], found["seeds"]) == ("fgd", 3)
    assert 50 < found["at_100"] <= found["at_130"] <= 100
    assert found["stdev"] >= 0 and found["decisions_per_second"] > 0


def test_nodes_can_be_renamed_and_seeds_shared_among_processes(
    tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["allocation", "--nodes", "4x2", "--tasks", tasks, "--seeds", 2, "--shuffle-nodes"]
    alone, together = (printed(capsys, *words, "--workers", workers) for workers in (1, 2))
    assert alone["curve"] == together["curve"]


def test_replay_prints_who_waited_how_long(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["replay", "--nodes", "4x2", "--tasks", tasks, "--load", 1.0, "--policy", "easy"]
    found = printed(capsys, *words, "--warm-up-days", 0.02, "--days", 0.05, "--seeds", 2)
    assert (found["policy"], found["load"], found["seeds"], found["nodes"]) == ("easy", 1.0, 2, 4)
    assert 0 <= found["wait_p50_seconds"] <= found["wait_p95_seconds"] <= found["wait_max_seconds"]
    assert set(found["by_gpus"]) == {"share", "1"}
    assert found["slowdown_mean"] >= 1 and 0 < found["utilization"] <= 100


def test_both_print_something_to_read(tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["allocation", "--nodes", "4x2", "--tasks", str(tasks), "--seeds", "1"]) == 0
    assert "% of all GPUs allocated" in capsys.readouterr().out
    days = ["--warm-up-days", "0.01", "--days", "0.02"]
    given = ["--priorities", "--users", "3", *days]
    assert main(["replay", "--nodes", "4x2", "--tasks", str(tasks), *given]) == 0
    shown = capsys.readouterr().out
    assert "by gpus" in shown and "by user" in shown


def test_steadiness_says_that_all_held(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "steadiness", "--events", 100, "--nodes", 3)
    assert found["broken"] == "" and found["events"] >= 100


def test_a_recorded_cycle_is_planned_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = snapshot([node("n1", [1000, 1000])], [gang(1, resources(1000))])
    path = tmp_path / "cycle.json"
    path.write_text("".join(write(Recording(picture, NOW, 7, schedule(picture, NOW)))))
    found = printed(capsys, "--snapshot", path)
    assert found["placements"] == {"ana.1": ["n1"]} and found["differences"] == []
    assert found["number"] == 7


def test_another_plan_than_the_recorded_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = snapshot([node("n1", [1000, 1000])], [gang(1, resources(1000))])
    full = snapshot([node("n1", [0, 0])], [gang(1, resources(1000))])
    path = tmp_path / "cycle.json"
    path.write_text("".join(write(Recording(picture, NOW, 7, schedule(full, NOW)))))
    assert main(["--snapshot", str(path)]) == 1
    assert "ana.1 was not placed and is placed now" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["allocation", "--nodes", "4x2", "--tasks", "/nowhere"],
        ["allocation", "--nodes", "many", "--tasks", "TASKS"],
        ["allocation", "--nodes", "4x2", "--tasks", "TASKS", "--seeds", "0"],
        ["replay", "--nodes", "4x0", "--tasks", "TASKS"],
        ["--snapshot", "TASKS"],
    ],
)
def test_what_cannot_be_run_is_said(
    words: list[str], tasks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tasks) if word == "TASKS" else word for word in words]) == 2
    assert capsys.readouterr().err.startswith("riseml-simulate: ")
