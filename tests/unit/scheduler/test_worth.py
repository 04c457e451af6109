"""What leftovers are worth: the arrays compute what the formula says, and it is a good one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domain.snapshot import Mix, NodeView
from controlplane.scheduler.demand import MOST_TYPES, Demand
from controlplane.scheduler.feasibility import gpu_matches
from controlplane.scheduler.mix import GENERIC_MIX
from controlplane.scheduler.table import NodeTable
from controlplane.scheduler.worth import UNITS, Worth, patience_of
from riseml.spec.model import GPU, Resources
from tests.unit.scheduler.pictures import node, resources


def worths(nodes: list[NodeView], mix: Mix, patience: float | None) -> list[float]:
    """Of each node as it is, in thousandths of a GPU."""
    table = NodeTable(nodes)
    table.sync()
    worth = Worth(Demand(mix), table, patience)
    found = worth.of(
        table.cpu, table.memory, table.gpu_class, None, table.levels, worth.counts(table.levels)
    )
    return [float(one) / UNITS for one in found]


def by_hand(view: NodeView, nodes: list[NodeView], mix: Mix, patience: float | None) -> float:
    """The formula at the top of worth.py, one GPU and one type after the other."""
    types = [(wanted, part) for wanted, part in mix if wanted.gpu_milli]
    whole = sum(part for _, part in types)
    total = 0.0
    for gpu in view.gpus:
        q = bonus = 0.0
        for wanted, part in types:
            each = min(wanted.gpu_milli, GPU)
            free = [one.free_milli for one in view.gpus]
            by_gpu = sum(one // each for one in free) / wanted.gpu_count
            enough = [one for one in free if one >= each]
            if (
                gpu.free_milli < each
                or len(enough) < wanted.gpu_count
                or wanted.cpu_milli > view.free_cpu_milli
                or wanted.memory_bytes > view.free_memory_bytes
                or not gpu_matches(gpu.gpu, wanted)
            ):
                continue
            times = min(
                (view.free_cpu_milli + 1) / (wanted.cpu_milli + 1),
                (view.free_memory_bytes + 1) / (wanted.memory_bytes + 1),
            )
            slower = 1.0 if patience is None else 0.5 + 0.5 * min(1.0, times / by_gpu)
            q += part / whole * slower
            scarce = scarcity(wanted, nodes) if patience is not None else 0.0
            bonus += 0.1 * part / whole * scarce
        gain = q if patience is None else q * (1 + patience) / (q + patience) if q else 0.0
        total += gpu.free_milli * (gain + bonus)
    return total


def scarcity(wanted: Resources, nodes: list[NodeView]) -> float:
    everything = sum(len(view.gpus) for view in nodes)
    able = 0
    for view in nodes:
        matching = sum(1 for one in view.gpus if gpu_matches(one.gpu, wanted))
        if (
            matching >= wanted.gpu_count
            and wanted.cpu_milli <= view.cpu_milli
            and wanted.memory_bytes <= view.memory_bytes
        ):
            able += matching
    found = everything / (able + 1) - 1
    return min(100.0, found) if found >= 0.02 else 0.0


LEVELS = st.sampled_from([0, 190, 400, 530, 999, 1000])
VIEWS = st.builds(
    lambda name, free, cpus, model: node(name, free, cpus=16, free_cpus=cpus, model=model),
    st.just("n"),
    st.lists(LEVELS, max_size=4),
    st.integers(0, 16),
    st.sampled_from(["H100", "A100"]),
)
TYPES = st.builds(
    resources,
    st.sampled_from([0, 160, 400, 530, 1000, 2000, 4000]),
    st.integers(1, 12),
    gpu_model=st.sampled_from([None, "A100"]),
)


@settings(deadline=None)
@given(
    st.lists(VIEWS, min_size=1, max_size=4),
    st.dictionaries(TYPES, st.floats(0.01, 1.0), min_size=1, max_size=6).filter(
        lambda mix: any(wanted.gpu_milli for wanted in mix)
    ),
    st.sampled_from([None, 0.01, 0.2]),
)
def test_the_arrays_say_what_the_formula_says(
    views: list[NodeView], parts: dict[Resources, float], patience: float | None
) -> None:
    mix = tuple(parts.items())
    assert worths(views, mix, patience) == pytest.approx(
        [by_hand(view, views, mix, patience) for view in views], abs=0.02
    )


def test_what_nobody_can_use_is_worth_nothing() -> None:
    mix = ((resources(500), 1.0),)
    rest, no_cpus = node("n1", [400]), node("n2", [1000], free_cpus=0)
    assert worths([rest, no_cpus], mix, 0.1) == [0.0, 0.0]


def test_what_few_can_use_is_worth_nearly_as_much_as_what_many_can_to_the_patient() -> None:
    mix = ((resources(500), 0.1), (resources(900), 0.9))
    nodes = [node("n1", [500, 0]), node("n2", [900, 0])]
    few, many = worths(nodes, mix, 0.01)
    assert few / 500 > 0.9 * many / 900
    few, many = worths(nodes, mix, None)
    assert few / 500 < 0.2 * many / 900


def test_patience_ends_when_what_is_free_lies_on_partly_used_gpus() -> None:
    steps = [patience_of(100_000, partly) for partly in range(0, 100_001, 1000)]
    assert steps[0] == pytest.approx(0.01)
    assert steps[-1] > 0.15
    assert steps == sorted(steps)
    assert len(set(steps)) <= 8
    assert patience_of(0, 0) == steps[-1]


# --- the mix


def test_the_generic_mix_adds_up() -> None:
    assert sum(part for _, part in GENERIC_MIX) == pytest.approx(1.0)
    assert [t.gpu_milli for t in Demand(()).types] == [w.gpu_milli for w, _ in GENERIC_MIX]


def test_types_are_shares_by_size_and_then_whole_gpus_by_number() -> None:
    mix = tuple((resources(milli), 0.2) for milli in (2000, 300, 0, 1000, 700))
    demand = Demand(mix)
    assert [wanted.gpu_milli for wanted in demand.types] == [300, 700, 1000, 2000]
    assert demand.shares == 2
    assert demand.parts.sum() == pytest.approx(1.0)
    assert demand.cpu_per_gpu == pytest.approx(5000 / 4000)


def test_a_mix_of_jobs_without_gpus_only_says_nothing_of_gpus() -> None:
    assert Demand(((resources(0), 1.0),)).types == Demand(()).types


def test_of_very_many_kinds_the_large_and_the_choosy_are_kept_apart() -> None:
    common = [(resources(500, cpus), 1.0) for cpus in range(1, 400)]
    rare = [(resources(8000, 4), 0.01), (resources(1000, 4, gpu_model="A100"), 0.01)]
    kinds = [*common, *rare]
    whole = sum(part for _, part in kinds)
    demand = Demand(tuple((wanted, part / whole) for wanted, part in kinds))
    assert len(demand.types) == MOST_TYPES
    assert {wanted for wanted, _ in rare} <= set(demand.types)
    assert demand.parts.sum() == pytest.approx(1.0)


def test_equal_mixes_in_another_order_make_equal_demands() -> None:
    kinds = tuple((resources(10 * milli, 1 + milli % 7), 1 / 90) for milli in range(1, 91))
    one, other = Demand(kinds), Demand(tuple(reversed(kinds)))
    assert one.types == other.types
    assert np.allclose(one.parts, other.parts)
