"""The GPUs of a node, out of what Kubernetes and a daemon on the node say of them. PURE.

Kubernetes only counts: the device plugin offers so many, and the kubelet chooses which a pod gets.
Where a daemon tells what there is, GPUs have their own names, health and holders. Where none does
they are counted under the names `NODE/0`, `NODE/1`, ...
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from controlplane.core.gpu_words import FOREIGN_MEMORY_LIMIT_BYTES
from controlplane.core.quarantine import as_said
from controlplane.domain.model import ForeignProcess, Gpu, GpuHealthName

PodKey: TypeAlias = tuple[str, str]
"""Namespace and name."""

NOT_OFFERED: Final = "the node's device plugin does not offer it now"
_NOT_OFFERED_REASON: Final = "device_plugin"


@dataclass(frozen=True, slots=True)
class Devices:
    """What a daemon on the node says."""

    gpus: tuple[Gpu, ...]
    """As the driver shows them, with health and with memory that processes of no job hold."""
    offered: frozenset[str]
    """UUIDs that the device plugin offers, held or not."""
    holders: Mapping[str, PodKey] = field(default_factory=dict)
    """By UUID: the pods that the kubelet gave GPUs to; ended ones may be among them."""
    notes: tuple[str, ...] = ()
    """What it cannot tell, in sentences for people."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Who has GPUs of the node by the word of Kubernetes."""

    foreign: Sequence[tuple[PodKey, int]]
    """Pods of others that have not ended, with how many GPUs they asked for."""
    own: Mapping[PodKey, str]
    """Attempts of our pods that have not ended."""
    attempts: Collection[str]
    """Names of GPUs that attempts have by our own books."""
    all_known: bool
    """Whether the pods of others are watched: who holds a GPU and is not in the above has ended."""


def counted_gpus(
    node_name: str, capacity: int, offered: int, kind: Gpu, holding: Holding
) -> tuple[Gpu, ...]:
    """GPUs without names: `kind` says what each is like."""
    gpus = [replace(kind, uuid=f"{node_name}/{index}", index=index) for index in range(capacity)]
    order = _likely_order(gpus, holding.attempts)
    withheld = {gpu.uuid for gpu in order[: capacity - offered]}
    order = order[capacity - offered :]
    takers = [key for key, count in holding.foreign for _ in range(count)]
    taken = {gpu.uuid: key for gpu, key in zip(order, takers, strict=False)}
    return tuple([_as_seen(gpu, gpu.uuid in withheld, taken.get(gpu.uuid)) for gpu in gpus])


def told_gpus(devices: Devices, holding: Holding) -> tuple[Gpu, ...]:
    """GPUs that a daemon tells of."""
    foreign = {key for key, _ in holding.foreign}
    taken: dict[str, PodKey] = {}
    for uuid, key in devices.holders.items():
        if key in foreign or (key not in holding.own and not holding.all_known):
            taken[uuid] = key
    named = set(devices.holders.values())
    free = [
        gpu
        for gpu in _likely_order(devices.gpus, holding.attempts)
        if gpu.uuid in devices.offered and gpu.uuid not in devices.holders
    ]
    # Of pods that were just bound the kubelet does not speak yet.
    takers = [key for key, count in holding.foreign if key not in named for _ in range(count)]
    taken |= {gpu.uuid: key for gpu, key in zip(free, takers, strict=False)}
    own = {uuid: key for uuid, key in devices.holders.items() if key in holding.own}
    return tuple(
        [
            _with_own_pod(gpu, own[gpu.uuid])
            if gpu.uuid in own and gpu.uuid not in taken
            else _as_seen(gpu, gpu.uuid not in devices.offered, taken.get(gpu.uuid))
            for gpu in devices.gpus
        ]
    )


def given_gpus(
    devices: Devices | None, own: Mapping[PodKey, str]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(attempt id, UUIDs): what attempts were seen with."""
    found: dict[str, list[str]] = {}
    for uuid, key in sorted(devices.holders.items()) if devices is not None else ():
        if key in own:
            found.setdefault(own[key], []).append(uuid)
    return tuple((attempt_id, tuple(uuids)) for attempt_id, uuids in sorted(found.items()))


def is_told(gpus: Iterable[Gpu], node_name: str) -> bool:
    """Whether a daemon told of these GPUs; false where there are none."""
    return any(not gpu.uuid.startswith(f"{node_name}/") for gpu in gpus)


def remembered(gpus: Sequence[Gpu]) -> Devices:
    """What was told when these GPUs were read, while the daemon has not told anything anew."""
    holders: dict[str, PodKey] = {}
    for gpu in gpus:
        namespace, slash, name = gpu.pod.partition("/")
        if slash:
            holders[gpu.uuid] = (namespace, name)
    offered = frozenset(gpu.uuid for gpu in gpus if not gpu.withheld)
    return Devices(tuple([_as_told(gpu) for gpu in gpus]), offered, holders)


def fits(devices: Devices, capacity: int) -> bool:
    """Whether what the daemon sees are the same things as the device plugin offers, one by one, and
    not slices of them, say."""
    return devices.offered.issubset({gpu.uuid for gpu in devices.gpus}) and capacity <= len(
        devices.gpus
    )


def _likely_order(gpus: Sequence[Gpu], held: Collection[str]) -> list[Gpu]:
    """In which pods of others might have them: from the end on, and last those that our attempts
    have. Which they really are only the node knows."""
    return sorted(gpus, key=lambda gpu: (gpu.uuid in held, -gpu.index))


def _as_seen(gpu: Gpu, withheld: bool, taken: PodKey | None) -> Gpu:
    if withheld:
        return _withheld(gpu)
    return gpu if taken is None else _taken(gpu, taken)


def _withheld(gpu: Gpu) -> Gpu:
    if gpu.health != GpuHealthName.HEALTHY:
        return replace(gpu, withheld=True)
    return replace(
        gpu,
        withheld=True,
        health=GpuHealthName.UNKNOWN,
        health_reason=_NOT_OFFERED_REASON,
        health_message=NOT_OFFERED,
    )


def _taken(gpu: Gpu, key: PodKey) -> Gpu:
    """It counts as full, whatever it really holds: the device plugin gives it to nobody else."""
    full = max(gpu.memory_bytes, FOREIGN_MEMORY_LIMIT_BYTES)
    pod = "/".join(key)
    return replace(
        gpu,
        pod=pod,
        foreign_memory_bytes=full,
        foreign_processes=(ForeignProcess(0, f"pod {pod}", full),),
    )


def _with_own_pod(gpu: Gpu, key: PodKey) -> Gpu:
    """Processes there that nobody knows yet are the pod's."""
    return replace(gpu, pod="/".join(key), foreign_memory_bytes=0, foreign_processes=())


def _as_told(gpu: Gpu) -> Gpu:
    """Without what was made of it."""
    gpu = as_said(replace(gpu, pod="", withheld=False))
    if gpu.health_reason == _NOT_OFFERED_REASON:
        gpu = replace(gpu, health=GpuHealthName.HEALTHY, health_reason="", health_message="")
    if gpu.foreign_processes and not gpu.foreign_processes[0].pid:
        gpu = replace(gpu, foreign_memory_bytes=0, foreign_processes=())
    return gpu
