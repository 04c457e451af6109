"""What a node can give, from its object, from the pods on it, and from what a daemon there says of
its GPUs. PURE.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from controlplane.domain.model import Gpu, NodeCapabilities, NodeInventory
from controlplane.launch.kubernetes.api import Object
from controlplane.launch.kubernetes.names import GPU_RESOURCE
from controlplane.launch.kubernetes.node_gpus import (
    Devices,
    Holding,
    PodKey,
    counted_gpus,
    fits,
    told_gpus,
)
from controlplane.launch.kubernetes.pod_status import items, mapping, text
from controlplane.launch.kubernetes.quantities import quantity_or
from controlplane.launch.kubernetes.settings import KubernetesSettings
from riseml.spec.gpu_names import short_model

GPU_PRODUCT: Final = "nvidia.com/gpu.product"
GPU_MEMORY: Final = "nvidia.com/gpu.memory"
"""Labels of NVIDIA's GPU feature discovery; memory in MiB."""

_CLOSING: Final = frozenset({"NoSchedule", "NoExecute"})
# Kubernetes' own words on the state of a node, which we read from elsewhere.
_LIFECYCLE: Final = re.compile(r"node\.kubernetes\.io/(not-ready|unreachable|unschedulable)")
_PRESSURE: Final = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


@dataclass(frozen=True, slots=True)
class NodePods:
    """The pods of a node that have not ended."""

    foreign: Sequence[Object] = ()
    """Those of others."""
    own: Mapping[PodKey, str] = field(default_factory=dict)
    """Our attempts."""
    all_known: bool = True
    """Whether those of others are watched at all."""


def is_ready(node: Object) -> bool:
    """Whether its kubelet reports, and is ready for pods."""
    return _condition(node, "Ready") == "True"


def is_ours(node: Object, settings: KubernetesSettings) -> bool:
    """Whether jobs may run there at all."""
    labels = mapping(node, "metadata", "labels")
    return all(labels.get(key) == value for key, value in settings.node_selector.items())


def read_node(
    node: Object,
    pods: NodePods,
    held_gpus: Collection[str],
    settings: KubernetesSettings,
    devices: Devices | None = None,
) -> NodeInventory:
    """`held_gpus`: names of GPUs that attempts of ours have. `devices`: what a daemon says."""
    name = text(node, "metadata", "name")
    foreign = [pod for pod in pods.foreign if not _over(pod)]
    free_cpus = _allocatable(node, "cpu") - _sum(foreign, "cpu")
    free_memory = _allocatable(node, "memory") - _sum(foreign, "memory")
    gpus = _gpus(node, name, _holding(foreign, pods, held_gpus), devices)
    return NodeInventory(
        node_name=name,
        boot_id=text(node, "status", "nodeInfo", "bootID"),
        daemon_version=f"kubelet {text(node, 'status', 'nodeInfo', 'kubeletVersion')}".strip(),
        cpu_milli=max(0, int(free_cpus * 1000)),
        memory_bytes=max(0, int(free_memory)),
        gpus=gpus,
        labels=tuple(sorted((str(k), str(v)) for k, v in _labels(node).items())),
        capabilities=NodeCapabilities(
            isolates_users=True,
            limits="kubernetes",
            output_root="local" if settings.output_volume is None else "shared",
            # That there is no driver is worth a word only where there are GPUs.
            notes=devices.notes if devices is not None and gpus else (),
            runs_images=True,
            whole_gpus=True,
            pod_network=True,
        ),
        address=_address(node) or name,
        taints=_taints(node, settings.tolerations),
        unschedulable=_unschedulable(node, len(foreign) + len(pods.own)),
    )


def _labels(node: Object) -> Mapping[str, Any]:
    return mapping(node, "metadata", "labels")


def _allocatable(node: Object, resource: str) -> Decimal:
    return quantity_or(mapping(node, "status", "allocatable").get(resource))


def _condition(node: Object, kind: str) -> str:
    for one in items(node, "status", "conditions"):
        if one.get("type") == kind:
            return text(one, "status")
    return ""


