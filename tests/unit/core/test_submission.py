"""Submission: numbers, jobs and ranks, idempotence, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.domain.errors import (
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    PermissionDenied,
)
from controlplane.domain.events import (
    ExperimentSubmitted,
    NodeCordoned,
    PlanMade,
    QueueCreated,
    QueueUpdated,
    TimePassed,
    UserCreated,
    UserUpdated,
)
from controlplane.domain.model import ApiKey, QueueSettings
from controlplane.scheduler.cycle import schedule
from riseml.spec.model import EnvVar, ParameterValues, Resources, RoleSpec
from tests.unit.core.world import SMALL, World, gang, spec


def test_experiments_are_numbered_per_user() -> None:
    world = World()
    world.send(UserCreated("bob", "", False, ApiKey("key2", "bob", "11" * 32, "", 0.0)))
    ids = [world.submit(spec(), user=user) for user in ("ana", "bob", "ana")]
    assert ids == ["ana.1", "bob.1", "ana.2"]


def test_a_plain_experiment_has_one_pending_job_and_wakes_the_scheduler() -> None:
    world = World()
    experiment_id = world.submit(spec())
    (job,) = world.cluster.jobs_of(experiment_id)
    assert (job.id, job.rank, job.state.value) == ("ana.1.train.1", 0, "PENDING")
    assert world.state(experiment_id) == "PENDING"
    assert world.woke


def test_ranks_count_over_master_workers_and_parameter_servers() -> None:
    world = World()
    experiment_id = world.submit(
        spec(roles=gang(("ps", 1), ("worker", 2), ("master", 1)), framework="tensorflow")
    )
    jobs = world.cluster.jobs_of(experiment_id)
    assert [(job.type, job.number, job.rank) for job in jobs] == [
        ("master", 1, 0),
        ("worker", 1, 1),
        ("worker", 2, 2),
        ("ps", 1, 3),
    ]


def test_roles_keep_their_own_resources() -> None:
    world = World()
    large = Resources(cpu_milli=3000)
    roles = (RoleSpec("worker", 1, large), RoleSpec("ps", 1, SMALL))
    experiment_id = world.submit(spec(roles=roles, framework="tensorflow"))
    assert [job.resources for job in world.cluster.jobs_of(experiment_id)] == [large, SMALL]


def test_the_same_request_id_gives_the_first_experiment() -> None:
    world = World()
    event = ExperimentSubmitted("ana", "again", spec())
    first, _ = world.send(event)
    second, _ = world.send(event)
    assert second is first
    assert len(world.cluster.experiments) == 1
    assert not world.effects


def test_a_request_id_is_remembered_when_its_experiment_has_left_memory() -> None:
    world = World()
    event = ExperimentSubmitted("ana", "again", spec())
    first, _ = world.send(event)
    world.kill(first.id)
    world.cluster.evict(first.id)
    assert world.send(event) == (None, ())
    assert not world.cluster.experiments


def test_a_request_id_for_something_else_is_refused() -> None:
    world = World()
    world.send(ExperimentSubmitted("ana", "again", spec()))
    with pytest.raises(FailedPrecondition) as refused:
        world.send(ExperimentSubmitted("ana", "again", spec(run=("false",))))
    assert refused.value.reason == "REQUEST_ID_REUSED"


def test_request_ids_are_forgotten_after_a_day() -> None:
    world = World()
    world.send(ExperimentSubmitted("ana", "again", spec()))
    world.cluster.trim(world.now + 80_000)
    assert world.cluster.requests
    world.cluster.trim(world.now + 90_000)
    assert not world.cluster.requests


def test_a_stranger_may_not_submit() -> None:
    with pytest.raises(NotFound):
        World().send(ExperimentSubmitted("eve", "r", spec()))


def test_a_disabled_user_may_not_submit() -> None:
    world = World()
    world.send(UserCreated("bob", "", True, ApiKey("key2", "bob", "11" * 32, "", 0.0)))
    world.send(UserUpdated("ana", enabled=False))
    with pytest.raises(PermissionDenied):
        world.submit(spec())


def test_a_command_with_an_unknown_parameter_is_refused_at_submission() -> None:
    world = World()
    with pytest.raises(InvalidRequest) as refused:
        world.submit(spec(run=("train --lr {{lr}}",)))
    assert refused.value.violations[0].path == "train.run"
    assert not world.cluster.experiments


def test_a_plain_experiment_has_exactly_one_assignment() -> None:
    with pytest.raises(InvalidRequest):
        World().submit(spec(), (), ())


def test_a_first_experiment_makes_its_project_once() -> None:
    world = World()
    world.submit(spec())
    world.submit(spec())
    assert list(world.cluster.projects) == [("ana", "digits")]


def test_who_submits_before_any_node_joined_is_warned() -> None:
    world = World()
    _, warnings = world.send(ExperimentSubmitted("ana", "r1", spec()))
    assert "waits for the first" in warnings[0]
    world.connect()
    assert world.send(ExperimentSubmitted("ana", "r2", spec()))[1] == ()


def test_an_order_carries_commands_environment_and_where_outputs_go() -> None:
    world = World()
    world.connect()
    world.submit(
        spec(
            run=("echo {{word}}", "docker ps --format '{{.ID}}'"),
            env=(EnvVar("MODE", "fast"), EnvVar("TOKEN", "x", secret=True)),
        ),
        (("word", "two words"),),
        revision_id="abc",
    )
    world.plan()
    (order,) = (e.order for e in world.effects if hasattr(e, "order"))
    assert order.run == ("echo 'two words'", "docker ps --format '{{.ID}}'")
    assert order.env == (("MODE", "fast"), ("TOKEN", "x"))
    assert order.secret_env_names == ("TOKEN",)
    assert order.parameters == (("word", "two words"),)
    assert order.output_path == "ana/digits/1"
    assert (order.generation, order.revision_id, order.rank) == (1, "abc", 0)
    assert order.peers == ()
    assert order.contact_timeout_seconds == 0


def test_an_unknown_queue_is_refused_with_those_that_there_are() -> None:
    world = World()
    world.send(QueueCreated("research", QueueSettings()))
    with pytest.raises(InvalidRequest, match="there is no queue 'reserch'") as refused:
        world.submit(spec(queue="reserch"))
    assert "(there are default, research); did you mean research?" in refused.value.message
    assert [violation.path for violation in refused.value.violations] == ["train.queue"]
    assert not world.cluster.experiments
    assert world.submit(spec(queue="research")) == "ana.1"


def limited(seconds: int | None = 60, **fields: Any) -> World:
    """A queue `short` with a limit of time, and an experiment in it that runs."""
    world = World()
    world.connect()
    world.send(QueueCreated("short", QueueSettings(default_max_duration_seconds=seconds)))
    world.submit(spec(queue="short", **fields))
    return world


def test_the_limit_of_the_queue_holds_where_the_spec_names_none() -> None:
    world = limited()
    experiment = world.experiment("ana.1")
    assert experiment.spec.max_duration_seconds is None, "the spec stays what was sent"
    assert experiment.max_duration_seconds == 60
    (request,) = world.cluster.snapshot().pending
    assert request.max_duration_seconds == 60
    world.plan()
    world.run("ana.1.train.1-1")
    assert world.cluster.snapshot().running[0].max_duration_seconds == 60
    world.pass_time(59)
    world.send(TimePassed())
    assert not world.stopped
    world.pass_time(1)
    world.send(TimePassed())
    assert world.stopped == {"ana.1.train.1-1": "max_duration"}
    world.exit("ana.1.train.1-1", None, exit_signal=15)
    assert (
        world.experiment("ana.1").message == "ran longer than the max_duration of queue short, 60 s"
    )


@pytest.mark.parametrize("own", [30, 90])
def test_a_limit_of_the_spec_goes_before_that_of_the_queue(own: int) -> None:
    experiment = limited(max_duration_seconds=own).experiment("ana.1")
    assert experiment.max_duration_seconds == own
    assert experiment.queue_max_duration_seconds is None


def test_children_of_a_set_have_the_limit_of_the_queue() -> None:
    world = World()
    world.send(QueueCreated("short", QueueSettings(default_max_duration_seconds=60)))
    letters = ParameterValues("letter", ("a", "b"))
    world.submit(
        spec(queue="short", parameters=(letters,), run=("echo {{letter}}",)),
        *[(("letter", value),) for value in "ab"],
    )
    assert [e.max_duration_seconds for e in world.cluster.experiments.values()] == [60, 60, 60]
    assert set(world.cluster.limited) == {"ana.1.1", "ana.1.2"}


def test_a_changed_limit_of_the_queue_is_for_those_who_come_later() -> None:
    world = limited()
    world.send(QueueUpdated("short", QueueSettings(default_max_duration_seconds=0)))
    world.submit(spec(queue="short"))
    limits = [world.experiment(i).max_duration_seconds for i in ("ana.1", "ana.2")]
    assert limits == [60, None]
    restarted = world.reload()
    assert [e.max_duration_seconds for e in restarted.experiments.values()] == limits
    assert set(restarted.limited) == {"ana.1"}


def test_those_that_wait_alike_but_may_run_longer_are_told_apart() -> None:
    """Else the scheduler would not be woken for one whose limit lets it pass others."""
    world = limited()
    world.send(NodeCordoned("n1", True))
    world.send(PlanMade(schedule(world.cluster.snapshot(), world.now)))
    assert world.cluster.waiting.get("ana.1") is not None
    world.submit(spec(queue="short"))
    woken = world.woke
    assert not woken
    world.send(QueueUpdated("short", QueueSettings(default_max_duration_seconds=10)))
    world.send(PlanMade(schedule(world.cluster.snapshot(), world.now)))
    world.submit(spec(queue="short"))
    assert world.woke
    assert len({request.shape for request in world.cluster.snapshot().pending}) == 2
