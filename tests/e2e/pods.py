"""Pods of one test, and waiting for what the API says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kubernetes import client, watch

GPU: Final = "nvidia.com/gpu"
GPUS: Final = 2
"""That tests share out."""
WAIT_SECONDS: Final = 40


class Pods:
    """Made and bound as RiseML does: no scheduler but the caller decides where."""

    def __init__(self, core: client.CoreV1Api, namespace: str, image_prefix: str) -> None:
        self.core = core
        self.namespace = namespace
        self._image = f"{image_prefix}/base:1"

    def node_name(self) -> str:
        """A node that takes pods."""
        for node in self.core.list_node().items:
            if any(one.type == "Ready" and one.status == "True" for one in node.status.conditions):
                return str(node.metadata.name)
        raise AssertionError("no node of this cluster is ready")

    def node_with_gpus(self, count: int) -> str | None:
        """One that offers exactly so many."""
        for node in self.core.list_node().items:
            if int(node.status.allocatable.get(GPU, 0)) == count:
                return str(node.metadata.name)
        return None

    def create(self, name: str, script: str, *, gpus: int = 0, image: str = "") -> None:
        """Waits for somebody to bind it."""
        job: dict[str, Any] = {
            "name": "job",
            "image": image or self._image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/sh", "-e", "-c", script],
        }
        if gpus:
            job["resources"] = {"limits": {GPU: str(gpus)}}
        spec = {
            "restartPolicy": "Never",
            "schedulerName": "riseml",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "dnsPolicy": "Default",
            "terminationGracePeriodSeconds": 5,
            "containers": [job],
        }
        body = {"metadata": {"name": name}, "spec": spec}
        self.core.create_namespaced_pod(self.namespace, body)

    def bind(self, name: str, node_name: str) -> None:
        """The client cannot read the server's yes, so it is not asked to."""
        target = {"apiVersion": "v1", "kind": "Node", "name": node_name}
        body = {"metadata": {"name": name}, "target": target}
        self.core.create_namespaced_pod_binding(name, self.namespace, body, _preload_content=False)

    def wait(self, name: str, wanted: Callable[[Any], bool]) -> Any:
        """The pod as soon as it is as wanted."""
        last = None
        changes = watch.Watch().stream(
            self.core.list_namespaced_pod,
            self.namespace,
            field_selector=f"metadata.name={name}",
            timeout_seconds=WAIT_SECONDS,
        )
        for change in changes:
            last = change["object"]
            if change["type"] != "DELETED" and wanted(last):
                return last
        raise AssertionError(f"pod {name} did not come so far: {last and last.status}")

    def ended(self, name: str) -> Any:
        return self.wait(name, lambda pod: pod.status.phase in ("Succeeded", "Failed"))

    def running(self, name: str) -> Any:
        return self.wait(name, lambda pod: pod.status.phase == "Running")

    def log(self, name: str) -> str:
        return str(self.core.read_namespaced_pod_log(name, self.namespace))

    def first_line(self, name: str) -> str:
        """As soon as there is one."""
        lines = watch.Watch().stream(
            self.core.read_namespaced_pod_log, name, self.namespace, follow=True
        )
        return str(next(lines))


def exit_code(pod: Any) -> int:
    """Of its one container."""
    return int(pod.status.container_statuses[0].state.terminated.exit_code)
