"""node taint, node untaint."""

from __future__ import annotations

import json

import pytest

from riseml.v1 import node_pb2
from shell.run import FAILED, OK, USAGE
from tests.unit.sdk.fake_cluster import FakeCluster
from tests.unit.shell.conftest import CommandLine


@pytest.fixture
def node(cluster: FakeCluster) -> node_pb2.Node:
    """One that only spot jobs may use."""
    made = node_pb2.Node(name="n1", taints=[node_pb2.Taint(key="spot")])
    cluster.nodes = [made]
    return made


def taints(node: node_pb2.Node) -> dict[str, str]:
    return {taint.key: taint.value for taint in node.taints}


def test_a_taint_is_added_to_those_that_are_there(line: CommandLine, node: node_pb2.Node) -> None:
    assert line.run("node", "taint", "n1", "dedicated=vision", "gpu=H100") == OK
    assert taints(node) == {"spot": "", "dedicated": "vision", "gpu": "H100"}
    assert "takes only jobs that tolerate spot and dedicated=vision and gpu=H100" in line.err


def test_a_taint_of_a_key_that_is_there_replaces_it(line: CommandLine, node: node_pb2.Node) -> None:
    assert line.run("node", "taint", "n1", "spot=cheap") == OK
    assert taints(node) == {"spot": "cheap"}


def test_a_taint_goes_by_its_key_or_as_it_is_written(
    line: CommandLine, node: node_pb2.Node
) -> None:
    line.run("node", "taint", "n1", "dedicated=vision")
    assert line.run("node", "untaint", "n1", "dedicated=vision") == OK
    assert taints(node) == {"spot": ""}
    assert line.run("node", "untaint", "n1", "spot") == OK
    assert taints(node) == {}
    assert line.err.endswith("n1 has no taints.\n")


@pytest.mark.parametrize("gone", ["dedicated", "spot=yes"])
def test_what_is_no_taint_of_the_node_is_said_with_those_that_are(
    line: CommandLine, node: node_pb2.Node, gone: str
) -> None:
    assert line.run("node", "untaint", "n1", gone) == USAGE
    assert f"n1 has no taint {gone}; it has spot." in line.err
    assert taints(node) == {"spot": ""}


def test_a_taint_from_elsewhere_is_shown_and_stays(line: CommandLine, node: node_pb2.Node) -> None:
    node.external_taints.add(key="old")
    node.unschedulable = "cordoned in Kubernetes"
    assert line.run("node", "untaint", "n1", "old") == USAGE
    assert "remove it there (kubectl taint node n1 old-)" in line.err
    assert line.run("node", "taint", "n1", "dedicated=vision") == OK
    assert taints(node) == {"spot": "", "dedicated": "vision"}
    assert line.run("node", "show", "n1") == OK
    assert "old" in line.out
    assert "cordoned in Kubernetes" in line.out


def test_a_node_of_pods_says_what_it_runs(line: CommandLine, node: node_pb2.Node) -> None:
    assert line.run("node", "show", "n1") == OK
    assert "processes" in line.out
    for able in ("pod_network", "runs_images", "whole_gpus"):
        setattr(node.capabilities, able, True)
    assert line.run("node", "show", "n1") == OK
    assert "pods, images, whole GPUs only" in line.out
    assert "all, in pods of their own" in line.out


def test_what_is_no_taint_at_all_is_refused_before_anything_is_sent(
    line: CommandLine, cluster: FakeCluster, node: node_pb2.Node
) -> None:
    assert line.run("node", "taint", "n1", "=vision") == USAGE
    assert "write KEY or KEY=VALUE" in line.err
    assert cluster.calls == []


def test_an_unknown_node_is_said(line: CommandLine) -> None:
    assert line.run("node", "taint", "n9", "spot") == FAILED
    assert "no node 'n9'" in line.err


def test_taints_stand_in_the_list_and_in_the_details(
    line: CommandLine, node: node_pb2.Node
) -> None:
    line.run("node", "taint", "n1", "dedicated=vision")
    line.run("node", "list")
    assert "spot,dedicated=vision" in line.out
    line.run("node", "show", "n1")
    assert "taints     spot\n           dedicated=vision" in line.out
    line.run("node", "show", "n1", "--format", "json")
    assert json.loads(line.out)["taints"][1] == {"key": "dedicated", "value": "vision"}
