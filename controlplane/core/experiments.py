"""Submission and kill."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from controlplane.core.draft import Draft, Outcome
from controlplane.core.lifecycle import advance, advance_set, is_build, stop_attempt
from controlplane.core.orders import run_commands
from controlplane.core.queues import no_such_queue
from controlplane.core.servable import check_servable
from controlplane.core.settings import Settings
from controlplane.core.views import shape_of
from controlplane.domain import reasons
from controlplane.domain.errors import (
    FailedPrecondition,
    FieldViolation,
    InvalidRequest,
    NotFound,
    PermissionDenied,
)
from controlplane.domain.events import ExperimentSubmitted, KillRequested
from controlplane.domain.model import Experiment, Job, Project, Queue
from controlplane.domain.snapshot import Shape
from controlplane.domain.states import State
from riseml.spec.errors import SpecError
from riseml.spec.model import ROLE_NAMES, RoleSpec, TrainSpec

Warnings = tuple[str, ...]

_ROLE_ORDER = {name: position for position, name in enumerate(ROLE_NAMES)}


def submitted(draft: Draft, event: ExperimentSubmitted, settings: Settings) -> Outcome:
    """Reply: (Experiment or None, warnings). None: the request id is known, but its experiment has
    ended and left memory; the store has it."""
    cluster = draft.cluster
    user_name, request_id, spec = event.user_name, event.request_id, event.spec
    if request_id:
        first = cluster.requests.get((user_name, request_id))
        if first is not None:
            return Outcome(reply=(_repeated(draft.experiment(first), event), ()))
    _check_user(draft, user_name)
    check_servable(spec, settings.launcher)
    _queue(draft, spec)
    is_set = spec.is_set
    assignments = event.assignments
    if not assignments or (not is_set and len(assignments) != 1):
        raise InvalidRequest(
            f"{len(assignments)} assignments of parameters do not fit what was asked for: "
            "an experiment has one, a set one for each child.",
            reason="INVALID_ASSIGNMENTS",
        )
    experiment = create(draft, event)
    if not cluster.waiting.are_known(_shape(experiment), spec.priority):
        draft.wake_scheduler()
    return draft.outcome((experiment, _warnings(draft)))


def create(draft: Draft, event: ExperimentSubmitted) -> Experiment:
    """The new experiment, with its jobs and children. Of what was asked for, only the commands are
    checked here. Only once per event and user: numbers are counted when it is done.
    """
    user_name, spec, assignments = event.user_name, event.spec, event.assignments
    number = draft.cluster.last_numbers.get(user_name, 0) + 1
    queue, is_set = _queue(draft, spec), spec.is_set
    experiment = Experiment(
        id=f"{user_name}.{number}",
        user_name=user_name,
        number=number,
        child_number=0,
        set_id=None,
        project=spec.project,
        revision_id=event.revision_id,
        spec=spec,
        parameters=() if is_set else assignments[0],
        state=State.PENDING,
        create_time=draft.now,
        child_count=len(assignments) if is_set else 0,
        request_id=event.request_id,
        # Once and for all: what an admin changes later is for those who come later.
        queue_max_duration_seconds=None
        if spec.max_duration_seconds is not None
        else queue.default_max_duration_seconds,
    )
    if (user_name, spec.project) not in draft.cluster.projects:
        draft.insert_account(Project(user_name, spec.project, draft.now))
    _check_commands(experiment, assignments[0])
    draft.put_experiment(experiment)
    if is_set:
        _put_children(draft, experiment, assignments)
    else:
        _put_jobs(draft, experiment)
    return experiment


def _queue(draft: Draft, spec: TrainSpec) -> Queue:
    queue = draft.cluster.queue(spec.queue)
    if queue is None:
        path, message = "train.queue", no_such_queue(draft.cluster, spec.queue)
        raise InvalidRequest(
            f"{path}: {message}",
            (FieldViolation(path, message),),
            reason="QUEUE_NOT_FOUND",
            metadata={"queue": spec.queue},
        )
    return queue


def _shape(experiment: Experiment) -> Shape:
    """Of an experiment that never ran, and of each child of a set."""
    roles = ordered_roles(experiment.spec)
    return shape_of(
        experiment, tuple([role.resources for role in roles for _ in range(role.count)])
    )


def _repeated(first: Experiment | None, event: ExperimentSubmitted) -> Experiment | None:
    if first is not None and (first.spec, first.revision_id) != (event.spec, event.revision_id):
        raise FailedPrecondition(
            f"The request id {event.request_id} was used for {first.id}, which asks for something "
            "else: make a new id for each experiment.",
            reason="REQUEST_ID_REUSED",
            metadata={"experiment": first.id},
        )
    return first


def _check_user(draft: Draft, user_name: str) -> None:
    user = draft.cluster.users.get(user_name)
    if user is None:
        raise NotFound(f"There is no user {user_name!r}.", reason="USER_NOT_FOUND")
    if not user.enabled:
        raise PermissionDenied(f"User {user_name} is disabled.", reason="USER_DISABLED")


def _check_commands(experiment: Experiment, assignment: tuple[tuple[str, str], ...]) -> None:
    """The names are the same in every assignment, so one that fits means that all do."""
    try:
        run_commands(experiment.spec, assignment)
    except SpecError as wrong:
        path = "train.run"
        raise InvalidRequest(
            f"{path}: {wrong}", (FieldViolation(path, str(wrong)),), reason="INVALID_SPEC"
        ) from None


def _warnings(draft: Draft) -> Warnings:
    if draft.cluster.nodes:
        return ()
    return ("No node has joined this cluster yet: the experiment waits for the first.",)


def _put_children(
    draft: Draft,
    experiment: Experiment,
    assignments: tuple[tuple[tuple[str, str], ...], ...],
) -> None:
    concurrency = experiment.spec.concurrency
    for position, parameters in enumerate(assignments):
        waits = position >= concurrency
        child = replace(
            experiment,
            id=f"{experiment.id}.{position + 1}",
            child_number=position + 1,
            set_id=experiment.id,
            parameters=parameters,
            state=State.CREATED if waits else State.PENDING,
            reason=reasons.SET_CONCURRENCY if waits else "",
            message=f"waits for its turn: {concurrency} at once" if waits else "",
            child_count=0,
            request_id="",
        )
        draft.put_experiment(child)
        _put_jobs(draft, child)


def ordered_roles(spec: TrainSpec) -> Iterable[RoleSpec]:
    """Roles in the order in which ranks are given: master, worker, ps."""
    roles = spec.roles
    return roles if len(roles) == 1 else sorted(roles, key=lambda role: _ROLE_ORDER[role.name])


def _put_jobs(draft: Draft, experiment: Experiment) -> None:
    """The gang of an experiment; jobs share its state until they are placed."""
    rank = 0
    for role in ordered_roles(experiment.spec):
        for number in range(1, role.count + 1):
            draft.put_job(
                Job(
                    id=f"{experiment.id}.{role.name}.{number}",
                    experiment_id=experiment.id,
                    type=role.name,
                    number=number,
                    rank=rank,
                    resources=role.resources,
                    state=experiment.state,
                    reason=experiment.reason,
                    message=experiment.message,
                )
            )
            rank += 1


def kill_requested(draft: Draft, event: KillRequested) -> Outcome:
    """Reply: the experiment as it is then. One that ended long ago is not known here: NotFound."""
    experiment = draft.experiment(event.experiment_id)
    if experiment is None:
        raise NotFound(
            f"There is no experiment {event.experiment_id} that has not ended.",
            reason="EXPERIMENT_NOT_FOUND",
            metadata={"id": event.experiment_id},
        )
    if not experiment.state.ended:
        message = f"killed by {event.by_user}" if event.by_user else "killed"
        if experiment.is_set:
            _kill_set(draft, experiment, message, event.force)
        else:
            kill(draft, experiment, message, event.force)
    return draft.outcome(draft.experiment(experiment.id))


def kill(draft: Draft, experiment: Experiment, message: str, force: bool) -> None:
    """Ends an experiment that is no set and has not ended; `message` says who wanted it."""
    if not experiment.kill_requested:
        draft.put_experiment(_asked(experiment, message))
    if force:
        for attempt in draft.attempts_of(experiment.id):
            if not is_build(draft, attempt):
                stop_attempt(draft, attempt, reasons.STOP_KILLED, 0.0)
    advance(draft, experiment.id)


def _kill_set(draft: Draft, experiment: Experiment, message: str, force: bool) -> None:
    if not experiment.kill_requested:
        draft.put_experiment(_asked(experiment, message))
    for child in list(draft.cluster.children_of(experiment.id)):
        if not child.state.ended:
            kill(draft, child, message, force)
    advance_set(draft, experiment.id)


def _asked(experiment: Experiment, message: str) -> Experiment:
    return replace(experiment, kill_requested=True, reason=reasons.KILL_REQUESTED, message=message)
