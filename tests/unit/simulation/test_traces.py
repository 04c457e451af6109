"""Traces: what files say, as nodes and tasks."""

from __future__ import annotations

import pytest

from controlplane.simulation.traces import (
    MEMORY_PER_GPU,
    MIB,
    STEPS_PER_SECOND,
    TraceNode,
    UnreadableTrace,
    member_limit,
    read_nodes,
    read_tasks,
    split_over_nodes,
    uniform_nodes,
)
from riseml.spec.model import GPU, Resources

HEAD = (
    "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,"
    "creation_time,deletion_time,scheduled_time"
)


def philly(kind: str, steps: int, gpus: int) -> str:
    return f"{kind}\tpython3 train.py\t-step\t1\t{steps}\t0.000000\t{gpus}\n"


def test_nodes_have_their_names_and_sizes() -> None:
    lines = ["sn,cpu_milli,memory_mib,gpu,model", "n-1,64000,262144,2,P100"]
    assert read_nodes(lines) == [TraceNode("n-1", 64000, 262144 * MIB, 2, "P100")]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "does not name the column sn"),
        (["sn,cpu_milli"], "does not name the column memory_mib; wanted are sn,cpu_milli"),
        (["sn,cpu_milli,memory_mib,gpu,model"], "has no nodes"),
        (["sn,cpu_milli,memory_mib,gpu,model", "n,1,1,two,T4"], "line 2: gpu is 'two'"),
        (["sn,cpu_milli,memory_mib,gpu,model", "n,1,-1,2,T4"], "line 2: memory_mib is '-1'"),
        (["sn,cpu_milli,memory_mib,gpu,model", "n,1"], "line 2: memory_mib is ''"),
        (
            ["sn,cpu_milli,memory_mib,gpu,model", "n,1,1,2,T4", "n,1,1,2,T4"],
            "line 3: there is a node n already",
        ),
    ],
)
def test_what_is_no_list_of_nodes_is_refused(lines: list[str], words: str) -> None:
    with pytest.raises(UnreadableTrace, match=words):
        read_nodes(lines)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "has no tasks"),
        ([HEAD], "has no tasks"),
        (["name,cpu_milli"], "does not name the column memory_mib"),
        ([HEAD, "a,1,1,1,1500"], "line 2: 1 GPUs with gpu_milli 1500"),
        ([HEAD, "a,1,1,2,500"], "line 2: 2 GPUs with gpu_milli 500"),
        ([HEAD, "a,1,1,1,1000,,LS,Running,0,soon,1"], "line 2: deletion_time is 'soon'"),
    ],
)
def test_what_is_no_list_of_tasks_is_refused(lines: list[str], words: str) -> None:
    with pytest.raises(UnreadableTrace, match=words):
        read_tasks(lines)


def test_tasks_ask_for_thousandths_of_all_their_gpus_and_for_models() -> None:
    lines = [
        HEAD,
        "a,12000,16384,1,460,,LS,Running,0,50,10",
        "b,8000,1024,4,1000,V100M16|V100M32,BE,Succeeded,0,100,10",
    ]
    share, whole = read_tasks(lines)
    assert share.resources == Resources(12000, 16384 * MIB, 460)
    assert share.priority is not None and whole.priority is not None
    assert share.priority > whole.priority
    assert whole.resources.gpu_milli == 4 * GPU
    assert whole.resources.gpu_model == "V100M16|V100M32"


def test_only_what_ran_and_ended_within_the_trace_has_a_duration() -> None:
    lines = [
        HEAD,
        "ended,1,1,1,1000,,LS,Succeeded,0,70,10",
        "cut off,1,1,1,1000,,LS,Running,0,100,10",
        "never ran,1,1,1,1000,,LS,Pending,0,60,",
    ]
    assert [task.duration_seconds for task in read_tasks(lines)] == [60.0, None, None]


def test_tasks_without_times_are_read_too() -> None:
    lines = ["name,cpu_milli,memory_mib,num_gpu,gpu_milli", "a,1000,1024,8,1000"]
    (task,) = read_tasks(lines)
    assert (task.gpu_milli, task.duration_seconds, task.priority) == (8 * GPU, None, None)


def test_a_philly_job_takes_its_steps_at_the_rate_of_its_type() -> None:
    kind = "ResNet-50 (batch size 64)"
    (task,) = read_tasks([philly(kind, 8400, 4)])
    assert task.duration_seconds == 8400 / STEPS_PER_SECOND[kind]
    assert task.gpu_milli == 4 * GPU and task.resources.memory_bytes == 4 * MEMORY_PER_GPU


def test_a_job_of_an_unknown_type_is_refused_with_its_line() -> None:
    with pytest.raises(UnreadableTrace, match="line 2"):
        read_tasks([philly("A3C", 1, 1), philly("Perceptron", 1, 1)])


@pytest.mark.parametrize(
    ("gpus", "cluster", "members", "each"),
    [(1, "4x8", 1, 1), (8, "4x8", 1, 8), (12, "4x8", 2, 6), (32, "4x8", 4, 8), (8, "4x2", 4, 2)],
)
def test_large_jobs_become_gangs_of_what_nodes_can_hold(
    gpus: int, cluster: str, members: int, each: int
) -> None:
    (task,) = split_over_nodes(read_tasks([philly("A3C", 1, gpus)]), uniform_nodes(cluster))
    assert (task.members, task.resources.gpu_milli) == (members, each * GPU)
    assert task.gpu_milli == gpus * GPU


def test_what_must_run_on_one_node_stays_whole() -> None:
    (task,) = read_tasks([HEAD, "a,1,1,8,1000,,LS,Running,0,10,1"])
    assert split_over_nodes([task], uniform_nodes("4x2")) == [task]


def test_members_are_as_large_as_the_nodes_that_own_nine_tenths_of_the_gpus() -> None:
    large, small = uniform_nodes("8x8"), uniform_nodes("4x2")
    assert member_limit([*large, *small[:2]]) == 8
    assert member_limit([*large, *small]) == 2


@pytest.mark.parametrize("text", ["", "8", "x8", "0x8", "8xV100"])
def test_what_is_no_cluster_is_refused(text: str) -> None:
    with pytest.raises(UnreadableTrace):
        uniform_nodes(text)
