"""Calls about the scheduler."""

from __future__ import annotations

import grpc
import pytest

from riseml.client import Client
from riseml.errors import NotFound
from riseml.scheduler_calls import utc_offset_seconds
from riseml.spec.model import TrainSpec
from riseml.v1 import scheduler_pb2
from tests.unit.sdk.fake_cluster import FakeCluster


def test_an_explanation_is_told_by_the_clock_of_the_reader(
    client: Client, cluster: FakeCluster
) -> None:
    cluster.explanations["ana.1"] = scheduler_pb2.Explanation(summary="it waits")
    assert client.scheduler.explain("ana.1").summary == "it waits"
    assert cluster.offsets == [utc_offset_seconds()]
    with pytest.raises(NotFound):
        client.scheduler.explain("ana.2")


def test_questions_are_asked_again_after_a_cut(client: Client, cluster: FakeCluster) -> None:
    cut = (grpc.StatusCode.UNAVAILABLE, "cut", "")
    cluster.explanations["ana.1"] = scheduler_pb2.Explanation(summary="it waits")
    cluster.faults = {"ExplainExperiment": [cut], "PlanExperiment": [cut]}
    client.scheduler.explain("ana.1")
    client.scheduler.plan(TrainSpec(project="digits", run=("true",)))
    assert cluster.calls.count("ExplainExperiment") == cluster.calls.count("PlanExperiment") == 2


def test_a_plan_carries_the_spec(client: Client, cluster: FakeCluster) -> None:
    cluster.planned.warnings.append("mind")
    answer = client.scheduler.plan(TrainSpec(project="digits", run=("true",), queue="bio"))
    assert list(answer.warnings) == ["mind"] and cluster.specs[0].queue == "bio"


def test_cycles_and_decisions_page_by_themselves(client: Client, cluster: FakeCluster) -> None:
    cluster.cycles = [scheduler_pb2.SchedulerCycle(number=n) for n in (3, 2, 1)]
    assert [cycle.number for cycle in client.scheduler.cycles()] == [3, 2, 1]
    cluster.decisions = [
        scheduler_pb2.SchedulerDecision(experiment_id=name, cycle_number=n)
        for n, name in enumerate(("ana.1", "ana.2", "ana.1"))
    ]
    assert [one.cycle_number for one in client.scheduler.decisions("ana.1")] == [0, 2]


def test_one_cycle_and_what_it_saw(client: Client, cluster: FakeCluster) -> None:
    cluster.cycles = [scheduler_pb2.SchedulerCycle(number=n) for n in (3, 2)]
    cluster.recording = b'{"format": "riseml.snapshot"}'
    assert client.scheduler.cycle().number == 3
    assert client.scheduler.cycle(2).number == 2
    cycle, content = client.scheduler.recording(2)
    assert (cycle.number, content) == (2, cluster.recording)
    with pytest.raises(NotFound):
        client.scheduler.recording(9)
