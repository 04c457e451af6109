"""What RiseML builds on, seen on a real API server, kubelet and runtime: pods that we bind
ourselves, exit codes, logs, grace, GPUs that run out.
"""

from __future__ import annotations

import pytest

from tests.e2e.pods import WAIT_SECONDS, Pods, exit_code

pytestmark = pytest.mark.timeout(3 * WAIT_SECONDS)


def test_a_pod_runs_on_the_node_that_we_bind_it_to(pods: Pods) -> None:
    node_name = pods.node_name()
    pods.create("a", "echo hello; python3 -c 'print(6 * 7)'; exit 3")
    pods.bind("a", node_name)
    pod = pods.ended("a")
    assert pod.spec.node_name == node_name
    assert (pod.status.phase, exit_code(pod)) == ("Failed", 3)
    assert pods.log("a") == "hello\n42\n"


def test_nobody_else_binds_a_pod_of_our_scheduler(pods: Pods) -> None:
    pods.create("left", "true")
    pods.create("bound", "true")
    pods.bind("bound", pods.node_name())
    assert exit_code(pods.ended("bound")) == 0
    left = pods.core.read_namespaced_pod("left", pods.namespace)
    assert (left.spec.node_name, left.status.phase) == (None, "Pending")


def test_a_deleted_pod_has_its_grace_and_says_how_it_ended(pods: Pods) -> None:
    # The shell waits for `sleep` in the background: only so does it hear of the signal at once.
    pods.create("a", "trap 'echo saved; exit 7' TERM; echo ready; sleep 60 & wait")
    pods.bind("a", pods.node_name())
    pods.running("a")
    assert "ready" in pods.first_line("a")
    pods.core.delete_namespaced_pod("a", pods.namespace)
    pod = pods.wait("a", lambda pod: pod.status.phase in ("Succeeded", "Failed"))
    assert pod.metadata.deletion_timestamp is not None
    assert exit_code(pod) == 7


def test_the_kubelet_refuses_a_pod_for_which_no_gpu_is_left(pods: Pods, gpu_node: str) -> None:
    hold = "echo $NVIDIA_VISIBLE_DEVICES; trap 'exit 0' TERM; sleep 60 & wait"
    for name in ("first", "second"):
        pods.create(name, hold, gpus=1)
        pods.bind(name, gpu_node)
        pods.running(name)
    pods.create("third", "true", gpus=1)
    pods.bind("third", gpu_node)
    refused = pods.ended("third")
    assert refused.status.phase == "Failed"
    assert refused.status.reason in ("UnexpectedAdmissionError", "OutOfnvidia.com/gpu")
    assert not refused.status.container_statuses
    shown = {pods.log(name).strip() for name in ("first", "second")}
    assert len(shown) == 2 and all(shown)


def test_an_image_that_is_not_there_is_named(pods: Pods) -> None:
    pods.create("a", "true", image="localhost/riseml-e2e/missing:1")
    pods.bind("a", pods.node_name())
    pod = pods.wait("a", lambda pod: _waits_for(pod) in ("ErrImagePull", "ImagePullBackOff"))
    waiting = pod.status.container_statuses[0].state.waiting
    assert "riseml-e2e/missing:1" in waiting.message


def _waits_for(pod: object) -> str:
    statuses = getattr(getattr(pod, "status", None), "container_statuses", None) or []
    return next((str(one.state.waiting.reason) for one in statuses if one.state.waiting), "")
