"""Who asks for what, and when: arrivals drawn from the tasks of a trace by a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from controlplane.simulation.traces import TraceNode, TraceTask
from riseml.spec.gpus import model_fits
from riseml.spec.model import DEFAULT_PRIORITY, GPU

MINUTE: Final = 60.0
DAY: Final = 86_400.0

# Where a trace has none: a priority, and how many in ten have it.
DRAWN_PRIORITIES: Final = ((80, 2), (50, 5), (30, 3))


@dataclass(frozen=True, slots=True)
class Arrival:
    """A task that somebody submits."""

    time: float
    task: TraceTask
    # How long it runs if nobody stops it, and what its user says (its max_duration).
    duration_seconds: float
    estimate_seconds: float
    user_name: str
    # 0-100, high first.
    priority: int


@dataclass(frozen=True, slots=True)
class Load:
    """How arrivals are drawn for a replay in time."""

    # GPU-seconds asked for, as a part of those that the nodes have.
    offered: float = 1.0
    warm_up_seconds: float = DAY
    measured_seconds: float = 3 * DAY
    # Longer tasks are cut to this.
    longest_seconds: float = DAY
    # An estimate is the duration times something between 1 and this, evenly.
    overestimate: float = 3.0
    # Users of whom the n-th submits 1/n as much as the first (Zipf).
    users: int = 1
    # Whether tasks have the priorities of their trace, or drawn ones where it has none.
    priorities: bool = False
    # How often tasks write a checkpoint, from which they go on after they were stopped; None: what
    # they had done is lost.
    checkpoint_seconds: float | None = None


class NothingFits(Exception):
    """No task of the trace can be used on these nodes; the text says why."""


def gpu_capacity_milli(nodes: Sequence[TraceNode]) -> int:
    """Thousandths of all GPUs."""
    return GPU * sum(node.gpu_count for node in nodes)


def sample(nodes: Sequence[TraceNode], count: int, random: Random) -> list[TraceNode]:
    """So many of the nodes, in their order; all of them if there are no more."""
    if count >= len(nodes):
        return list(nodes)
    chosen = sorted(random.sample(range(len(nodes)), count))
    return [nodes[position] for position in chosen]


def arrivals_up_to(tasks: Sequence[TraceTask], gpu_milli: int, random: Random) -> list[TraceTask]:
    """All tasks in random order, then more of them at random, with replacement, until together they
    ask for so many thousandths of GPUs.
    """
    drawn = list(tasks)
    random.shuffle(drawn)
    asked = 0
    for position, task in enumerate(drawn):
        asked += task.gpu_milli
        if asked >= gpu_milli:
            return drawn[: position + 1]
    if not asked:
        raise NothingFits("none of the tasks asks for a GPU")
    while asked < gpu_milli:
        task = random.choice(tasks)
        asked += task.gpu_milli
        drawn.append(task)
    return drawn


def usable(tasks: Sequence[TraceTask], nodes: Sequence[TraceNode]) -> list[TraceTask]:
    """Tasks with an end that these nodes could hold if nothing else ran. Raises NothingFits."""
    timed = [task for task in tasks if task.duration_seconds is not None]
    if not timed:
        raise NothingFits("no task of this trace has both a start and an end")
    fits: dict[TraceTask, bool] = {}
    found = []
    for task in timed:
        kind = TraceTask(task.resources, task.members)
        if kind not in fits:
            fits[kind] = could_hold(nodes, kind)
        if fits[kind]:
            found.append(task)
    if not any(task.gpu_milli and task.duration_seconds for task in found):
        raise NothingFits("no task that asks for GPUs fits on these nodes")
    return found


def could_hold(nodes: Sequence[TraceNode], task: TraceTask) -> bool:
    """Whether all members would find room at once on these nodes if nothing else ran."""
    room = 0
    for node in nodes:
        room += _members_on(node, task)
        if room >= task.members:
            return True
    return False


def _members_on(node: TraceNode, task: TraceTask) -> int:
    wanted, most = task.resources, task.members
    if wanted.cpu_milli:
        most = min(most, node.cpu_milli // wanted.cpu_milli)
    if wanted.memory_bytes:
        most = min(most, node.memory_bytes // wanted.memory_bytes)
    if wanted.gpu_milli:
        if wanted.gpu_model is not None and not model_fits(wanted.gpu_model, node.gpu_model):
            return 0
        if wanted.gpu_milli < GPU:
            most = min(most, node.gpu_count * (GPU // wanted.gpu_milli))
        else:
            most = min(most, node.gpu_count // (wanted.gpu_milli // GPU))
    return most


def arrivals_in_time(
    tasks: Sequence[TraceTask], nodes: Sequence[TraceNode], load: Load, random: Random
) -> ArrivalStream:
    """Tasks drawn with replacement, coming as a Poisson process of this load. Raises NothingFits.

    It never ends: what is measured last meets the same load as what is measured first.
    """
    return ArrivalStream(usable(tasks, nodes), nodes, load, random)


class ArrivalStream:
    """One arrival after the other."""

    def __init__(
        self,
        tasks: Sequence[TraceTask],
        nodes: Sequence[TraceNode],
        load: Load,
        random: Random,
    ) -> None:
        self._tasks = tasks
        self._load = load
        self._random = random
        # What is drawn for users and priorities leaves the arrivals as they are.
        self._social = Random(f"users {random.random()}")
        self._users = user_names(load)
        self._shares = [1.0 / place for place in range(1, load.users + 1)]
        work = sum(_cut(task, load) * task.gpu_milli for task in tasks) / len(tasks)
        # Arrivals a second.
        self.rate = load.offered * gpu_capacity_milli(nodes) / work
        self._time = 0.0

    def next(self) -> Arrival:
        """The next one; times only rise."""
        self._time += self._random.expovariate(self.rate)
        task = self._random.choice(self._tasks)
        duration = _cut(task, self._load)
        estimate = duration * self._random.uniform(1.0, self._load.overestimate)
        (user_name,) = self._social.choices(self._users, self._shares)
        return Arrival(self._time, task, duration, estimate, user_name, self._priority(task))

    def _priority(self, task: TraceTask) -> int:
        if not self._load.priorities:
            return DEFAULT_PRIORITY
        if task.priority is not None:
            return task.priority
        (drawn,) = self._social.choices(*zip(*DRAWN_PRIORITIES, strict=True))
        return drawn


def user_names(load: Load) -> list[str]:
    """Of those who submit, the busiest first."""
    return [f"user-{place:03}" for place in range(1, load.users + 1)]


def _cut(task: TraceTask, load: Load) -> float:
    """Of its duration, what counts; nothing takes less than a second."""
    return min(max(task.duration_seconds or 0.0, 1.0), load.longest_seconds)
