"""Nodes and tasks as trace files have them.

Two formats are read: the CSV files of Alibaba's cluster-trace-gpu-v2023 (`openb`), and job lists as
stanford-futuredata/gavel has them (tab separated, without a head; steps in place of a duration).
Tasks become what a user would submit here: equal members, each of which runs on one node.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from riseml.spec.gpus import OR
from riseml.spec.model import CPU, GIB, GPU, Resources

MIB: Final = 1 << 20

NODE_COLUMNS: Final = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
TASK_COLUMNS: Final = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")

# Of the QoS classes of openb.
QOS_PRIORITIES: Final[Mapping[str, int]] = MappingProxyType(
    {"Guaranteed": 80, "LS": 60, "Burstable": 50, "BE": 30}
)

# What a GPU of a Philly-derived job brings with it; never what decides there.
CPU_PER_GPU: Final = 2 * CPU
MEMORY_PER_GPU: Final = 8 * GIB

# Steps a second of one job of each type, such that half of the jobs of the type take less than
# about an hour (the geometric mean is one). The job lists have steps and no durations; what the
# steps of a type were on real hardware is not known from them.
STEPS_PER_SECOND: Final[Mapping[str, float]] = MappingProxyType(
    {
        "A3C": 96.0,
        "CycleGAN": 69.0,
        "LM (batch size 5)": 1838.0,
        "LM (batch size 10)": 2290.0,
        "LM (batch size 20)": 1560.0,
        "LM (batch size 40)": 975.0,
        "LM (batch size 80)": 693.0,
        "Recommendation (batch size 512)": 3.2,
        "Recommendation (batch size 1024)": 4.8,
        "Recommendation (batch size 2048)": 5.6,
        "Recommendation (batch size 4096)": 5.3,
        "Recommendation (batch size 8192)": 8.7,
        "ResNet-18 (batch size 16)": 563.0,
        "ResNet-18 (batch size 32)": 694.0,
        "ResNet-18 (batch size 64)": 562.0,
        "ResNet-18 (batch size 128)": 319.0,
        "ResNet-18 (batch size 256)": 195.0,
        "ResNet-50 (batch size 16)": 158.0,
        "ResNet-50 (batch size 32)": 103.0,
        "ResNet-50 (batch size 64)": 84.0,
        "ResNet-50 (batch size 128)": 27.0,
        "Transformer (batch size 16)": 159.0,
        "Transformer (batch size 32)": 139.0,
        "Transformer (batch size 64)": 95.0,
        "Transformer (batch size 128)": 66.0,
        "Transformer (batch size 256)": 19.0,
    }
)


class UnreadableTrace(Exception):
    """A trace file is not what it should be; the text says what to do."""


@dataclass(frozen=True, slots=True)
class TraceNode:
    """A machine of a trace. Its GPUs are all of one model."""

    name: str
    cpu_milli: int
    memory_bytes: int
    gpu_count: int
    gpu_model: str


@dataclass(frozen=True, slots=True)
class TraceTask:
    """What was asked for: `members` jobs that start together, each with these resources."""

    resources: Resources
    members: int = 1
    # None: the trace does not tell, or ended before it.
    duration_seconds: float | None = None
    # 0-100, high first; None: the trace has none.
    priority: int | None = None
    # Whether it may run on several nodes, as equal members: see `split_over_nodes`.
    divisible: bool = False

    @property
    def gpu_milli(self) -> int:
        """Thousandths of GPUs of all members."""
        return self.members * self.resources.gpu_milli


def read_nodes(lines: Iterable[str]) -> list[TraceNode]:
    """Nodes of an openb CSV: `sn,cpu_milli,memory_mib,gpu,model`. Raises UnreadableTrace."""
    nodes: dict[str, TraceNode] = {}
    for row in _rows(lines, NODE_COLUMNS):
        name = row.text("sn")
        if name in nodes:
            raise UnreadableTrace(f"line {row.line}: there is a node {name} already")
        nodes[name] = TraceNode(
            name,
            row.number("cpu_milli"),
            row.number("memory_mib") * MIB,
            row.number("gpu"),
            row.text("model"),
        )
    if not nodes:
        raise UnreadableTrace("this list has no nodes")
    return list(nodes.values())


class _Row:
    """A line of a CSV file, by the names of its columns."""

    def __init__(self, line: int, values: Mapping[str, str | None]) -> None:
        self.line = line
        self._values = values

    def text(self, column: str) -> str:
        """What stands there; "" if nothing does, or there is no such column."""
        return (self._values.get(column) or "").strip()

    def number(self, column: str) -> int:
        """A whole number of 0 or more."""
        text = self.text(column)
        if not text.isdecimal():
            raise UnreadableTrace(
                f"line {self.line}: {column} is {text!r}, a whole number is wanted"
            )
        return int(text)

    def seconds(self, column: str) -> float | None:
        """None: nothing stands there."""
        text = self.text(column)
        try:
            return float(text) if text else None
        except ValueError:
            raise UnreadableTrace(
                f"line {self.line}: {column} is {text!r}, seconds are wanted"
            ) from None


def _rows(lines: Iterable[str], columns: Sequence[str]) -> Iterator[_Row]:
    """Of a CSV file whose first line names at least these columns."""
    reader = csv.DictReader(lines)
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise UnreadableTrace(
            f"the first line does not name the column {missing[0]}; wanted are {','.join(columns)}"
        )
    for values in reader:
        yield _Row(reader.line_num, values)


def uniform_nodes(text: str) -> list[TraceNode]:
    """`128x8` or `128x8:V100`: so many nodes with so many GPUs each. Raises UnreadableTrace."""
    size, _, model = text.partition(":")
    count, _, gpus = size.partition("x")
    if not (count.isdigit() and gpus.isdigit() and int(count)):
        raise UnreadableTrace(
            f"{text!r} is neither a file that is there nor a cluster such as 128x8 or 128x8:V100"
        )
    each = int(gpus)
    cpu, memory = 2 * max(1, each) * CPU_PER_GPU, 2 * max(1, each) * MEMORY_PER_GPU
    return [
        TraceNode(f"node-{number:04}", cpu, memory, each, model or "V100")
        for number in range(int(count))
    ]


def read_tasks(lines: Iterable[str]) -> list[TraceTask]:
    """Tasks of either format, in the order of the file. Raises UnreadableTrace."""
    kept = [line for line in lines if line.strip()]
    if not kept:
        raise UnreadableTrace("this list has no tasks")
    return _read_philly(kept) if "\t" in kept[0] else _read_openb(kept)


def _read_openb(lines: list[str]) -> list[TraceTask]:
    """What ended when the trace ended was cut off: like what never ran, it has no duration."""
    rows = list(_rows(lines, TASK_COLUMNS))
    if not rows:
        raise UnreadableTrace("this list has no tasks")
    end_of_trace = max((row.seconds("deletion_time") or 0.0) for row in rows)
    return [_openb_task(row, end_of_trace) for row in rows]


def _openb_task(row: _Row, end_of_trace: float) -> TraceTask:
    count, each = row.number("num_gpu"), row.number("gpu_milli")
    if count and not (each == GPU or (count == 1 and 0 < each < GPU)):
        raise UnreadableTrace(
            f"line {row.line}: {count} GPUs with gpu_milli {each}; it is {GPU} for each of several "
            f"GPUs, and 1 to {GPU} for one"
        )
    models = row.text("gpu_spec")
    started, ended = row.seconds("scheduled_time"), row.seconds("deletion_time")
    duration = None
    if started is not None and ended is not None and ended < end_of_trace:
        duration = max(0.0, ended - started)
    return TraceTask(
        Resources(
            cpu_milli=row.number("cpu_milli"),
            memory_bytes=row.number("memory_mib") * MIB,
            gpu_milli=count * each,
            gpu_model=OR.join(models.split("|")) if models and count else None,
        ),
        duration_seconds=duration,
        priority=QOS_PRIORITIES.get(row.text("qos")),
    )


def _read_philly(lines: list[str]) -> list[TraceTask]:
    tasks = []
    for number, line in enumerate(lines, 1):
        columns = line.rstrip("\n").split("\t")
        try:
            kind, steps, gpus = columns[0], float(columns[4]), int(columns[6])
            rate = STEPS_PER_SECOND[kind]
        except (IndexError, KeyError, ValueError) as wrong:
            raise UnreadableTrace(f"line {number} is no job of a Philly list: {wrong}") from None
        tasks.append(
            TraceTask(
                Resources(
                    cpu_milli=gpus * CPU_PER_GPU,
                    memory_bytes=gpus * MEMORY_PER_GPU,
                    gpu_milli=gpus * GPU,
                ),
                duration_seconds=steps / rate,
                divisible=True,
            )
        )
    return tasks


def split_over_nodes(tasks: Iterable[TraceTask], nodes: Iterable[TraceNode]) -> list[TraceTask]:
    """Tasks that may run on several nodes become gangs whose members most nodes can hold.

    That is: as few equal members as leave each at most as many GPUs as the nodes have that own nine
    tenths of all GPUs. What asks for no more than that stays whole.
    """
    largest = member_limit(nodes)
    return [_split(task, largest) for task in tasks]


def member_limit(nodes: Iterable[TraceNode]) -> int:
    """The most GPUs of one node such that nodes with as many own nine tenths of all GPUs."""
    counts = sorted((node.gpu_count for node in nodes), reverse=True)
    total, owned = sum(counts), 0
    for count in counts:
        owned += count
        if owned >= 0.9 * total:
            return max(1, count)
    return 1


def _split(task: TraceTask, largest: int) -> TraceTask:
    wanted = task.resources
    gpus = wanted.gpu_milli // GPU
    if not task.divisible or gpus <= largest:
        return task
    members = next(count for count in range(-(-gpus // largest), gpus + 1) if gpus % count == 0)
    each = replace(
        wanted,
        cpu_milli=wanted.cpu_milli // members,
        memory_bytes=wanted.memory_bytes // members,
        gpu_milli=wanted.gpu_milli // members,
    )
    return replace(task, resources=each, members=members)
