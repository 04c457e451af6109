"""Lets the scheduler decide on made-up clusters, and prints as JSON what it took.

python -m benchmarks.scheduler.deciding one-by-one NODES JOBS [POLICY]
python -m benchmarks.scheduler.deciding at-once NODES JOBS [POLICY]
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from controlplane.core.mix import JobMix
from controlplane.domain.model import Gpu
from controlplane.domain.snapshot import (
    Backlog,
    GangRequest,
    GpuView,
    MemberPlacement,
    MemberRequest,
    NodeView,
    Snapshot,
)
from controlplane.scheduler.cycle import Scheduler
from controlplane.scheduler.policy import POLICIES
from riseml.spec.model import CPU, GIB, GPU, Resources

# Model, GPUs, CPUs, memory in GiB, and how many of 100 nodes.
NODE_KINDS: Final = (
    ("H100", 8, 96, 384, 45),
    ("A100", 8, 128, 768, 5),
    ("T4", 2, 104, 512, 35),
    ("V100", 4, 32, 128, 5),
    ("P100", 2, 16, 120, 10),
)
# GPUs of jobs in thousandths, and how many of 100 jobs ask for so many.
SIZES: Final = ((0, 10), (160, 5), (320, 10), (470, 12), (650, 5), (810, 10), (1000, 42))
SIZES_OF_GANGS: Final = ((2000, 2), (4000, 2), (8000, 2))
KINDS: Final = 60


def nodes(number: int, *, uniform: bool = False) -> list[NodeView]:
    """By name; `uniform` ones have 8 GPUs each."""
    rng = Random(1)
    weights = [kind[4] for kind in NODE_KINDS]
    found = []
    for index in range(number):
        kind = NODE_KINDS[1] if uniform else rng.choices(NODE_KINDS, weights)[0]
        model, gpus, cpus, memory, _ = kind
        name = f"n{index:05}"
        views = [
            GpuView(Gpu(f"{name}-{i}", i, f"NVIDIA {model}", model, 80 * GIB), GPU)
            for i in range(gpus)
        ]
        found.append(
            NodeView(
                name=name,
                cpu_milli=cpus * CPU,
                memory_bytes=memory * GIB,
                free_cpu_milli=cpus * CPU,
                free_memory_bytes=memory * GIB,
                gpus=tuple(views),
                labels=(("riseml.com/node", name),),
                free_ports=100,
            )
        )
    return found


def jobs(number: int) -> list[GangRequest]:
    """Of single members."""
    rng = Random(2)
    sizes, weights = zip(*SIZES, *SIZES_OF_GANGS, strict=True)
    kinds = []
    for size in rng.choices(sizes, weights, k=KINDS):
        each = max(1.0, size / GPU)
        cpus = round(each * rng.choice((3, 4, 8, 11, 12)) * CPU)
        kinds.append(Resources(cpus, round(each * rng.choice((6, 16, 48)) * GIB), size))
    return [
        GangRequest(
            f"ana.{index}",
            "ana",
            "default",
            50,
            float(index),
            (MemberRequest(f"ana.{index}.train.1", rng.choice(kinds)),),
        )
        for index in range(number)
    ]


def taken(view: NodeView, place: MemberPlacement) -> NodeView:
    """The node once that runs there."""
    milli = {share.uuid: share.milli for share in place.gpus}
    gpus = [
        GpuView(one.gpu, one.free_milli - milli[one.gpu.uuid]) if one.gpu.uuid in milli else one
        for one in view.gpus
    ]
    return replace(
        view,
        free_cpu_milli=view.free_cpu_milli - place.cpu_milli,
        free_memory_bytes=view.free_memory_bytes - place.memory_bytes,
        gpus=tuple(gpus),
    )


def one_by_one(views: list[NodeView], waiting: Sequence[GangRequest], policy: str) -> Any:
    """Each job in a snapshot and a cycle of its own."""
    scheduler, mix = Scheduler(POLICIES[policy]), JobMix()
    positions = {view.name: position for position, view in enumerate(views)}
    placed, seconds = 0, 0.0
    for version, gang in enumerate(waiting, 1):
        mix.saw(gang.members[0].resources)
        picture = Snapshot(version, tuple(views), Backlog.of([gang]), mix=mix.shown())
        begin = time.perf_counter()
        plan = scheduler.schedule(picture, float(version))
        seconds += time.perf_counter() - begin
        for placement in plan.placements:
            for member in placement.members:
                position = positions[member.node_name]
                views[position] = taken(views[position], member)
                placed += 1
    return {"per_second": len(waiting) / seconds, "placed": placed}


def at_once(views: list[NodeView], waiting: Sequence[GangRequest], policy: str) -> Any:
    """All jobs in one cycle, thrice."""
    scheduler, mix = Scheduler(POLICIES[policy]), JobMix()
    for gang in waiting:
        mix.saw(gang.members[0].resources)
    picture = Snapshot(1, tuple(views), Backlog.of(waiting), mix=mix.shown())
    took, placed = [], 0
    for version in range(3):
        begin = time.perf_counter()
        plan = scheduler.schedule(replace(picture, version=version), 0.0)
        took.append(1e3 * (time.perf_counter() - begin))
        placed = len(plan.placements)
    return {"cold_ms": took[0], "warm_ms": min(took[1:]), "placed": placed}


def main(arguments: list[str]) -> int:
    what, number, count = arguments[0], int(arguments[1]), int(arguments[2])
    policy = arguments[3] if len(arguments) > 3 else "riseml"
    run = {"one-by-one": one_by_one, "at-once": at_once}[what]
    found = run(nodes(number, uniform=what == "at-once"), jobs(count), policy)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found["resident_mb"] = usage.ru_maxrss / 1024
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
