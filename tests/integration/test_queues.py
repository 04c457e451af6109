"""Queues as admins and users see them: made, submitted to and looked at by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from riseml.v1 import node_pb2, state_pb2
from tests.integration.cluster import (
    DEADLINE_SECONDS,
    Cluster,
    running_cluster,
    wait_for,
    wait_state,
)

JOB = """\
project: digits
train:
  resources: {{cpus: 0.1, mem: 64Mi, gpus: {gpus}}}
  grace_period: 2s
  queue: {queue}
  tolerations: {tolerations}
  run: exec sleep 1000
"""


@dataclass
class Person:
    """Somebody with a shell in a folder of his own."""

    environ: dict[str, str]
    folder: Path

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "shell", *words],
            env=self.environ,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
        )

    def says(self, *words: str) -> str:
        done = self.type(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def queue(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.says("queue", "show", name, "--format", "json"))
        return found

    def describe(self, queue: str, gpus: str = "1", tolerations: str = "[]") -> None:
        text = JOB.format(queue=queue, gpus=gpus, tolerations=tolerations)
        (self.folder / "riseml.yml").write_text(text)

    def train(self, queue: str, gpus: str = "1", tolerations: str = "[]") -> str:
        self.describe(queue, gpus, tolerations)
        return self.says("train", "-d").strip()


def person(cluster: Cluster, folder: Path, name: str, key: str) -> Person:
    folder.mkdir()
    places = {
        f"RISEML_{what}_DIR": str(folder.with_name(f"{name}-{what}"))
        for what in ("CONFIG", "CACHE")
    }
    server = {"RISEML_SERVER": cluster.address, "RISEML_API_KEY": key}
    return Person({**os.environ, **places, **server}, folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(node=False) as started:
        started.start_node(options=("--simulate-gpus", "4xH100"))
        yield started


@pytest.fixture
def admin(cluster: Cluster, tmp_path: Path) -> Person:
    return person(cluster, tmp_path / "admin", "admin", cluster.admin_key)


def test_a_queue_is_made_submitted_to_watched_and_removed(cluster: Cluster, admin: Person) -> None:
    client = cluster.client()
    admin.says("queue", "create", "research", "--weight", "3", "--guarantee", "1")
    running = [admin.train("research") for _ in range(2)]
    for experiment_id in running:
        wait_state(client, experiment_id, state_pb2.STATE_RUNNING)
    waiting = admin.train("research", "H100|A100:4")
    head, *rows = admin.says("queue", "list").splitlines()
    assert head.split()[:5] == ["NAME", "WEIGHT", "GUARANTEE", "LIMIT", "ALLOCATED"]
    assert [row.split()[0] for row in rows] == ["default", "research"]
    listed = json.loads(admin.says("queue", "list", "--format", "json"))
    assert [queue["use"]["users"] for queue in listed] == [[], []]
    research = admin.queue("research")
    assert research["guaranteed_gpu_milli"] == "1000"
    use = research["use"]
    assert (use["allocated_gpu_milli"], use["borrowed_gpu_milli"]) == ("2000", "1000")
    assert (use["running_count"], use["waiting_count"]) == (2, 1)
    assert use["waiting_gpu_milli"] == "4000"
    assert (use["share"], use["fair_share"], use["recent_share"]) == (0.5, 1.0, 1.0)
    assert [user["user_name"] for user in use["users"]] == ["admin"]

    refused = admin.type("queue", "delete", "research")
    assert refused.returncode == 1
    assert "3 experiments wait or run in it" in refused.stderr

    cluster.control_plane.kill()
    cluster.start_control_plane()
    cluster.wait_node("n1", node_pb2.NODE_STATE_READY)
    use = admin.queue("research")["use"]
    assert (use["allocated_gpu_milli"], use["waiting_count"]) == ("2000", 1)

    for experiment_id in (waiting, *running):
        admin.says("kill", "-f", experiment_id)
        wait_state(client, experiment_id, state_pb2.STATE_KILLED)
    wait_for(
        lambda: admin.queue("research")["use"]["allocated_gpu_milli"] == "0", "GPUs to be free"
    )
    admin.says("queue", "delete", "research")
    assert "research" not in admin.says("queue", "list")


def test_an_unknown_queue_is_refused_with_its_line(admin: Person) -> None:
    admin.says("queue", "create", "nightly")
    admin.describe("nigthly")
    refused = admin.type("train", "-d")
    assert refused.returncode != 0
    assert "riseml.yml:5: train.queue: there is no queue 'nigthly'" in refused.stderr
    assert "(there are default, nightly); did you mean nightly?" in refused.stderr
    admin.says("queue", "delete", "nightly")


def test_the_limit_of_a_queue_ends_what_names_none(cluster: Cluster, admin: Person) -> None:
    client = cluster.client()
    admin.says("queue", "create", "short", "--max-duration", "2s")
    experiment_id = admin.train("short", "0")
    assert "runs at most" in admin.says("status", experiment_id)
    ended = wait_state(client, experiment_id, state_pb2.STATE_FAILED)
    assert ended.message == "ran longer than the max_duration of queue short, 2 s"
    admin.says("queue", "delete", "short")


def test_users_look_and_admins_change(cluster: Cluster, admin: Person, tmp_path: Path) -> None:
    key = admin.says("user", "create", "ana").strip()
    ana = person(cluster, tmp_path / "ana", "ana", key)
    assert ana.queue("default")["weight"] == 1
    for words in (
        ("create", "mine"),
        ("update", "default", "--weight", "9"),
        ("delete", "default"),
    ):
        refused = ana.type("queue", *words)
        assert refused.returncode == 1
        assert "Only admins may do this, and ana is none." in refused.stderr
    admin.says("queue", "update", "default", "--weight", "9")
    assert ana.queue("default")["weight"] == 9
    refused = admin.type("queue", "delete", "default")
    assert "always there" in refused.stderr
    admin.says("queue", "update", "default", "--weight", "1")


def test_a_tainted_node_takes_only_jobs_that_tolerate_it(cluster: Cluster, admin: Person) -> None:
    client = cluster.client()
    admin.says("node", "taint", "n1", "dedicated=vision")
    kept_away = admin.train("default", "0")
    comes = admin.train("default", "0", tolerations="[dedicated]")
    wait_state(client, comes, state_pb2.STATE_RUNNING)
    waits = wait_for(
        lambda: client.experiments.get(kept_away).experiment.pending_reasons, "a reason to wait"
    )
    assert "dedicated=vision" in waits[0]
    assert "dedicated=vision" in admin.says("node", "list")
    admin.says("node", "untaint", "n1", "dedicated")
    wait_state(client, kept_away, state_pb2.STATE_RUNNING)
    for experiment_id in (kept_away, comes):
        admin.says("kill", "-f", experiment_id)
