"""What fits where: the rules for one member on one node. The applier checks the same again."""

from __future__ import annotations

from functools import lru_cache

from controlplane.domain.model import Gpu
from controlplane.domain.snapshot import GpuView, NodeView
from controlplane.scheduler.scratch import EligibleKey, ScratchNode, Taken
from riseml.spec.gpus import model_fits
from riseml.spec.model import GPU, Resources


def has_labels(node: NodeView, selector: tuple[tuple[str, str], ...]) -> bool:
    """Whether a node bears every label of a selector; `riseml.com/node` is one of its labels."""
    return all(label in node.labels for label in selector)


def may_use(node: NodeView, eligible: EligibleKey) -> bool:
    """Whether jobs of this kind may go to a node at all, if there is room. Closed nodes: no."""
    selector, only_nodes, user_name = eligible
    return (
        node.open
        and (not only_nodes or node.name in only_nodes)
        and (not selector or has_labels(node, selector))
        and (not node.only_user or node.only_user == user_name)
    )


@lru_cache(maxsize=1024)
def _model_matches(asked: str, model: str, name: str) -> bool:
    return model_fits(asked, model) or model_fits(asked, name)


def gpu_matches(gpu: Gpu, resources: Resources) -> bool:
    """Whether a GPU is of the model and has the memory that was asked for."""
    if gpu.memory_bytes < resources.gpu_min_memory_bytes:
        return False
    return resources.gpu_model is None or _model_matches(resources.gpu_model, gpu.model, gpu.name)


def tested_view(node: NodeView, uuid: str) -> GpuView | None:
    """The GPU in probation that a test is for, if it is on this node."""
    for view in node.gpus:
        if view.gpu.uuid == uuid and view.probation:
            return view
    return None


def choose_gpus(node: ScratchNode, resources: Resources) -> Taken | None:
    """The GPUs to take for a member, None when there are too few.

    A share lives on one GPU: the fullest one that has room, so that others stay whole. Whole GPUs
    are wholly free ones. Of several that do, those with the least memory, then the first.
    """
    wanted = resources.gpu_milli
    if not wanted:
        return ()
    free = node.gpu_free
    gpus = node.view.gpus
    if wanted < GPU:
        shares = [
            (milli, gpus[position].gpu.memory_bytes, position)
            for position, milli in enumerate(free)
            if milli >= wanted and gpu_matches(gpus[position].gpu, resources)
        ]
        return ((min(shares)[2], wanted),) if shares else None
    count = wanted // GPU
    if node.whole_free < count:
        return None
    whole = [
        (gpus[position].gpu.memory_bytes, position)
        for position, milli in enumerate(free)
        if milli == GPU and gpu_matches(gpus[position].gpu, resources)
    ]
    if len(whole) < count:
        return None
    whole.sort()
    return tuple([(position, GPU) for position in sorted(p for _, p in whole[:count])])


def has_room(node: ScratchNode, resources: Resources, ports: int) -> bool:
    """Whether CPUs, memory and ports suffice, and GPUs may: `choose_gpus` decides on those."""
    return (
        node.free_cpu_milli >= resources.cpu_milli
        and node.free_memory_bytes >= resources.memory_bytes
        and node.free_ports >= ports
        and node.whole_free * GPU >= (resources.gpu_milli if resources.gpu_milli >= GPU else 0)
    )
