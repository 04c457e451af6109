"""What earlier versions wrote is read as it was meant."""

from __future__ import annotations

from controlplane.domain.model import Node, NodeCapabilities, NodeInventory
from controlplane.store.codec import NODE

BARE = (
    '{"inventory":{"node_name":"n1","boot_id":"b","daemon_version":"1","cpu_milli":4000,'
    '"memory_bytes":8,"capabilities":{"isolates_users":true}},"epoch":3}'
)


def test_a_node_from_before_there_were_pods_runs_processes() -> None:
    node = NODE.from_row(("n1", BARE))
    able = node.inventory.capabilities
    assert able == NodeCapabilities(isolates_users=True)
    assert (able.runs_images, able.whole_gpus, able.pod_network) == (False, False, False)
    assert (node.inventory.taints, node.inventory.unschedulable) == ((), "")


def test_what_a_node_does_not_say_costs_nothing_and_what_it_says_comes_back() -> None:
    assert NODE.to_row(NODE.from_row(("n1", BARE))) == ("n1", BARE)
    able = NodeCapabilities(runs_images=True, whole_gpus=True, pod_network=True)
    inventory = NodeInventory(
        "n1", "b", "1", 1, 2, capabilities=able, taints=(("a", "b"),), unschedulable="cordoned"
    )
    node = Node("n1", inventory, 1)
    assert NODE.from_row(NODE.to_row(node)) == node
