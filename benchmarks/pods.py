"""Pods of `true`, from submission to recorded end, beside `kubectl create` of the same pods.

Needs a Kubernetes: `python -m tests.e2e.cluster run -- .venv/bin/python -m benchmarks pods`, or
RISEML_E2E_KUBECONFIG with the images of the tests.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.harness import BenchmarkError, Options, wait_for
from benchmarks.report import Row, Sample

KUBECONFIG: Final = "RISEML_E2E_KUBECONFIG"
IMAGES: Final = "localhost/riseml-e2e"
HOST: Final = "10.215.0.1"
ATTEMPT: Final = "riseml.com/attempt-id"
DEADLINE_SECONDS: Final = 600.0


@dataclass
class Life:
    """When we saw what of one pod; monotonic seconds."""

    made: float = 0.0
    bound: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    gone: float = 0.0


@dataclass
class Lives:
    """What a watch of a namespace saw."""

    pods: dict[str, Life] = field(default_factory=dict)

    def see(self, change: str, pod: dict[str, Any]) -> None:
        now = time.monotonic()
        life = self.pods.setdefault(pod["metadata"]["name"], Life())
        status = pod.get("status", {})
        life.made = life.made or now
        if pod["spec"].get("nodeName"):
            life.bound = life.bound or now
        containers: list[dict[str, Any]] = status.get("containerStatuses") or [{}]
        state = containers[0].get("state", {})
        if "running" in state or "terminated" in state:
            life.started = life.started or now
        if status.get("phase") in ("Succeeded", "Failed"):
            life.ended = life.ended or now
        if change == "DELETED":
            life.gone = now

    def count(self, what: str) -> int:
        return sum(1 for life in self.pods.values() if getattr(life, what))


def measure(options: Options) -> list[Row]:
    """Minutes for each repeat on two cores."""
    if not os.environ.get(KUBECONFIG):
        raise BenchmarkError(
            f"needs a Kubernetes: set {KUBECONFIG}, or run it in the one of the tests, see "
            "benchmarks/pods.py"
        )
    count = options.count(200, 40)
    ours, peers, phases = [], [], []
    for _ in range(options.repeats):
        seconds, lives = _ours(count)
        ours.append(count / seconds)
        phases.append(_phases(lives))
        peers.append(count / _peer(count))
    notes = tuple(
        f"{name}: p50 {statistics.median(p[name] for p in phases):.2f} s" for name in phases[0]
    )
    return [
        Row(
            f"{count} pods of `true`, submit to all FINISHED and all pods gone",
            Sample("/s", tuple(ours)),
            Sample("/s", tuple(peers)),
            "kubectl create of the same pods, all Succeeded and deleted",
            notes=notes,
        )
    ]


def _phases(lives: Lives) -> dict[str, float]:
    """Medians over the pods of one run."""
    steps = {
        "created to bound": ("made", "bound"),
        "bound to started": ("bound", "started"),
        "started to ended": ("started", "ended"),
        "ended to deleted": ("ended", "gone"),
    }
    return {
        name: statistics.median(
            getattr(life, last) - getattr(life, first) for life in lives.pods.values()
        )
        for name, (first, last) in steps.items()
    }


# ---------------------------------------------------------------------------------------- ours
def _ours(count: int) -> tuple[float, Lives]:
    from kubernetes import client as kube
    from kubernetes import config

    from riseml.v1 import state_pb2
    from tests.e2e.platform import job, pod_cluster

    with config.new_client_from_config(os.environ[KUBECONFIG]) as api:
        with pod_cluster(kube.CoreV1Api(api), HOST, IMAGES) as cluster:
            client = cluster.client()
            with _watched(cluster.namespace) as lives:
                begin = time.monotonic()
                ids = [client.experiments.create(job("true")).experiment.id for _ in range(count)]
                wait_for(
                    lambda: lives.count("gone") == count, "all pods to be gone", DEADLINE_SECONDS
                )
                seconds = time.monotonic() - begin
            for experiment_id in ids:
                state = client.experiments.get(experiment_id).experiment.state
                if state != state_pb2.STATE_FINISHED:
                    raise BenchmarkError(f"{experiment_id} is {state_pb2.State.Name(state)}")
            return seconds, lives


# ---------------------------------------------------------------------------------------- peer
def _peer(count: int) -> float:
    """Made at once, placed by Kubernetes' scheduler, and deleted at once when all are done."""
    namespace = f"riseml-bench-{uuid.uuid4().hex[:8]}"
    _kubectl("create", "namespace", namespace)
    try:
        with _watched(namespace) as lives:
            pods = json.dumps({"apiVersion": "v1", "kind": "List", "items": _plain_pods(count)})
            begin = time.monotonic()
            _kubectl("-n", namespace, "create", "-f", "-", text=pods)
            wait_for(lambda: lives.count("ended") == count, "all pods to end", DEADLINE_SECONDS)
            _kubectl("-n", namespace, "delete", "pods", "--all", "--wait=false")
            wait_for(lambda: lives.count("gone") == count, "all pods to be gone", DEADLINE_SECONDS)
            return time.monotonic() - begin
    finally:
        _kubectl("delete", "namespace", namespace, "--wait=false")


def _plain_pods(count: int) -> list[dict[str, Any]]:
    """The pods that the launcher makes, but for who owns and who places them."""
    from controlplane.launch.kubernetes.manifest import PodContext, pod_manifest
    from controlplane.launch.kubernetes.settings import read_settings
    from tests.unit.kubernetes.launching import order

    settings = read_settings(
        {
            "namespace": "default",
            "control_plane_address": f"{HOST}:1",
            "platform_image": f"{IMAGES}/platform:1",
            "default_image": f"{IMAGES}/base:1",
            "run_as_user": 1000,
        }
    )
    context = PodContext(settings, "none", "", None, "none", "")
    made = []
    for number in range(1, count + 1):
        plain = order(
            f"peer.{number}.train.1-1",
            run=("true",),
            revision_id="",
            cpu_milli=50,
            memory_bytes=128 << 20,
        )
        pod = pod_manifest(plain, "", context)
        del pod["metadata"]["ownerReferences"], pod["metadata"]["namespace"]
        del pod["spec"]["schedulerName"]
        made.append(pod)
    return made


def _kubectl(*words: str, text: str = "") -> None:
    done = subprocess.run(
        ["kubectl", *words],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, "KUBECONFIG": os.environ[KUBECONFIG]},
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"kubectl {' '.join(words)}: {done.stderr}")


@contextmanager
def _watched(namespace: str) -> Iterator[Lives]:
    """A watch in a process of its own: kubectl's."""
    lives = Lives()
    process = subprocess.Popen(
        ["kubectl", "-n", namespace, "get", "pods", "-w", "--output-watch-events", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "KUBECONFIG": os.environ[KUBECONFIG]},
    )

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            lives.see(event["type"], event["object"])

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield lives
    finally:
        process.kill()
        process.wait()
        reader.join()
        if process.stdout is not None:
            process.stdout.close()
