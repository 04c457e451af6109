"""How much of a cluster's GPUs any scheduler could allocate to a trace: linear relaxations.

    python -m benchmarks.scheduler.bounds --nodes NODES.csv TASKS.csv ...

Needs scipy, which nothing else here does: `pip install scipy`. Nodes of one kind are one big node
(their CPUs, memory and GPUs are added up), tasks may be split, and shares of a GPU are packed
exactly, but for splitting (an arc flow over thousandths, Valerio de Carvalho 1999). So no scheduler
does better. Three figures are printed, in % of all GPUs:

- *chosen*: for one that knows all arrivals and may leave out those that it likes least;
- *served*: the longest run of arrivals, from the first one on, that could all be placed (tasks that
  no node could ever hold left out);
- *then*: for one that places all of these, as nobody does who turns away a task that fits while
  there is room for all, and of the later ones those that it likes best.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import numpy as np

GPU: Final = 1000


class Kind(NamedTuple):
    """Tasks or nodes that are alike. Of nodes `level` is GPU, and `models` has one."""

    cpu: float
    memory: float
    gpus: int
    level: int
    # Empty: any.
    models: frozenset[str]

    @property
    def gpu_milli(self) -> int:
        return self.gpus * self.level


@dataclass
class Program:
    """Maximizes; variables are at least 0, rows say what sums may at most or have to be."""

    gains: list[float] = field(default_factory=list)
    most: list[float | None] = field(default_factory=list)
    at_most: list[tuple[dict[int, float], float]] = field(default_factory=list)
    equal: list[tuple[dict[int, float], float]] = field(default_factory=list)

    def variable(self, gain: float = 0.0, most: float | None = None) -> int:
        self.gains.append(gain)
        self.most.append(most)
        return len(self.gains) - 1

    def solve(self) -> float | None:
        """The most; None if there is no solution."""
        from scipy.optimize import linprog

        found = linprog(
            [-gain for gain in self.gains],
            A_ub=self._matrix(self.at_most),
            b_ub=[right for _, right in self.at_most],
            A_eq=self._matrix(self.equal),
            b_eq=[right for _, right in self.equal],
            bounds=[(0, most) for most in self.most],
            method="highs-ipm",
        )
        return -float(found.fun) if found.status == 0 else None

    def _matrix(self, rows: list[tuple[dict[int, float], float]]) -> Any:
        from scipy.sparse import csr_matrix

        places = [(row, column) for row, (terms, _) in enumerate(rows) for column in terms]
        values = [value for terms, _ in rows for value in terms.values()]
        pairs = np.array(places, dtype=int).reshape(-1, 2)
        return csr_matrix((values, (pairs[:, 0], pairs[:, 1])), (len(rows), len(self.gains)))


def bound(
    nodes: Counter[Kind], tasks: Counter[Kind], least: Counter[Kind] | None = None
) -> float | None:
    """Thousandths that can be allocated; of each kind at least so many tasks have to be placed."""
    program = Program()
    kinds = list(tasks)
    placed: dict[tuple[int, int], int] = {}
    machines = list(nodes)
    for j, node in enumerate(machines):
        for i, task in enumerate(kinds):
            if _fits(task, node):
                placed[i, j] = program.variable(task.gpu_milli, tasks[task])
    for i, task in enumerate(kinds):
        terms = {placed[i, j]: 1.0 for j in range(len(machines)) if (i, j) in placed}
        if not terms:
            continue
        program.at_most.append((terms, tasks[task]))
        if least is not None and least[task]:
            program.at_most.append(({v: -1.0 for v in terms}, 1e-6 - least[task]))
    levels = _levels(kinds)
    for j, node in enumerate(machines):
        here = {i: placed[i, j] for i in range(len(kinds)) if (i, j) in placed}
        cpu = {v: kinds[i].cpu / GPU for i, v in here.items()}
        memory = {v: kinds[i].memory / GPU for i, v in here.items()}
        program.at_most.append((cpu, node.cpu * nodes[node] / GPU))
        program.at_most.append((memory, node.memory * nodes[node] / GPU))
        shared = _flow(program, kinds, here, levels)
        terms = {v: float(kinds[i].gpus) for i, v in here.items() if kinds[i].level == GPU}
        program.at_most.append(({**terms, shared: 1.0}, node.gpus * nodes[node]))
    return program.solve()


def _fits(task: Kind, node: Kind) -> bool:
    return (
        (not task.models or bool(task.models & node.models))
        and task.cpu <= node.cpu
        and task.memory <= node.memory
        and task.gpus <= node.gpus
    )


def _levels(kinds: Sequence[Kind]) -> list[int]:
    """What shares can add up to on one GPU."""
    reached = {0, GPU}
    for size in sorted({kind.level for kind in kinds if 0 < kind.level < GPU}, reverse=True):
        for start in sorted(reached):
            reached.update(range(start, GPU + 1, size))
    return sorted(reached)


def _flow(
    program: Program, kinds: Sequence[Kind], here: dict[int, int], levels: Sequence[int]
) -> int:
    """Shares on GPUs; the variable is how many GPUs hold some."""
    balance: dict[int, dict[int, float]] = defaultdict(dict)
    of_size: dict[int, dict[int, float]] = defaultdict(dict)
    for size in sorted({kinds[i].level for i in here if 0 < kinds[i].level < GPU}):
        for start in levels:
            if start + size <= GPU and start + size in levels:
                arc = program.variable()
                balance[start][arc] = -1.0
                balance[start + size][arc] = 1.0
                of_size[size][arc] = 1.0
    for start, end in pairwise(levels):
        arc = program.variable()
        balance[start][arc] = -1.0
        balance[end][arc] = 1.0
    gpus = program.variable()
    balance[0][gpus] = 1.0
    balance[GPU][gpus] = -1.0
    for terms in balance.values():
        program.equal.append((terms, 0.0))
    for size, terms in of_size.items():
        tasks = {v: -1.0 for i, v in here.items() if kinds[i].level == size}
        program.equal.append(({**terms, **tasks}, 0.0))
    return gpus


# --- traces


def read_nodes(path: Path) -> Counter[Kind]:
    with path.open() as lines:
        return Counter(
            Kind(
                float(row["cpu_milli"]),
                float(row["memory_mib"]),
                int(row["gpu"]),
                GPU,
                frozenset([row["model"]]),
            )
            for row in csv.DictReader(lines)
        )


def read_tasks(path: Path) -> list[Kind]:
    with path.open() as lines:
        return [
            Kind(
                float(row["cpu_milli"]),
                float(row["memory_mib"]),
                int(row["num_gpu"]),
                int(row["gpu_milli"] or 0) if int(row["num_gpu"]) else 0,
                frozenset(filter(None, (row.get("gpu_spec") or "").split("|"))),
            )
            for row in csv.DictReader(lines)
        ]


def figures(nodes: Counter[Kind], tasks: Sequence[Kind], seed: int) -> dict[str, float | None]:
    """In % of all GPUs."""
    rng = Random(seed)
    capacity = sum(GPU * node.gpus * number for node, number in nodes.items())
    arrivals = list(tasks)
    rng.shuffle(arrivals)
    asked = np.cumsum([task.gpu_milli for task in arrivals]).tolist()
    while asked[-1] < 1.3 * capacity:
        arrivals.append(rng.choice(tasks))
        asked.append(asked[-1] + arrivals[-1].gpu_milli)
    full = sum(1 for milli in asked if milli <= capacity)

    def part(allocated: float | None) -> float | None:
        return None if allocated is None else 100.0 * allocated / capacity

    low, high = 0, full
    while high - low > 5:
        middle = (low + high) // 2
        first = Counter(arrivals[:middle])
        low, high = (low, middle) if bound(nodes, first, first) is None else (middle, high)
    served = Counter(arrivals[:low])
    return {
        "chosen @100": part(bound(nodes, Counter(arrivals[:full]))),
        "chosen @130": part(bound(nodes, Counter(arrivals))),
        "served": part(bound(nodes, served, served)),
        "then @100": part(bound(nodes, Counter(arrivals[:full]), served)),
        "then @130": part(bound(nodes, Counter(arrivals), served)),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=Path, required=True, metavar="CSV")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("tasks", type=Path, nargs="+", metavar="CSV")
    given = parser.parse_args(arguments)
    nodes = read_nodes(given.nodes)
    for path in given.tasks:
        found = figures(nodes, read_tasks(path), given.seed)
        words = [f"{name} {'-' if one is None else f'{one:.2f}'}" for name, one in found.items()]
        print(f"{path.stem}: {', '.join(words)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