def _address(node: Object) -> str:
    for one in items(node, "status", "addresses"):
        if one.get("type") == "InternalIP":
            return text(one, "address")
    return ""


# ----------------------------------------------------------------------------- pods of others
def _over(pod: Object) -> bool:
    return text(pod, "status", "phase") in ("Succeeded", "Failed")


def _sum(pods: Iterable[Object], resource: str) -> Decimal:
    return sum((_request(pod, resource) for pod in pods), Decimal(0))


def _request(pod: Object, resource: str) -> Decimal:
    """What a pod holds. Init containers run one after the other, before the others, except those
    that are restarted, which stay (KEP 753, "Resources calculation for scheduling")."""
    staying = Decimal(0)
    most = Decimal(0)
    for container in items(pod, "spec", "initContainers"):
        own = _of_container(container, resource)
        if container.get("restartPolicy") == "Always":
            staying += own
            most = max(most, staying)
        else:
            most = max(most, staying + own)
    running = staying + sum(
        (_of_container(c, resource) for c in items(pod, "spec", "containers")), Decimal(0)
    )
    return max(most, running) + quantity_or(mapping(pod, "spec", "overhead").get(resource))


def _of_container(container: Mapping[str, Any], resource: str) -> Decimal:
    requests = mapping(container, "resources", "requests")
    # Of extended resources such as GPUs, a limit is a request.
    return quantity_or(
        requests.get(resource), quantity_or(mapping(container, "resources", "limits").get(resource))
    )


# --------------------------------------------------------------------------------------- GPUs
def _holding(foreign: Iterable[Object], pods: NodePods, held_gpus: Collection[str]) -> Holding:
    asking = [(_key(pod), int(_request(pod, GPU_RESOURCE))) for pod in foreign]
    return Holding([one for one in asking if one[1]], pods.own, held_gpus, pods.all_known)


def _key(pod: Object) -> PodKey:
    return text(pod, "metadata", "namespace"), text(pod, "metadata", "name")


def _gpus(node: Object, name: str, holding: Holding, devices: Devices | None) -> tuple[Gpu, ...]:
    capacity = int(quantity_or(mapping(node, "status", "capacity").get(GPU_RESOURCE)))
    if devices is not None and devices.gpus and fits(devices, capacity):
        return told_gpus(devices, holding)
    product = str(_labels(node).get(GPU_PRODUCT, "")).replace("-", " ")
    kind = Gpu(
        uuid="",
        index=0,
        name=product or "GPU",
        model=short_model(product) if product else "GPU",
        memory_bytes=int(quantity_or(_labels(node).get(GPU_MEMORY)) * 2**20),
    )
    offered = min(capacity, int(_allocatable(node, GPU_RESOURCE)))
    return counted_gpus(name, capacity, offered, kind, holding)


# ---------------------------------------------------------------------------- who may come here
def _taints(node: Object, tolerations: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Those that every job has to tolerate by itself."""
    tolerated = list(tolerations)
    found = [
        (text(taint, "key"), text(taint, "value"))
        for taint in items(node, "spec", "taints")
        if taint.get("effect") in _CLOSING
        and not _LIFECYCLE.fullmatch(text(taint, "key"))
        and not any(_tolerates(one, taint) for one in tolerated)
    ]
    return tuple(sorted(set(found)))


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """As https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/ says."""
    effect, key = text(toleration, "effect"), text(toleration, "key")
    if effect and effect != taint.get("effect"):
        return False
    if toleration.get("operator") == "Exists":
        return not key or key == taint.get("key")
    return key == taint.get("key") and text(toleration, "value") == text(taint, "value")


def _unschedulable(node: Object, pods: int) -> str:
    """To follow "is"; "" if new pods may come."""
    if mapping(node, "spec").get("unschedulable"):
        return "cordoned in Kubernetes"
    for kind in _PRESSURE:
        if _condition(node, kind) == "True":
            return f"closed by Kubernetes ({kind})"
    most = int(_allocatable(node, "pods"))
    if most and pods >= most:
        return f"full: it takes {most} pods"
    return ""
