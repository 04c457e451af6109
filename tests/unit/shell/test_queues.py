"""queue list, show, create, update, delete."""

from __future__ import annotations

import json

import pytest

from riseml.v1 import queue_pb2
from riseml.v1.queue_service_pb2 import QueueSettings
from shell.known import ask
from shell.run import OK, USAGE
from tests.unit.sdk.fake_cluster import FakeCluster
from tests.unit.shell.conftest import CommandLine

RESEARCH = queue_pb2.Queue(
    name="research",
    weight=3,
    guaranteed_gpu_milli=4000,
    limit_gpu_milli=12_000,
    placement=queue_pb2.PLACEMENT_STYLE_SPREAD,
    default_max_duration_seconds=43_200,
    use=queue_pb2.QueueUse(
        allocated_gpu_milli=6500,
        allocated_cpu_milli=13_000,
        allocated_memory_bytes=32 << 30,
        borrowed_gpu_milli=2500,
        running_count=7,
        waiting_count=2,
        waiting_gpu_milli=16_000,
        share=0.8125,
        fair_share=0.75,
        recent_share=0.001,
        users=[
            queue_pb2.UserUse(
                user_name="ana", allocated_gpu_milli=6500, running_count=7, share=0.8125
            ),
            queue_pb2.UserUse(user_name="bob", waiting_count=2, recent_share=1.0),
        ],
    ),
)


@pytest.fixture
def queues(cluster: FakeCluster) -> FakeCluster:
    """With `default`, which nobody changed, and `research`."""
    cluster.queues = {
        "default": queue_pb2.Queue(name="default", weight=1, preempts_lower_priority=True),
        "research": RESEARCH,
    }
    return cluster


def test_queues_are_listed_with_what_they_have_and_want(
    line: CommandLine, queues: FakeCluster
) -> None:
    assert line.run("queue", "list") == OK
    head, default, research = (row.split() for row in line.out.splitlines())
    assert "NAME WEIGHT GUARANTEE LIMIT ALLOCATED BORROWED SHARE FAIR SHARE" in " ".join(head)
    assert default == ["default", "1", "0", "none", "0", "0", "0%", "0%", "0%", "0", "0"]
    assert research == (["research", "3", "4", "12", "6.5", "2.5", "81%", "75%", "<1%", "7", "2"])


def test_json_has_the_names_of_the_contract(line: CommandLine, queues: FakeCluster) -> None:
    assert line.run("queue", "list", "--format", "json") == OK
    default, research = json.loads(line.out)
    assert research["use"]["borrowed_gpu_milli"] == "2500"
    assert research["limit_gpu_milli"] == "12000" and "limit_gpu_milli" not in default


def test_one_queue_is_shown_with_its_users(line: CommandLine, queues: FakeCluster) -> None:
    assert line.run("queue", "show", "research") == OK
    for words in (
        "guarantee     4 GPUs",
        "limit         12 GPUs",
        "placement     spread",
        "preemption    off",
        "max duration  12h unless said",
        "allocated     6.5 GPUs, 13 CPUs, 32Gi",
        "share         81% of the cluster, fair is 75%",
        "waiting       2, for 16 GPUs",
    ):
        assert words in line.out
    assert ["bob", "0", "0%", "100%", "0", "2"] in [row.split() for row in line.out.splitlines()]


def test_only_what_was_said_is_sent(line: CommandLine, queues: FakeCluster) -> None:
    assert line.run("queue", "create", "students", "--weight", "2", "--limit", "4.5") == OK
    assert line.run("queue", "update", "students", "--guarantee", "0", "--preemption", "off") == OK
    assert line.run("queue", "update", "students", "--limit", "none", "--max-duration=none") == OK
    assert line.run("queue", "update", "students", "--placement", "pack") == OK
    assert queues.queue_settings == [
        QueueSettings(weight=2, limit_gpu_milli=4500),
        QueueSettings(guaranteed_gpu_milli=0, preempts_lower_priority=False),
        QueueSettings(limit_gpu_milli=-1, default_max_duration_seconds=0),
        QueueSettings(placement=queue_pb2.PLACEMENT_STYLE_PACK),
    ]
    assert line.err == "Changed queue students: weight 2, 0 GPUs guaranteed, no limit.\n"


def test_an_update_without_a_change_says_what_to_do(line: CommandLine, queues: FakeCluster) -> None:
    assert line.run("queue", "update", "research") == USAGE
    assert "help queue update" in line.err
    assert queues.calls == []


@pytest.mark.parametrize(
    ("option", "text", "hint"),
    [
        ("--weight", "0", "from 1"),
        ("--guarantee", "-1", "write 0 or more"),
        ("--guarantee", "none", "not a number"),
        ("--limit", "many", "not a number"),
        ("--limit", "0.0001", "thousandth"),
        ("--placement", "scatter", "pack, spread"),
        ("--preemption", "yes", "on, off"),
        ("--max-duration", "12", "write 12s, 12m or 12h"),
    ],
)
def test_what_cannot_be_is_refused_here(
    line: CommandLine, cluster: FakeCluster, option: str, text: str, hint: str
) -> None:
    assert line.run("queue", "create", "q", f"{option}={text}") == USAGE
    assert hint in line.err
    assert cluster.calls == []


def test_a_queue_is_deleted(line: CommandLine, queues: FakeCluster) -> None:
    assert line.run("queue", "delete", "research") == OK
    assert list(queues.queues) == ["default"]


def test_completion_knows_queues_and_taints(line: CommandLine, queues: FakeCluster) -> None:
    known = ask(line.context)
    assert known.queues == (("default", "weight 1"), ("research", "weight 3"))
