"""What fits where: the rules for one member on one node. The applier checks the same again."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from controlplane.domain.model import Gpu
from controlplane.domain.snapshot import GangRequest, GpuView, NodeView, Shape
from riseml.spec.gpus import model_fits
from riseml.spec.model import GPU, Resources
from riseml.spec.taints import untolerated


class Barrier(enum.IntEnum):
    """What keeps a gang from a node whatever it asks for; the first in this order."""

    NONE = 0
    # Its earlier output lies elsewhere.
    PINNED = 1
    LABELS = 2
    TAINTED = 3
    # The node is another user's.
    OWNED = 4
    # The node runs jobs as plain processes, and the gang names an image.
    IMAGELESS = 5


class EligibleKey(NamedTuple):
    """What decides which nodes a gang may use, whatever it asks for."""

    node_selector: tuple[tuple[str, str], ...] = ()
    # Empty: any.
    only_nodes: tuple[str, ...] = ()
    # "" where no node is one user's alone.
    user_name: str = ""
    # Empty where no node has taints.
    tolerations: tuple[tuple[str, str], ...] = ()
    # False where every node runs images.
    needs_image: bool = False

    @classmethod
    def of(
        cls,
        shape: Shape | GangRequest,
        owned: bool = True,
        tainted: bool = True,
        imageless: bool = True,
    ) -> EligibleKey:
        """Equal for gangs that may use the same nodes, some of which may be one user's alone
        (`owned`), have taints, or not run images.
        """
        return cls(
            shape.node_selector,
            shape.only_nodes,
            shape.user_name if owned else "",
            shape.tolerations if tainted else (),
            imageless and shape.needs_image,
        )


def has_labels(node: NodeView, selector: tuple[tuple[str, str], ...]) -> bool:
    """Whether a node bears every label of a selector; `riseml.com/node` is one of its labels."""
    return all(label in node.labels for label in selector)


def barrier_of(node: NodeView, key: EligibleKey) -> Barrier:
    """What keeps gangs of this key from a node, whether it is open or not."""
    if key.only_nodes and node.name not in key.only_nodes:
        return Barrier.PINNED
    if key.node_selector and not has_labels(node, key.node_selector):
        return Barrier.LABELS
    if node.taints and untolerated(node.taints, key.tolerations) is not None:
        return Barrier.TAINTED
    if node.only_user and node.only_user != key.user_name:
        return Barrier.OWNED
    if key.needs_image and not node.runs_images:
        return Barrier.IMAGELESS
    return Barrier.NONE


def may_use(node: NodeView, key: EligibleKey) -> bool:
    """Whether jobs of this kind may go to a node at all, if there is room. Closed nodes: no."""
    return node.open and not barrier_of(node, key)


@lru_cache(maxsize=4096)
def _model_matches(asked: str, model: str, name: str) -> bool:
    return model_fits(asked, model) or model_fits(asked, name)


def gpu_matches(gpu: Gpu, resources: Resources) -> bool:
    """Whether a GPU is of a model and has the memory that was asked for."""
    if gpu.memory_bytes < resources.gpu_min_memory_bytes:
        return False
    return resources.gpu_model is None or _model_matches(resources.gpu_model, gpu.model, gpu.name)


def wants_share(wanted: Resources) -> bool:
    """Whether a member asks for a part of one GPU."""
    return 0 < wanted.gpu_milli < GPU


def refuses_share(node: NodeView, wanted: Resources) -> bool:
    """Whether a member asks for a part of a GPU where only whole ones are given."""
    return node.whole_gpus and wants_share(wanted)


@dataclass(frozen=True, slots=True)
class GpuClass:
    """GPUs that do for the same members."""

    # One of them.
    gpu: Gpu
    # Whether no member gets a part of one.
    whole_only: bool

    def serves(self, wanted: Resources) -> bool:
        """Whether such a GPU does for a member, if it is free."""
        return gpu_matches(self.gpu, wanted) and not (self.whole_only and wants_share(wanted))


def tested_view(node: NodeView, uuid: str) -> GpuView | None:
    """The GPU in probation that a test is for, if it is on this node."""
    for view in node.gpus:
        if view.gpu.uuid == uuid and view.probation:
            return view
    return None
