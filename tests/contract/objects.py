"""Objects for tests of stores, with as little said as possible."""

from __future__ import annotations

from typing import Any

from controlplane.domain.model import Attempt, Experiment, GpuShare, Job
from controlplane.domain.states import AttemptState, State
from riseml.spec.model import EnvVar, ParameterValues, Resources, TrainSpec

START = 1_763_900_000.25


def spec(project: str = "digits", **more: Any) -> TrainSpec:
    return TrainSpec(project=project, run=("python train.py",), **more)


def experiment(number: int, user: str = "ana", **more: Any) -> Experiment:
    values: dict[str, Any] = {
        "id": f"{user}.{number}",
        "user_name": user,
        "number": number,
        "child_number": 0,
        "set_id": None,
        "project": "digits",
        "revision_id": "f" * 64,
        "spec": spec(),
        "parameters": (),
        "state": State.PENDING,
        "create_time": START + number,
    }
    return Experiment(**{**values, **more})


def experiment_set(number: int, children: int, **more: Any) -> list[Experiment]:
    """A set and its children, in this order."""
    shared = spec(
        parameters=(ParameterValues("lr", tuple(str(i) for i in range(children))),),
        env=(EnvVar("KEY", "value", secret=True),),
    )
    parent = experiment(number, spec=shared, child_count=children, **more)
    return [
        parent,
        *(
            experiment(
                number,
                id=f"{parent.id}.{child}",
                child_number=child,
                set_id=parent.id,
                spec=shared,
                parameters=(("lr", str(child)),),
                create_time=parent.create_time,
            )
            for child in range(1, children + 1)
        ),
    ]


def job(owner: Experiment, number: int = 1, type: str = "train", **more: Any) -> Job:
    values: dict[str, Any] = {
        "id": f"{owner.id}.{type}.{number}",
        "experiment_id": owner.id,
        "type": type,
        "number": number,
        "rank": number - 1,
        "resources": Resources(),
        "state": owner.state,
    }
    return Job(**{**values, **more})


def attempt(of: Job, generation: int = 1, **more: Any) -> Attempt:
    values: dict[str, Any] = {
        "id": f"{of.id}-{generation}",
        "job_id": of.id,
        "experiment_id": of.experiment_id,
        "generation": generation,
        "node_name": "n1",
        "state": AttemptState.RUNNING,
        "create_time": START + generation,
        "gpus": (GpuShare("GPU-1", 500),),
    }
    return Attempt(**{**values, **more})
