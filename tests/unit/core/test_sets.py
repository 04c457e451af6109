"""Sets: children take turns, and what became of them makes the state of the set."""

from __future__ import annotations

import pytest

from controlplane.core.derive import set_standing
from controlplane.domain.model import Experiment
from controlplane.domain.states import State
from riseml.spec.model import ParameterValues, RetryPolicy, SearchSpec
from tests.unit.core.world import World, spec

S = "ana.1"
LETTERS = ParameterValues("letter", ("a", "b", "c", "d"))


def letters(count: int = 4, concurrency: int = 2, **fields: object) -> World:
    world = World()
    world.connect()
    world.submit(
        spec(
            parameters=(ParameterValues("letter", LETTERS.values[:count]),),
            run=("echo {{letter}}",),
            concurrency=concurrency,
            **fields,
        ),
        *((("letter", value),) for value in LETTERS.values[:count]),
    )
    return world


def states(world: World) -> list[str]:
    return [child.state.value for child in world.cluster.children_of(S)]


def attempt(child: int) -> str:
    return f"{S}.{child}.train.1-1"


def test_children_carry_their_parameters_and_share_the_spec() -> None:
    world = letters()
    children = list(world.cluster.children_of(S))
    assert [child.id for child in children] == ["ana.1.1", "ana.1.2", "ana.1.3", "ana.1.4"]
    assert [child.parameters for child in children] == [(("letter", v),) for v in "abcd"]
    assert all(child.spec is world.experiment(S).spec for child in children)
    assert world.experiment(S).parameters == ()
    assert world.experiment(S).child_count == 4
    assert not world.cluster.jobs_of(S)


def test_only_as_many_children_wait_for_resources_as_may_run_at_once() -> None:
    world = letters()
    assert states(world) == ["PENDING", "PENDING", "CREATED", "CREATED"]
    assert world.reason("ana.1.3") == "SET_CONCURRENCY"
    assert world.state("ana.1.3.train.1") == "CREATED"
    assert world.state(S) == "PENDING"


def test_the_next_child_has_its_turn_when_one_ends() -> None:
    world = letters()
    world.plan()
    assert world.started == [attempt(1), attempt(2)]
    world.run(attempt(1))
    assert world.state(S) == "RUNNING"
    world.exit(attempt(1), 0)
    assert states(world) == ["FINISHED", "STARTING", "PENDING", "CREATED"]
    assert world.woke
    assert world.reason("ana.1.3") == ""
    world.plan()
    assert world.started == [attempt(3)]


def test_each_child_writes_to_its_own_place_and_gets_its_own_command() -> None:
    world = letters()
    world.plan()
    orders = [e.order for e in world.effects if hasattr(e, "order")]
    assert [o.output_path for o in orders] == ["ana/digits/1/1", "ana/digits/1/2"]
    assert [o.run for o in orders] == [("echo a",), ("echo b",)]


def run_all(world: World, codes: list[int]) -> None:
    for number, code in enumerate(codes, 1):
        world.plan()
        world.run(attempt(number))
        world.exit(attempt(number), code)


def test_a_failed_child_does_not_fail_its_set() -> None:
    world = letters(3)
    run_all(world, [1, 0, 1])
    ended = world.experiment(S)
    assert (ended.state.value, ended.message) == ("FINISHED", "2 of 3 experiments failed")
    assert (ended.start_time, ended.end_time) == (world.now, world.now)


def test_a_set_fails_when_all_children_failed() -> None:
    world = letters(2)
    run_all(world, [1, 2])
    assert (world.state(S), world.reason(S)) == ("FAILED", "CHILDREN_FAILED")


def test_killing_a_set_kills_its_children() -> None:
    world = letters()
    world.plan()
    world.run(attempt(1))
    killed = world.kill(S)
    assert killed.state.value == "RUNNING"
    assert world.stopped == {attempt(1): "killed", attempt(2): "killed"}
    assert states(world) == ["RUNNING", "STARTING", "KILLED", "KILLED"]
    world.exit(attempt(1), 0)
    world.exit(attempt(2), None)
    assert states(world) == ["KILLED"] * 4
    assert (world.state(S), world.experiment(S).message) == ("KILLED", "killed by ana")


def test_killing_a_set_that_waits_ends_it_at_once() -> None:
    world = letters()
    assert world.kill(S).state.value == "KILLED"
    assert states(world) == ["KILLED"] * 4


def test_killing_one_child_gives_its_turn_to_another() -> None:
    world = letters()
    world.kill("ana.1.1")
    assert states(world) == ["KILLED", "PENDING", "PENDING", "CREATED"]
    world.kill("ana.1.4")
    assert states(world) == ["KILLED", "PENDING", "PENDING", "KILLED"]


def test_a_child_that_starts_again_keeps_its_turn() -> None:
    world = letters(retry=RetryPolicy(("error",), 1))
    world.plan()
    world.exit(attempt(1), 1)
    assert states(world) == ["PENDING", "STARTING", "CREATED", "CREATED"]


def test_ended_children_can_leave_memory_before_their_set_has_ended() -> None:
    world = letters(3, concurrency=1)
    world.plan()
    world.exit(attempt(1), 1)
    world.cluster.evict("ana.1.1")
    assert [c.id for c in world.cluster.children_of(S)] == ["ana.1.2", "ana.1.3"]
    world.cluster = world.reload()
    world.plan()
    world.exit(attempt(2), 1)
    world.cluster.evict("ana.1.2")
    world.plan()
    world.exit(attempt(3), 0)
    assert world.state(S) == "FINISHED"
    world.cluster.evict(S)
    assert not world.cluster.experiments
    assert not world.cluster.sets


def test_a_search_of_one_trial_is_a_set_of_one() -> None:
    world = World()
    world.submit(spec(search=SearchSpec("random", max_trials=1)))
    assert states(world) == ["PENDING"]


@pytest.mark.parametrize(
    ("counts", "killed", "state"),
    [
        ({"CREATED": 1, "PENDING": 2}, False, "PENDING"),
        ({"PENDING": 2, "STARTING": 1}, False, "STARTING"),
        ({"PENDING": 2, "BUILDING": 1}, False, "STARTING"),
        ({"PENDING": 2, "RUNNING": 1}, False, "RUNNING"),
        ({"PENDING": 2, "FAILED": 1}, False, "RUNNING"),
        ({"FINISHED": 1, "FAILED": 2}, False, "FINISHED"),
        ({"FINISHED": 1, "KILLED": 2}, False, "FINISHED"),
        ({"FAILED": 3}, False, "FAILED"),
        ({"FAILED": 1, "KILLED": 2}, False, "FAILED"),
        ({"KILLED": 3}, False, "KILLED"),
        ({"FINISHED": 2, "KILLED": 1}, True, "KILLED"),
        ({"FINISHED": 2, "RUNNING": 1}, True, "RUNNING"),
    ],
)
def test_the_state_of_a_set_follows_from_its_children(
    counts: dict[str, int], killed: bool, state: str
) -> None:
    experiment = Experiment(
        id=S,
        user_name="ana",
        number=1,
        child_number=0,
        set_id=None,
        project="digits",
        revision_id="",
        spec=spec(),
        parameters=(),
        state=State.PENDING,
        create_time=0.0,
        kill_requested=killed,
        child_count=3,
    )
    by_state = {State(name): count for name, count in counts.items()}
    assert set_standing(experiment, by_state).state.value == state
