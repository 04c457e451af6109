from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from riseml.spec.model import Parameter, ParameterValues, SearchSpec, TrainSpec
from riseml.spec.sets import child_count, combination_count, expand

LR = ParameterValues("lr", ("0.1", "0.01"))
EPOCHS = ParameterValues("epochs", ("3", "4", "5"))


def spec(*parameters: ParameterValues, search: SearchSpec | None = None) -> TrainSpec:
    return TrainSpec("digits", ("true",), parameters=parameters, search=search)


def pairs(spec: TrainSpec, seed: int = 0) -> list[tuple[str, ...]]:
    return [tuple(parameter.value for parameter in child) for child in expand(spec, seed)]


def test_a_grid_varies_the_first_parameter_slowest() -> None:
    assert pairs(spec(LR, EPOCHS)) == [
        ("0.1", "3"),
        ("0.1", "4"),
        ("0.1", "5"),
        ("0.01", "3"),
        ("0.01", "4"),
        ("0.01", "5"),
    ]


def test_a_grid_ends_after_its_trials() -> None:
    limited = spec(LR, EPOCHS, search=SearchSpec("grid", max_trials=4))
    assert pairs(limited) == pairs(spec(LR, EPOCHS))[:4]
    assert child_count(limited) == 4


def test_single_values_make_one_experiment_and_no_set() -> None:
    single = spec(ParameterValues("lr", ("0.1",)))
    assert not single.is_set and child_count(single) == 0
    assert expand(single) == ((Parameter("lr", "0.1"),),)
    assert expand(spec()) == ((),)


axes = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@given(axes, st.integers(1, 300), st.integers())
def test_random_children_differ_are_of_the_grid_and_repeat_by_seed(
    sizes: list[int], trials: int, seed: int
) -> None:
    parameters = tuple(
        ParameterValues(f"p{place}", tuple(str(value) for value in range(size)))
        for place, size in enumerate(sizes)
    )
    drawn = pairs(spec(*parameters, search=SearchSpec("random", max_trials=trials)), seed)
    grid = pairs(spec(*parameters, search=SearchSpec("grid")))
    assert len(drawn) == min(trials, combination_count(parameters)) == len(set(drawn))
    assert set(drawn) <= set(grid)
    assert drawn == pairs(spec(*parameters, search=SearchSpec("random", max_trials=trials)), seed)


def test_random_search_copes_with_more_combinations_than_memory_holds() -> None:
    parameters = tuple(
        ParameterValues(f"p{place}", tuple(str(value) for value in range(1000)))
        for place in range(50)
    )
    drawn = expand(spec(*parameters, search=SearchSpec("random", max_trials=20)))
    assert len(set(drawn)) == 20


def test_other_seeds_give_other_children() -> None:
    many = spec(
        ParameterValues("x", tuple(str(value) for value in range(1000))),
        search=SearchSpec("random", max_trials=10),
    )
    assert pairs(many, 1) != pairs(many, 2)
