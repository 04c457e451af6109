"""What no launcher of the cluster can serve is refused at submission, with what to do instead."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.core.dry_run import dry_run
from controlplane.core.servable import check_servable
from controlplane.core.settings import LauncherName, Settings
from controlplane.domain.errors import InvalidRequest
from controlplane.domain.events import ExperimentSubmitted
from riseml.spec.model import Resources, RoleSpec
from tests.unit.core.world import SMALL, World, gang, spec

SHARE = Resources(gpu_milli=500)
KUBERNETES = Settings(launcher="kubernetes")


def paths(launcher: LauncherName, **fields: Any) -> list[str]:
    """Of what is refused."""
    try:
        check_servable(spec(**fields), launcher)
    except InvalidRequest as refused:
        return [violation.path for violation in refused.violations]
    return []


@pytest.mark.parametrize(
    ("fields", "daemon", "kubernetes"),
    [
        ({}, [], []),
        ({"image": "x:1"}, ["train.image"], []),
        ({"roles": gang(("train", 1), resources=SHARE)}, [], ["train.resources.gpus"]),
        ({"roles": gang(("train", 2), resources=Resources(gpu_milli=2000))}, [], []),
        (
            {
                "framework": "tensorflow",
                "roles": (RoleSpec("worker", 2, SHARE), RoleSpec("ps", 1, SMALL)),
            },
            [],
            ["train.tensorflow.distributed.worker.resources.gpus"],
        ),
        ({"secrets": ("hf",)}, ["train.secrets"], ["train.secrets"]),
        ({"image": "x:1", "volumes": ("v",)}, ["train.image", "train.volumes"], ["train.volumes"]),
    ],
)
def test_each_launcher_refuses_what_it_cannot_serve(
    fields: dict[str, Any], daemon: list[str], kubernetes: list[str]
) -> None:
    assert paths("daemon", **fields) == daemon
    assert paths("kubernetes", **fields) == kubernetes


def test_a_refusal_says_what_to_do_and_leaves_no_trace() -> None:
    world = World(KUBERNETES)
    with pytest.raises(InvalidRequest, match="given out whole: ask for 1") as refused:
        world.submit(spec(roles=gang(("train", 1), resources=SHARE)))
    assert refused.value.reason == "INVALID_SPEC"
    assert world.submit(spec(image="x:1")) == "ana.1"


def test_a_plan_of_a_submission_is_refused_like_the_submission() -> None:
    world = World(KUBERNETES)
    event = ExperimentSubmitted("ana", "", spec(image="x:1"))
    assert dry_run(world.cluster, event, world.now, KUBERNETES).gangs[0].needs_image
    with pytest.raises(InvalidRequest, match=r"train\.image"):
        dry_run(world.cluster, event, world.now, Settings())
