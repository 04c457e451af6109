"""The platform on Kubernetes, for tests: a control plane as a process that runs jobs as pods."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from kubernetes import client

from riseml.spec.model import Resources, RetryPolicy, RoleSpec, TrainSpec
from tests.integration.cluster import Cluster, wait_for

POD_SECONDS: Final = 90.0
"""A pod may take so long from its order to its end on a busy machine."""
ATTEMPT: Final = "riseml.com/attempt-id"


class PodCluster(Cluster):
    """Use `pod_cluster`. Pods reach the control plane at `host`, under a certificate for it."""

    def __init__(self, home: Path, core: client.CoreV1Api, host: str, settings: str) -> None:
        self.core = core
        self.namespace = f"riseml-e2e-{uuid.uuid4().hex[:8]}"
        config = home / "controlplane.toml"
        options = ("--config", str(config), "--launcher", "kubernetes", "--tls-name", host)
        super().__init__(home, options, "0.0.0.0")
        # Pods are told the port before anybody listens on it.
        self._port = _free_port()
        config.write_text(
            f'[kubernetes]\nnamespace = "{self.namespace}"\n'
            f'control_plane_address = "{host}:{self._port}"\n{settings}'
        )

    def pods(self) -> list[Any]:
        """All pods of its jobs that there are."""
        return list(self.core.list_namespaced_pod(self.namespace).items)

    def pod_of(self, attempt_id: str) -> Any:
        """The pod of an attempt, as soon as there is one."""

        def found() -> Any:
            for pod in self.pods():
                if (pod.metadata.annotations or {}).get(ATTEMPT) == attempt_id:
                    return pod
            return None

        return wait_for(found, f"a pod of {attempt_id}", POD_SECONDS)

    def wait_no_pods(self) -> None:
        wait_for(lambda: not self.pods(), "all pods to be gone", POD_SECONDS)


@contextlib.contextmanager
def pod_cluster(
    core: client.CoreV1Api, host: str, image_prefix: str, **settings: Any
) -> Iterator[PodCluster]:
    """A control plane in a fresh home whose jobs run in a namespace of their own."""
    home = Path(tempfile.mkdtemp(prefix="riseml-e2e-home-"))
    table = {
        "kubeconfig": os.environ["RISEML_E2E_KUBECONFIG"],
        "platform_image": f"{image_prefix}/platform:1",
        "default_image": f"{image_prefix}/base:1",
        "run_as_user": 1000,
        **settings,
    }
    # JSON writes strings, numbers and lists as TOML has them.
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
    cluster = PodCluster(home, core, host, text)
    core.create_namespace(
        {
            "metadata": {
                "name": cluster.namespace,
                "labels": {
                    "pod-security.kubernetes.io/enforce": table.get("pod_security", "restricted")
                },
            }
        }
    )
    try:
        cluster.start_control_plane()
        yield cluster
    except BaseException:
        sys.stderr.write(cluster.logs())
        raise
    finally:
        cluster.close()
        core.delete_namespace(cluster.namespace)
        shutil.rmtree(home, ignore_errors=True)


def job(
    *run: str,
    gpus: int = 0,
    count: int = 1,
    grace_seconds: int = 5,
    memory_bytes: int = 128 << 20,
    cpu_milli: int = 50,
    retry: RetryPolicy | None = None,
    **more: Any,
) -> TrainSpec:
    """A job with small needs; `count` above 1 makes a gang of workers, who learn of each other as
    those of PyTorch do."""
    needs = Resources(cpu_milli=cpu_milli, memory_bytes=memory_bytes, gpu_milli=gpus * 1000)
    if count > 1:
        more.setdefault("framework", "pytorch")
    return TrainSpec(
        project="e2e",
        run=run,
        roles=(RoleSpec("worker" if count > 1 else "train", count, needs),),
        grace_period_seconds=grace_seconds,
        retry=retry or RetryPolicy(),
        **more,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])
