"""The cluster that RISEML_E2E_KUBECONFIG names, and a namespace in it for each test.

`make e2e` makes a cluster and sets it. Any other will do (kind, k3s, a company's): give it the
images that `--image-prefix` says, and each test takes a namespace of its own and deletes it.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Generator, Iterator

import pytest
from kubernetes import client, config

from tests.e2e.cluster.control import CONTROL, ask
from tests.e2e.platform import PodCluster, pod_cluster
from tests.e2e.pods import GPUS, Pods
from tests.e2e.release import Installed, installed_release
from tests.integration.cluster import wait_for


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--image-prefix",
        default="localhost/riseml-e2e",
        help="before the names of the tests' images: registry.example/riseml-e2e",
    )
    parser.addoption(
        "--control-plane-host",
        default="10.215.0.1",
        help="the address of this machine as the cluster's pods reach it",
    )


@pytest.fixture(scope="session")
def image_prefix(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--image-prefix"))


@pytest.fixture(scope="session")
def api() -> Iterator[client.ApiClient]:
    kubeconfig = os.environ.get("RISEML_E2E_KUBECONFIG")
    if not kubeconfig:
        pytest.fail("These tests need a Kubernetes: `make e2e` makes one and runs them in it.")
    with config.new_client_from_config(kubeconfig) as made:
        yield made


@pytest.fixture
def pods(api: client.ApiClient, request: pytest.FixtureRequest) -> Iterator[Pods]:
    """A namespace of the test's own, deleted at its end."""
    core = client.CoreV1Api(api)
    name = f"riseml-e2e-{uuid.uuid4().hex[:8]}"
    core.create_namespace({"metadata": {"name": name}})
    try:
        yield Pods(core, name, request.config.getoption("--image-prefix"))
    finally:
        core.delete_namespace(name)


@pytest.fixture
def gpu_node(pods: Pods) -> str:
    """The name of a node that offers `GPUS` GPUs. That of a cluster made for the tests does."""
    if os.environ.get(CONTROL):
        # After a kubelet was started anew its device plugin takes a moment.
        return wait_for(lambda: pods.node_with_gpus(GPUS) or "", f"{GPUS} GPUs on the node", 60)
    return pods.node_with_gpus(GPUS) or pytest.skip(f"no node of this cluster offers {GPUS} GPUs")


class PartsControl:
    """Stops parts of the cluster and starts them again: `kubelet`, `kube-apiserver`."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """The part does not run within the block."""
        ask(self._socket, f"stop {name}")
        try:
            yield
        finally:
            ask(self._socket, f"start {name}")


@pytest.fixture
def parts() -> PartsControl:
    """Only of a cluster that was made for the tests."""
    socket = os.environ.get(CONTROL)
    if not socket:
        pytest.skip("the parts of this cluster are not ours to stop")
    return PartsControl(socket)


@pytest.fixture(scope="module")
def platform(api: client.ApiClient, request: pytest.FixtureRequest) -> Iterator[PodCluster]:
    """A control plane of the module's own, with jobs in a namespace of its own."""
    with pod_cluster(
        client.CoreV1Api(api),
        request.config.getoption("--control-plane-host"),
        request.config.getoption("--image-prefix"),
    ) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def installed(api: client.ApiClient, image_prefix: str) -> Iterator[Installed]:
    """The chart, installed once for all tests."""
    with installed_release(api, image_prefix) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the control plane logged stands with a failed test."""
    report = yield
    platform = getattr(item, "funcargs", {}).get("platform")
    if report.failed and isinstance(platform, PodCluster):
        report.sections.append(("control plane", platform.logs()))
    return report
