"""The children of a set: which values each one gets.

The server expands; a client may look ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from math import prod
from random import Random
from typing import Final, TypeAlias

from riseml.spec.model import Parameter, ParameterValues, TrainSpec

MAX_CHILDREN: Final = 10_000

Assignment: TypeAlias = tuple[Parameter, ...]
"""One value for each parameter, in the order of riseml.yml."""


def combination_count(parameters: tuple[ParameterValues, ...]) -> int:
    """How many different assignments there are; 1 without parameters."""
    return prod(len(parameter.values) for parameter in parameters)


def child_count(spec: TrainSpec) -> int:
    """How many children the spec asks for; 0 when it is no set."""
    if not spec.is_set:
        return 0
    count = combination_count(spec.parameters)
    limit = spec.search.max_trials if spec.search is not None else 0
    return min(count, limit) if limit > 0 else count


def expand(spec: TrainSpec, seed: int = 0) -> tuple[Assignment, ...]:
    """The assignments of a set's children, in the order in which they are numbered and started.

    For a spec that is no set, the one assignment of its experiment. A grid varies the last
    parameter fastest and ends after ``max_trials``; a random search draws that many different
    assignments by ``seed``, so equal seeds give equal children. The spec has to be valid.
    """
    if not spec.is_set:
        return (tuple(Parameter(p.name, p.values[0]) for p in spec.parameters),)
    count = child_count(spec)
    if spec.search is not None and spec.search.method == "random":
        places = _draw(combination_count(spec.parameters), count, Random(seed))
        return tuple(_assignment_at(spec.parameters, place) for place in places)
    return tuple(islice(_grid(spec.parameters), count))


def _grid(parameters: tuple[ParameterValues, ...]) -> Iterator[Assignment]:
    choices = [[Parameter(p.name, value) for value in p.values] for p in parameters]
    return product(*choices)


def _draw(total: int, count: int, random: Random) -> list[int]:
    """``count`` different numbers below ``total``, which may be far too large for a list."""
    if count * 2 > total:
        return random.sample(range(total), count)
    drawn: dict[int, None] = {}
    while len(drawn) < count:
        drawn[random.randrange(total)] = None
    return list(drawn)


def _assignment_at(parameters: tuple[ParameterValues, ...], place: int) -> Assignment:
    """The grid's assignment at a position (from 0), without walking there."""
    chosen: list[Parameter] = []
    for parameter in reversed(parameters):
        place, choice = divmod(place, len(parameter.values))
        chosen.append(Parameter(parameter.name, parameter.values[choice]))
    return tuple(reversed(chosen))
