"""Many nodes told in few lines: those that are alike together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from controlplane.explain.nodes import JudgedNode
from controlplane.explain.words import listed

GROUPS_SHOWN: Final = 8


def told(judged: Iterable[JudgedNode], most: int = GROUPS_SHOWN) -> list[str]:
    """A line or two for each kind of node, in the order in which they come.

    `39 nodes like gpu-3: each has 4 of 8 GPUs free; on gpu-3 2 are held by paul.17`.
    """
    groups: dict[tuple[object, ...], list[JudgedNode]] = {}
    for one in judged:
        groups.setdefault(one.alike, []).append(one)
    lines = []
    for group in list(groups.values())[:most]:
        lines += _lines(group)
    rest = list(groups.values())[most:]
    if rest:
        nodes = sum(map(len, rest))
        lines.append(f"{nodes} more nodes stand in {len(rest)} other ways, further from it.")
    return lines


def _lines(group: list[JudgedNode]) -> list[str]:
    first = group[0]
    if len(group) == 1:
        return [first.verdict().message]
    head, details = first.words(first.gpus())
    text = f"{len(group)} nodes like {first.name}: each {head}"
    if details:
        text += f"; on {first.name} {', '.join(details)}"
    others = [one.name for one in group[1:]]
    return [f"{text}.", f"  The other{'s' if len(others) > 1 else ''}: {listed(others)}."]
