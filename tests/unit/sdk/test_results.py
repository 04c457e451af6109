from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import riseml
from riseml import results
from riseml.results import parse_report, report_result

PACKAGE = Path(riseml.__file__).parent


@pytest.fixture
def results_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "results.jsonl"
    monkeypatch.setenv("RISEML_RESULTS", str(path))
    return path


class Scalar:
    """Like a numpy scalar or a tensor of one element."""

    def __init__(self, value: object) -> None:
        self.value = value

    def item(self) -> object:
        return self.value


class Vector:
    def item(self) -> object:
        raise ValueError("can only convert an array of size 1 to a Python scalar")


def test_reports_are_numbered_and_keep_their_order(results_file: Path) -> None:
    report_result(accuracy=0.93, step=100)
    report_result(step=200, accuracy=0.95)
    first, second = (parse_report(line) for line in results_file.read_bytes().splitlines())
    assert first is not None and second is not None
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.metrics == (("accuracy", 0.93), ("step", 100.0))
    assert second.metrics == (("step", 200.0), ("accuracy", 0.95))
    assert first.time_ns <= second.time_ns


def test_anything_with_item_is_taken_as_its_number(results_file: Path) -> None:
    report_result(loss=Scalar(0.5), steps=Scalar(7))
    assert json.loads(results_file.read_bytes())["metrics"] == {"loss": 0.5, "steps": 7}


def test_nan_and_infinities_stay_valid_json_and_come_back(results_file: Path) -> None:
    report_result(a=math.nan, b=math.inf, c=-math.inf)
    line = results_file.read_bytes()
    assert json.loads(line, parse_constant=pytest.fail)["metrics"] == {
        "a": "NaN",
        "b": "Infinity",
        "c": "-Infinity",
    }
    report = parse_report(line)
    assert report is not None
    values = dict(report.metrics)
    assert math.isnan(values["a"]) and values["b"] == math.inf and values["c"] == -math.inf


@pytest.mark.parametrize("value", ["0.9", None, True, [1], Scalar("x"), Scalar(True), Vector()])
def test_what_is_no_number_is_refused_and_leaves_nothing(results_file: Path, value: object) -> None:
    with pytest.raises(TypeError, match="accuracy"):
        report_result(loss=1.0, accuracy=value)
    assert not results_file.exists()


def test_a_report_without_metrics_or_with_absurd_ones_is_refused(results_file: Path) -> None:
    for metrics in ({}, {"x" * 500: 1}, {f"m{n}": 1 for n in range(500)}, {"big": 10**400}):
        with pytest.raises(ValueError, match=r"metric|large"):
            report_result(**metrics)
    assert not results_file.exists()


def test_half_a_line_of_a_killed_writer_spoils_neither_number_nor_line(results_file: Path) -> None:
    report_result(loss=1.0)
    with results_file.open("ab") as file:
        file.write(b'{"sequence":2,"time_')
    report_result(loss=0.5)
    lines = results_file.read_bytes().splitlines()
    reports = [parse_report(line) for line in lines]
    assert [report and report.sequence for report in reports] == [1, None, 2]


def test_processes_that_report_at_once_share_one_sequence(results_file: Path) -> None:
    program = "from riseml import report_result\nfor n in range(50): report_result(step=n)"
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    writers = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(4)]
    assert [writer.wait(30) for writer in writers] == [0] * 4
    reports = [parse_report(line) for line in results_file.read_bytes().splitlines()]
    assert [report and report.sequence for report in reports] == list(range(1, 201))


def test_outside_of_a_job_it_says_so_once_and_does_nothing() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "RISEML_RESULTS"}
    environment["PYTHONPATH"] = str(PACKAGE.parent)
    program = "import riseml; riseml.report_result(a=1); riseml.report_result(a=2)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert done.stderr.count("RISEML_RESULTS is not set") == 1
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_that_the_job_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISEML_RESULTS", "/dev/full")
    with pytest.raises(OSError, match="space"):
        report_result(a=1)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"7",
        b'{"sequence":0,"time_ns":1,"metrics":{}}',
        b'{"sequence":true,"time_ns":1,"metrics":{}}',
        b'{"sequence":1,"time_ns":1,"metrics":[1]}',
        b'{"sequence":1,"time_ns":1,"metrics":{"a":"x"}}',
        b'{"sequence":1,"time_ns":-1,"metrics":{"a":1}}',
        b'{"sequence":1,"time_ns":1,"metrics":{"a":' + b"9" * 500 + b"}}",
        b"[" * 50_000,
        b"x" * (results.MAX_LINE_BYTES + 1),
    ],
)
def test_lines_that_are_no_reports_are_recognised(line: bytes) -> None:
    assert parse_report(line) is None


def test_importing_riseml_loads_no_third_party_module() -> None:
    program = (
        "import sys; before = set(sys.modules); import riseml; riseml.report_result\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    # -I would hide the checkout; -S hides site-packages and what their .pth files import.
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['riseml']"


def test_two_files_alone_are_enough_inside_a_job(tmp_path: Path) -> None:
    package = tmp_path / "site" / "riseml"
    package.mkdir(parents=True)
    for name in ("__init__.py", "results.py"):
        shutil.copy(PACKAGE / name, package)
    target = tmp_path / "results"
    subprocess.run(
        [sys.executable, "-S", "-c", "import riseml; riseml.report_result(accuracy=0.5)"],
        env={"PYTHONPATH": str(package.parent), "RISEML_RESULTS": str(target)},
        cwd=tmp_path,
        check=True,
    )
    assert json.loads(target.read_bytes())["metrics"] == {"accuracy": 0.5}


def test_unknown_names_of_the_package_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = riseml.no_such_name
