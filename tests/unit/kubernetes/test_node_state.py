"""What nodes can give, and who may come there."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from controlplane.core.gpu_words import unusable_reason
from controlplane.domain.model import GpuHealthName, NodeInventory
from controlplane.launch.kubernetes.node_state import NodePods, is_ours, is_ready, read_node
from controlplane.launch.kubernetes.quantities import parse_quantity, quantity_or
from controlplane.launch.kubernetes.settings import read_settings
from tests.unit.kubernetes.launching import node

Json = dict[str, Any]


def settings(**more: Any) -> Any:
    return read_settings(
        {
            "namespace": "jobs",
            "control_plane_address": "riseml:7433",
            "platform_image": "platform:1",
            **more,
        }
    )


def read(found: Json, *foreign: Json, held: tuple[str, ...] = (), **more: Any) -> NodeInventory:
    return read_node(found, NodePods(foreign), held, settings(**more))


def foreign(*containers: Json, init: tuple[Json, ...] = (), phase: str = "Running") -> Json:
    return {
        "metadata": {"namespace": "other", "name": "web"},
        "spec": {
            "containers": [{"resources": c} for c in containers],
            "initContainers": [
                {"resources": {"requests": c["requests"]}, "restartPolicy": c.get("restart", "")}
                for c in init
            ],
        },
        "status": {"phase": phase},
    }


def asks(**requests: str) -> Json:
    return {"requests": requests}


def gpu(count: int) -> Json:
    return {"limits": {"nvidia.com/gpu": str(count)}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250m", "0.25"),
        ("2", "2"),
        ("1.5Gi", str(3 * 2**29)),
        ("128974848", "128974848"),
        ("129e6", "129000000"),
        ("12E", "12000000000000000000"),
        ("1k", "1000"),
        (".5", "0.5"),
    ],
)
def test_quantities(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1GiB", "x", None, "1e1000"])
def test_what_is_no_quantity_counts_as_nothing(text: object) -> None:
    with pytest.raises(ValueError):
        parse_quantity(text)
    assert quantity_or(text) == 0


def test_pods_of_others_take_of_it() -> None:
    found = read(
        node(),
        foreign(asks(cpu="500m", memory="1Gi"), asks(cpu="1")),
        # What has ended holds nothing.
        foreign(asks(cpu="4"), phase="Succeeded"),
    )
    assert found.cpu_milli == 6500
    assert found.memory_bytes == 15 << 30


def test_init_containers_count_where_they_ask_for_more() -> None:
    large = foreign(asks(cpu="1"), init=(asks(cpu="3"), asks(cpu="2")))
    assert read(node(), large).cpu_milli == 5000
    sidecar = foreign(asks(cpu="1"), init=({**asks(cpu="2"), "restart": "Always"},))
    assert read(node(), sidecar).cpu_milli == 5000


def test_gpus_of_others_are_used_and_not_those_that_we_hold() -> None:
    found = read(node(gpus=3), foreign(gpu(1)), held=("n1/2",))
    used = [unusable_reason(one) for one in found.gpus]
    assert used[0] == "" and used[2] == ""
    assert "pod other/web" in used[1]


def test_gpus_that_the_plugin_does_not_offer_are_not_used() -> None:
    less = node(gpus=2)
    less["status"]["capacity"] = {**less["status"]["capacity"], "nvidia.com/gpu": "3"}
    found = read(less)
    assert [one.health for one in found.gpus] == [
        *[GpuHealthName.HEALTHY] * 2,
        GpuHealthName.UNKNOWN,
    ]
    assert "device plugin" in unusable_reason(found.gpus[2])


def test_models_are_what_people_write() -> None:
    labelled = node(gpus=1)
    labelled["metadata"]["labels"] = {
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
        "nvidia.com/gpu.memory": "81559",
    }
    (one,) = read(labelled).gpus
    assert (one.uuid, one.model, one.memory_bytes) == ("n1/0", "H100", 81559 << 20)
    assert one.name == "NVIDIA H100 80GB HBM3"


def test_what_a_node_can_do() -> None:
    able = read(node()).capabilities
    assert able.runs_images and able.whole_gpus and able.pod_network
    assert able.output_root == "local"
    assert read(node(), output_volume="claim:o").capabilities.output_root == "shared"


def test_taints_keep_jobs_away_unless_all_jobs_tolerate_them() -> None:
    tainted = node()
    tainted["spec"]["taints"] = [
        {"key": "gpu", "value": "a100", "effect": "NoSchedule"},
        {"key": "soft", "effect": "PreferNoSchedule"},
        {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"},
        {"key": "drain", "effect": "NoExecute"},
    ]
    assert read(tainted).taints == (("drain", ""), ("gpu", "a100"))
    tolerations = [
        {"key": "gpu", "value": "a100"},
        {"key": "drain", "operator": "Exists", "effect": "NoSchedule"},
    ]
    assert read(tainted, tolerations=tolerations).taints == (("drain", ""),)
    assert read(tainted, tolerations=[{"operator": "Exists"}]).taints == ()


def test_a_cordon_closes_it_here_as_well() -> None:
    closed = node()
    closed["spec"]["unschedulable"] = True
    assert read(closed).unschedulable == "cordoned in Kubernetes"
    pressed = node()
    pressed["status"]["conditions"].append({"type": "DiskPressure", "status": "True"})
    assert "DiskPressure" in read(pressed).unschedulable
    assert read(node()).unschedulable == ""


def test_a_node_takes_only_so_many_pods() -> None:
    few = node()
    few["status"]["allocatable"] = {**few["status"]["allocatable"], "pods": "3"}

    def closed(own: int) -> str:
        pods = NodePods([foreign(asks())], {("jobs", str(n)): f"ana.{n}" for n in range(own)})
        return read_node(few, pods, (), settings()).unschedulable

    assert closed(1) == ""
    assert "3 pods" in closed(2)


def test_whose_nodes_they_are() -> None:
    labelled = node()
    labelled["metadata"]["labels"] = {"pool": "gpu"}
    assert is_ours(labelled, settings(node_selector={"pool": "gpu"}))
    assert not is_ours(labelled, settings(node_selector={"pool": "cpu"}))
    assert is_ready(labelled) and not is_ready(node(ready=False)) and not is_ready({})


def test_an_empty_object_is_a_node_that_gives_nothing() -> None:
    found = read({"metadata": {"name": "n1"}})
    assert (found.cpu_milli, found.memory_bytes, found.gpus) == (0, 0, ())
