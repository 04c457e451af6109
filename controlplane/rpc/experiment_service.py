"""ExperimentService: create, look at, watch, kill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from typing import Any

from controlplane.core.views import gang_request
from controlplane.domain.errors import FieldViolation, NotFound, invalid_spec
from controlplane.domain.events import ExperimentSubmitted, KillRequested
from controlplane.domain.model import Attempt, Experiment, Job
from controlplane.domain.plan import PendingReason
from controlplane.domain.states import State
from controlplane.explain.waiting import never
from controlplane.explain.words import upper_first
from controlplane.rpc import convert
from controlplane.rpc.backend import Backend, check_request_id, page_size, read_experiment_id
from controlplane.rpc.caller import Caller, current_caller
from controlplane.scheduler.possible import could_ever_hold
from controlplane.store.protocol import ExperimentQuery
from riseml.convert import train_spec_from_proto, train_spec_to_proto
from riseml.spec.model import TrainSpec
from riseml.spec.sets import expand
from riseml.spec.validate import validate
from riseml.v1 import experiment_pb2, experiment_service_pb2_grpc, spec_pb2
from riseml.v1 import experiment_service_pb2 as pb

EVERYBODY = "*"


class ExperimentService(experiment_service_pb2_grpc.ExperimentServiceServicer):
    """See the contract for what each call means."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def CreateExperiment(
        self, request: pb.CreateExperimentRequest, context: Any
    ) -> pb.CreateExperimentResponse:
        caller = current_caller()
        check_request_id(request.request_id)
        spec = read_spec(request.spec.SerializeToString(deterministic=True))
        if request.revision_id:
            found = await self._backend.read(
                self._backend.store.revision, caller.name, request.revision_id
            )
            if found is None:
                raise NotFound(
                    f"There is no revision {request.revision_id[:12]} of yours: send the "
                    "code first.",
                    reason="REVISION_NOT_FOUND",
                )
        assignments = tuple(
            tuple((p.name, p.value) for p in assignment) for assignment in expand(spec)
        )
        experiment, warnings = await self._backend.runtime.submit(
            ExperimentSubmitted(
                caller.name, request.request_id, spec, request.revision_id, assignments
            )
        )
        if experiment is None:
            # A repeated request whose experiment has ended and left memory.
            experiment = await self._backend.read(
                self._backend.store.experiment_by_request, caller.name, request.request_id
            )
        message = convert.experiment(experiment)
        if experiment.is_set:
            message.set.child_count = experiment.child_count
        return pb.CreateExperimentResponse(
            experiment=message,
            warnings=[*warnings, *unenforced(spec), *await self._impossible(experiment)],
        )

    async def _impossible(self, experiment: Experiment) -> list[str]:
        """A warning where no node could ever hold it, or its queue never will."""
        cluster = await self._backend.runtime.committed()
        first = experiment.id
        if experiment.is_set:
            first = next((child.id for child in cluster.children_of(first)), first)
        waiting = cluster.waiting.get(first)
        if waiting is not None:
            return [impossible_warning(waiting.reasons)] if waiting.impossible else []
        one = cluster.experiments.get(first)
        if one is None or one.state is not State.PENDING:
            return []
        # No cycle has come to it yet.
        gang = gang_request(one, [job for job in cluster.jobs_of(first) if job.rank >= 0], ())
        # A new picture of the cluster is made only for what the last one could not hold.
        cycle = self._backend.runtime.cycles.newest()
        seen = cycle.snapshot if cycle is not None else None
        if seen is not None and could_ever_hold(seen.nodes, gang):
            return []
        possible = could_ever_hold(cluster.snapshot().nodes, gang)
        return [] if possible else [impossible_warning(())]

    async def GetExperiment(
        self, request: pb.GetExperimentRequest, context: Any
    ) -> pb.GetExperimentResponse:
        caller = current_caller()
        number = self._backend.runtime.feed.change_number
        experiment = await self._backend.own_experiment(
            caller, read_experiment_id(request.id, caller)
        )
        message = (await self._messages([experiment], caller, with_jobs=True))[0]
        message.spec.CopyFrom(hide_secrets(experiment.spec))
        return pb.GetExperimentResponse(experiment=message, change_number=number)

    async def ListExperiments(
        self, request: pb.ListExperimentsRequest, context: Any
    ) -> pb.ListExperimentsResponse:
        caller = current_caller()
        number = self._backend.runtime.feed.change_number
        set_id = None
        owner: str | None = request.user_name or caller.name
        if request.set_id:
            set_id = read_experiment_id(request.set_id, caller)
            caller.check_owner(set_id.partition(".")[0], f"experiment {set_id}")
            owner = None
        elif owner == EVERYBODY:
            owner = None
        page = await self._backend.read(
            self._backend.store.experiments,
            ExperimentQuery(
                user_name=owner,
                project=request.project or None,
                states=tuple(
                    convert.STATE_FROM_PROTO[s]
                    for s in request.states
                    if s in convert.STATE_FROM_PROTO
                ),
                set_id=set_id,
                page_token=request.page_token,
                page_size=page_size(request.page_size),
            ),
        )
        return pb.ListExperimentsResponse(
            experiments=await self._messages(page.experiments, caller, with_jobs=request.with_jobs),
            next_page_token=page.next_page_token,
            change_number=number,
        )

    async def WatchExperiments(
        self, request: pb.WatchExperimentsRequest, context: Any
    ) -> AsyncIterator[pb.WatchExperimentsResponse]:
        caller = current_caller()
        root = None
        if request.id:
            root = (
                await self._backend.own_experiment(caller, read_experiment_id(request.id, caller))
            ).id
        feed = self._backend.runtime.feed
        with feed.subscribe(caller.name, root) as subscription:
            if request.change_number:
                missed = feed.changed_since(request.change_number, caller.name, root)
                for experiment_id, number in missed.items():
                    experiment = await self._backend.experiment(experiment_id)
                    messages = await self._messages([experiment], caller, with_jobs=True)
                    yield pb.WatchExperimentsResponse(change_number=number, experiment=messages[0])
            while True:
                for number, experiment in await subscription.take():
                    messages = await self._messages([experiment], caller, with_jobs=True)
                    yield pb.WatchExperimentsResponse(change_number=number, experiment=messages[0])

    async def KillExperiment(
        self, request: pb.KillExperimentRequest, context: Any
    ) -> pb.KillExperimentResponse:
        caller = current_caller()
        experiment = await self._backend.own_experiment(
            caller, read_experiment_id(request.id, caller)
        )
        if not experiment.state.ended:
            experiment = await self._backend.runtime.submit(
                KillRequested(experiment.id, request.force, caller.name)
            )
        messages = await self._messages([experiment], caller, with_jobs=False)
        return pb.KillExperimentResponse(experiment=messages[0])

    async def _messages(
        self, experiments: Sequence[Experiment], caller: Caller, *, with_jobs: bool
    ) -> list[experiment_pb2.Experiment]:
        """Experiments as messages, with what each asks for beside its own row."""
        set_ids = [e.id for e in experiments if e.is_set]
        counts: dict[str, dict[State, int]] = {}
        if set_ids:
            counts = await self._backend.read(self._backend.store.children_by_state, set_ids)
        jobs: dict[str, list[Job]] = {}
        attempts: dict[str, list[Attempt]] = {}
        visible = [e.id for e in experiments if caller.may_see(e.user_name)]
        if with_jobs and visible:
            jobs, attempts = await self._backend.jobs_of(visible)
        messages = []
        waits = (await self._backend.runtime.committed()).waiting
        for experiment in experiments:
            private = caller.may_see(experiment.user_name)
            message = convert.experiment(experiment, private=private)
            if experiment.is_set:
                message.set.CopyFrom(convert.set_summary(experiment, counts.get(experiment.id, {})))
            message.jobs.extend(
                convert.job(job, attempts.get(job.id, ())) for job in jobs.get(experiment.id, ())
            )
            waiting = waits.get(experiment.id)
            if private and experiment.state is State.PENDING and waiting is not None:
                message.pending_reasons.extend(reason.message for reason in waiting.reasons)
            messages.append(message)
        return messages


