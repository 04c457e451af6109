"""A full cluster of simulated GPUs, asked why: true words, plans that hold, cycles that replay."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.domain.recording import read
from controlplane.scheduler.cycle import schedule
from riseml.client import Client
from riseml.errors import NotFound, PermissionDenied
from riseml.spec.model import TrainSpec
from riseml.v1 import scheduler_pb2, state_pb2
from shell.context import Context
from shell.run import run_words
from tests.integration.cluster import Cluster, running_cluster, spec, submit, wait_for, wait_state

GPUS = 8


def sleeper(gpus: int, *, hours: int = 0, seconds: float = 300) -> TrainSpec:
    wanted = spec(f"sleep {seconds:g}", gpu_milli=gpus * 1000)
    return replace(wanted, max_duration_seconds=hours * 3600 or None)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(node=False) as started:
        started.start_node("n1", options=["--simulate-gpus", f"{GPUS}xH100"])
        yield started


@pytest.fixture(scope="module")
def full(cluster: Cluster) -> tuple[Client, str, str]:
    """The admin's client; one that holds 6 of 8 GPUs for two hours; one that waits for all."""
    client = cluster.client()
    holder = submit(client, sleeper(6, hours=2))
    wait_state(client, holder, state_pb2.STATE_RUNNING)
    waiter = submit(client, sleeper(GPUS))
    return client, holder, waiter


def considered(client: Client, id: str) -> scheduler_pb2.Explanation:
    """The explanation from the cycle that decided on it."""

    def asked() -> scheduler_pb2.Explanation | None:
        found = client.scheduler.explain(id)
        return found if found.cycle_number else None

    return wait_for(asked, f"a cycle to come to {id}")


def command(client: Client, folder: Path, *words: str) -> str:
    """What a command prints; it must succeed."""
    out, err = io.StringIO(), io.StringIO()
    environ = {"RISEML_CONFIG_DIR": str(folder)}
    context = Context(out, err, io.StringIO(), environ, folder, connect=lambda _: client)
    assert run_words(words, context) == 0, err.getvalue()
    return out.getvalue()


def test_why_names_who_is_in_the_way_and_what_would_start_it(
    full: tuple[Client, str, str], tmp_path: Path
) -> None:
    client, holder, waiter = full
    found = considered(client, waiter)
    told = [line for line in found.lines if line.startswith("n1 has ")]
    assert len(told) == 1
    assert told[0].startswith(f"n1 has 2 of 8 GPUs free: 6 are held by {holder} until about ")
    assert [gpu.code for gpu in found.nodes[0].gpus].count("HELD") == 6
    assert found.suggestions[0].startswith("With 2 GPUs instead of 8 it would start now on n1 (GPU")
    assert not found.impossible
    printed = command(client, tmp_path, "why", waiter)
    assert printed.startswith(f"{waiter} has waited ") and told[0] in printed
    estimate = found.estimate
    assert estimate.earliest_time.seconds and estimate.latest_time.seconds
    assert "estimate" in command(client, tmp_path, "status", waiter)


def test_what_is_suggested_starts_when_it_is_done(full: tuple[Client, str, str]) -> None:
    """Two GPUs were said to start now: they do, and `why` tells where and why there."""
    client, _, waiter = full
    considered(client, waiter)
    small = submit(client, sleeper(2, hours=1))
    wait_state(client, small, state_pb2.STATE_RUNNING)
    found = client.scheduler.explain(small)
    assert found.summary.startswith(f"{small} runs on n1 (GPU")
    assert found.lines[0].startswith("It was placed there in cycle ")
    (decision,) = client.scheduler.decisions(small)
    assert decision.kind == "PLACED" and decision.members[0].node_name == "n1"
    client.experiments.kill(small, force=True)
    wait_state(client, small, state_pb2.STATE_KILLED)
    assert client.scheduler.explain(small).summary.endswith("killed by admin.")


def test_a_plan_tells_and_creates_nothing(full: tuple[Client, str, str], tmp_path: Path) -> None:
    client, holder, _ = full
    before = [experiment.id for experiment in client.experiments.list()]
    # As little as two GPUs for an hour delay nobody: the room is kept for later.
    fits = client.scheduler.plan(sleeper(2, hours=1)).explanation
    assert fits.summary.startswith("It would start now on n1 (GPU"), fits
    waits = client.scheduler.plan(sleeper(4)).explanation
    assert waits.summary.startswith("It would wait for 4 GPUs")
    assert any(f"6 are held by {holder} until" in line for line in waits.lines)
    never = client.scheduler.plan(sleeper(99)).explanation
    assert never.impossible and not never.suggestions[1:]
    (tmp_path / "riseml.yml").write_text(
        "project: tests\ntrain:\n  run: 'true'\n  resources: {gpus: 4, mem: 64Mi}\n"
    )
    printed = command(client, tmp_path, "train", "--plan")
    assert printed.startswith("It would wait for 4 GPUs")
    assert [experiment.id for experiment in client.experiments.list()] == before


def test_what_can_never_run_is_warned_of(full: tuple[Client, str, str]) -> None:
    client, _, _ = full
    created = client.experiments.create(sleeper(99))
    assert any("could ever hold it" in warning for warning in created.warnings)
    client.experiments.kill(created.experiment.id, force=True)


def test_a_saved_cycle_gives_the_same_plan(full: tuple[Client, str, str], tmp_path: Path) -> None:
    client, _, waiter = full
    considered(client, waiter)
    command(client, tmp_path, "system", "schedule", "--save", "cycle.json")
    recording = read((tmp_path / "cycle.json").read_bytes())
    assert recording.plan is not None
    assert any(gang.experiment_id == waiter for gang in recording.snapshot.pending)
    assert schedule(recording.snapshot, recording.now) == recording.plan
    listed = command(client, tmp_path, "system", "schedule")
    assert str(recording.number) in [row.split()[0] for row in listed.splitlines()[1:]]
    assert "waiting" in command(client, tmp_path, "system", "schedule", str(recording.number))


def test_others_learn_no_more_than_what_is_held(
    cluster: Cluster, full: tuple[Client, str, str]
) -> None:
    client, holder, waiter = full
    created = client.users.create("ana")
    ana = cluster.client_as("ana", created.api_key)
    held = ana.scheduler.explain(holder)
    assert held.summary.startswith(f"{holder} is RUNNING and holds n1 (GPU") and not held.nodes
    assert ana.scheduler.explain(waiter).summary == f"{waiter} is PENDING."
    with pytest.raises(NotFound):
        list(ana.scheduler.decisions(holder))
    with pytest.raises(PermissionDenied):
        ana.scheduler.recording()
    mine = submit(ana, sleeper(4))
    assert any(f"held by {holder}" in line for line in considered(ana, mine).lines)
    ana.experiments.kill(mine, force=True)


def test_why_there_is_known_after_a_restart(
    cluster: Cluster, full: tuple[Client, str, str]
) -> None:
    client, holder, _ = full
    before = client.scheduler.explain(holder)
    cluster.control_plane.stop()
    cluster.start_control_plane()
    again = cluster.client()
    assert again.scheduler.explain(holder).lines == before.lines
    first = wait_for(lambda: next(again.scheduler.cycles(), None), "a cycle after the restart")
    assert first.number >= before.cycle_number
