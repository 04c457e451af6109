"""What a daemon says of its node arrives at the users as it was said."""

from __future__ import annotations

import pytest

from controlplane.domain.model import Node, NodeInventory, NodeStateName
from controlplane.rpc import convert, convert_daemon
from riseml.v1 import daemon_pb2, node_pb2

GIB = 1 << 30


def as_shown(*gpus: node_pb2.Gpu, shm_bytes: int = 0) -> node_pb2.Node:
    said = daemon_pb2.NodeInventory(node_name="n1", gpus=gpus, shm_bytes=shm_bytes)
    node = Node("n1", convert_daemon.inventory(said), 1, NodeStateName.READY)
    return convert.node(node, (), None)


@pytest.mark.parametrize(
    "gpu",
    [
        node_pb2.Gpu(uuid="GPU-1", health=node_pb2.GPU_HEALTH_HEALTHY),
        node_pb2.Gpu(
            uuid="GPU-1",
            index=3,
            name="NVIDIA H100",
            model="H100",
            memory_bytes=80 * GIB,
            health=node_pb2.GPU_HEALTH_QUARANTINED,
            health_reason="xid_48",
            health_message="XID 48: double-bit ECC error",
            foreign_memory_bytes=3 * GIB,
            numa_node=1,
            nvlink_group=0,
            pcie_group=0,
            foreign_processes=[
                node_pb2.ForeignProcess(pid=812, user_name="ana", memory_bytes=2 * GIB),
                node_pb2.ForeignProcess(pid=4, memory_bytes=GIB),
            ],
        ),
    ],
)
def test_a_gpu_arrives_as_it_was_said(gpu: node_pb2.Gpu) -> None:
    gpu.health_time.FromNanoseconds(1_764_000_000_500_000_000)
    assert as_shown(gpu).gpus[0] == gpu


def test_groups_that_are_not_known_stay_absent() -> None:
    (gpu,) = as_shown(node_pb2.Gpu(uuid="GPU-1")).gpus
    assert not gpu.HasField("nvlink_group")
    assert not gpu.HasField("pcie_group")
    assert not gpu.HasField("health_time")


def test_what_a_node_can_do_arrives() -> None:
    able = node_pb2.NodeCapabilities(
        only_user="ana", output_root="shared", runs_images=True, whole_gpus=True, pod_network=True
    )
    said = daemon_pb2.NodeInventory(node_name="n1", capabilities=able)
    node = Node("n1", convert_daemon.inventory(said), 1, NodeStateName.READY)
    assert convert.node(node, (), None).capabilities == able


def test_what_admins_set_stands_apart_from_what_a_node_has_from_elsewhere() -> None:
    inventory = NodeInventory(
        "n1", "b", "1", 0, 0, taints=(("old", ""),), unschedulable="cordoned in Kubernetes"
    )
    shown = convert.node(Node("n1", inventory, 1, taints=(("spot", ""),)), (), None)
    assert [taint.key for taint in shown.taints] == ["spot"]
    assert [taint.key for taint in shown.external_taints] == ["old"]
    assert (shown.cordoned, shown.unschedulable) == (False, "cordoned in Kubernetes")


def test_the_size_of_shared_memory_arrives() -> None:
    assert as_shown(shm_bytes=7 * GIB).shm_bytes == 7 * GIB