@lru_cache(maxsize=512)
def read_spec(message: bytes) -> TrainSpec:
    """The spec of a serialized message, checked. Raises InvalidRequest.

    Cached: who submits a hundred times submits the same spec a hundred times, and experiments that
    share one object share its memory.
    """
    spec = train_spec_from_proto(spec_pb2.TrainSpec.FromString(message))
    check_spec(spec)
    return spec


def check_spec(spec: TrainSpec) -> None:
    """Validates again what came over the wire; whether it can be served the reactor knows."""
    violations = [FieldViolation(e.path, e.message) for e in validate(spec)]
    if violations:
        raise invalid_spec(violations)


def unenforced(spec: TrainSpec) -> list[str]:
    """Warnings for what is accepted and kept but has no effect yet."""
    warnings = []
    if spec.tensorboard:
        warnings.append("train.tensorflow.tensorboard is recorded, but no TensorBoard is started")
    return warnings


def impossible_warning(found: Sequence[PendingReason]) -> str:
    """For somebody who submits what the cluster as it is can never run."""
    return f"{upper_first(never(found))}; `riseml why ID` tells more."


def hide_secrets(spec: TrainSpec) -> Any:
    """The spec's message without the values of secret variables."""
    message = train_spec_to_proto(spec)
    for variable in message.env:
        if variable.secret:
            variable.value = ""
    return message
