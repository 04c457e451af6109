"""`why`, `train --plan`, `system schedule`, and the estimate that `status` shows."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import datetime

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from riseml.v1 import job_pb2, scheduler_pb2, state_pb2
from shell.explanation import estimate_lines, where
from shell.run import FAILED, OK, USAGE
from tests.unit.sdk.fake_cluster import FakeCluster, one
from tests.unit.shell.conftest import CommandLine

# Any time will do: words are compared with the clock of this machine.
NOW = 1_795_435_200
pb = scheduler_pb2
FILE = "project: digits\ntrain:\n  run: 'true'\n  queue: bio\n"


def local(time: int) -> str:
    return datetime.fromtimestamp(time).astimezone().strftime("%H:%M")


def waiting() -> scheduler_pb2.Explanation:
    return pb.Explanation(
        experiment_id="ana.17",
        state=state_pb2.STATE_PENDING,
        summary="ana.17 has waited 12m for 8 GPUs.",
        lines=["gpu-3 has 4 of 8 GPUs free.", "  The others: gpu-4."],
        reasons=[pb.PendingReason(code="GPUS_BUSY", message="busy")],
        nodes=[
            pb.NodeVerdict(
                node_name="gpu-3",
                message="gpu-3 has 4 of 8 GPUs free.",
                gpus=[
                    pb.GpuVerdict(index=0, free_milli=1000, code="FREE", message="free"),
                    pb.GpuVerdict(
                        index=1, code="HELD", message="held by bo.1", experiment_ids=["bo.1"]
                    ),
                ],
            ),
            pb.NodeVerdict(node_name="cpu-1", message="cpu-1 has no GPU."),
        ],
        estimate=pb.StartEstimate(
            earliest_time=Timestamp(seconds=NOW),
            latest_time=Timestamp(seconds=NOW + 3600),
            basis="by the max_duration of what runs",
            past_count=31,
            past_median_error_seconds=240,
            past_p90_error_seconds=1200,
        ),
        suggestions=["With 4 GPUs instead of 8 it would start now on gpu-3."],
    )


def test_why_tells_most_important_first(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.explanations["ana.17"] = waiting()
    assert line.run("why", "17") == OK
    told = line.out.splitlines()
    assert told[:3] == [
        "ana.17 has waited 12m for 8 GPUs.",
        "gpu-3 has 4 of 8 GPUs free.",
        "  The others: gpu-4.",
    ]
    assert told[3].startswith("It should start between ")
    assert told[3].endswith(": by the max_duration of what runs.")
    assert told[4] == (
        "  Of 31 earlier estimates half were off by 4m00s or less, nine of ten by 20m00s or less."
    )
    assert told[5:] == ["With 4 GPUs instead of 8 it would start now on gpu-3."]


@pytest.mark.parametrize("named", ["17.worker", "17.worker.2", "17.train.1-3", "ana.17"])
def test_why_of_a_job_is_why_of_its_experiment(
    line: CommandLine, cluster: FakeCluster, named: str
) -> None:
    cluster.explanations["ana.17"] = waiting()
    assert line.run("why", named) == OK


def test_why_without_an_id_is_of_the_last_one(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(one("ana.17", state_pb2.STATE_PENDING))
    cluster.explanations["ana.17"] = waiting()
    assert line.run("why") == OK
    assert line.out.startswith("ana.17 has waited")


def test_long_shows_each_gpu_in_a_row(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.explanations["ana.17"] = waiting()
    assert line.run("why", "17", "-l") == OK
    assert "gpu-3  no      1     0  HELD    bo.1              held by bo.1" in line.out
    line.run("why", "17", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(line.out)))
    assert [(row["node"], row["gpu"], row["status"]) for row in rows] == [
        ("gpu-3", "0", "FREE"),
        ("gpu-3", "1", "HELD"),
        ("cpu-1", "", ""),
    ]


def test_json_is_the_message(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.explanations["ana.17"] = waiting()
    line.run("why", "17", "--format", "json")
    found = json.loads(line.out)
    assert found["reasons"][0]["code"] == "GPUS_BUSY" and found["impossible"] is False


def test_why_of_what_there_is_not(line: CommandLine) -> None:
    assert line.run("why", "99") == FAILED
    assert line.err == "There is no ana.99.\n"


def test_status_shows_the_estimate(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(one("ana.17", state_pb2.STATE_PENDING, pending_reasons=["busy"]))
    cluster.explanations["ana.17"] = waiting()
    assert line.run("status", "17") == OK
    assert "estimate      It should start between " in line.out
    assert "Of 31 earlier estimates" in line.out


def test_status_needs_no_estimate(line: CommandLine, cluster: FakeCluster) -> None:
    cluster.put(one("ana.17", state_pb2.STATE_PENDING))
    assert line.run("status", "17") == OK
    assert "estimate" not in line.out
    cluster.put(one("ana.18"))
    line.run("status", "18")
    assert cluster.calls.count("ExplainExperiment") == 1, "asked of one that does not wait"


def estimate(earliest: int, latest: int | None = None) -> scheduler_pb2.Explanation:
    found = pb.StartEstimate(earliest_time=Timestamp(seconds=earliest))
    if latest is not None:
        found.latest_time.CopyFrom(Timestamp(seconds=latest))
    return pb.Explanation(estimate=found)


@pytest.mark.parametrize(
    ("explanation", "words"),
    [
        (pb.Explanation(), []),
        (estimate(NOW, NOW + 60), [f"It should start between {local(NOW)} and {local(NOW + 60)}."]),
        (estimate(NOW, NOW + 1), [f"It should start at about {local(NOW)}."]),
        (
            estimate(NOW),
            [f"It should start not before {local(NOW)}; nobody can say how much later."],
        ),
    ],
)
def test_estimates_in_words(explanation: scheduler_pb2.Explanation, words: list[str]) -> None:
    assert estimate_lines(explanation, NOW) == words


def test_a_day_is_named_once() -> None:
    day = NOW + 3 * 86_400
    (line,) = estimate_lines(estimate(day, day + 60), NOW)
    date = datetime.fromtimestamp(day).strftime("%Y-%m-%d")
    assert line == f"It should start between {date} {local(day)} and {local(day + 60)}."


def test_one_earlier_estimate_is_no_statistic() -> None:
    told = estimate(NOW)
    told.estimate.past_count = 1
    told.estimate.past_median_error_seconds = 90
    assert estimate_lines(told, NOW)[1] == "  The one earlier estimate was off by 1m30s."


def test_a_time_on_another_day_has_a_date() -> None:
    (line,) = estimate_lines(estimate(NOW, NOW + 3 * 86_400), NOW)
    assert datetime.fromtimestamp(NOW + 3 * 86_400).strftime("and %Y-%m-%d") in line


# ------------------------------------------------------------------------------------ train --plan


def test_plan_sends_no_code_and_creates_nothing(line: CommandLine, cluster: FakeCluster) -> None:
    (line.folder / "riseml.yml").write_text(
        "project: digits\ntrain:\n  run: 'true'\n  queue: bio\n"
    )
    cluster.planned.explanation.summary = "It would start now on gpu-3 (GPU 0)."
    cluster.planned.warnings.append("mind the gap")
    assert line.run("train", "--plan") == OK
    assert line.out == "It would start now on gpu-3 (GPU 0).\n"
    assert line.err == "Note: mind the gap\n"
    assert cluster.specs[0].queue == "bio"
    assert set(cluster.calls) <= {"PlanExperiment", "GetCaller"}
    line.run("train", "--plan", "--format", "json")
    assert json.loads(line.out)["warnings"] == ["mind the gap"]


def test_what_a_plan_refuses_is_found_in_the_file(line: CommandLine, cluster: FakeCluster) -> None:
    (line.folder / "riseml.yml").write_text(
        "project: digits\ntrain:\n  run: 'true'\n  queue: bio\n"
    )
    cluster.violations = (("train.queue", "there is no queue bio"),)
    cluster.faults["PlanExperiment"] = [(grpc.StatusCode.INVALID_ARGUMENT, "no", "")]
    assert line.run("train", "--plan") != OK
    assert "riseml.yml:4" in line.err and "there is no queue bio" in line.err


# ---------------------------------------------------------------------------------- system schedule


def cycles(cluster: FakeCluster) -> None:
    cluster.cycles = [
        pb.SchedulerCycle(
            number=number,
            start_time=Timestamp(seconds=int(time.time())),
            duration_milliseconds=0.84 * number,
            considered_count=number,
            placed_count=1,
            node_count=3,
            decisions=[
                pb.SchedulerDecision(
                    experiment_id="ana.17",
                    kind="PLACED",
                    message="leaves most whole",
                    alternatives=["n2: fuller"],
                    members=[
                        pb.PlannedMember(
                            node_name="n1", gpus=[job_pb2.GpuShare(gpu_uuid="g", milli=1000)]
                        )
                    ],
                )
            ],
        )
        for number in (40, 39, 38)
    ]
    cluster.recording = b'{"format":"riseml.snapshot"}'


def test_cycles_are_a_table_newest_first(line: CommandLine, cluster: FakeCluster) -> None:
    cycles(cluster)
    assert line.run("system", "schedule", "-n", "2") == OK
    rows = [row.split() for row in line.out.splitlines()]
    assert rows[0] == [
        "CYCLE", "TIME", "TOOK", "NODES", "CONSIDERED", "PLACED", "EVICTED", "RESERVED", "REJECTED",
    ]  # fmt: skip
    assert [(row[0], row[3], row[-5:]) for row in rows[1:]] == [
        ("40", "34ms", ["40", "1", "0", "0", "0"]),
        ("39", "33ms", ["39", "1", "0", "0", "0"]),
    ]


def test_without_cycles_it_says_so(line: CommandLine) -> None:
    assert line.run("system", "schedule") == OK
    assert "had nothing to do" in line.err


def test_one_cycle_with_its_decisions(line: CommandLine, cluster: FakeCluster) -> None:
    cycles(cluster)
    assert line.run("system", "schedule", "39") == OK
    assert "saw       3 nodes, 39 waiting" in line.out
    assert "PLACED  17  n1 (1 GPU)  leaves most whole  n2: fuller" in line.out
    assert line.run("system", "schedule", "7") == FAILED
    assert line.run("system", "schedule", "banana") == USAGE


def test_a_saved_cycle_is_private_and_never_overwrites(
    line: CommandLine, cluster: FakeCluster
) -> None:
    cycles(cluster)
    assert line.run("system", "schedule", "--save", "last.json") == OK
    file = line.folder / "last.json"
    assert file.read_bytes() == cluster.recording
    assert file.stat().st_mode & 0o777 == 0o600
    assert "Wrote cycle 40" in line.err and "--snapshot last.json" in line.err
    assert line.run("system", "schedule", "39", "--save", "last.json") == USAGE
    assert line.run("system", "schedule", "39", "--save", "other.json") == OK
    assert "Wrote cycle 39" in line.err


def test_where_jobs_go() -> None:
    half = job_pb2.GpuShare(gpu_uuid="g", milli=500)
    members = [
        pb.PlannedMember(node_name="n1", gpus=[half]),
        pb.PlannedMember(node_name="n1", gpus=[half]),
        pb.PlannedMember(node_name="n2"),
        pb.PlannedMember(node_name="n3", gpus=[half]),
    ]
    assert where(members) == "n1 (1 GPU), n2, n3 (0.5 GPUs)"
