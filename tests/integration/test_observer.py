"""`riseml-noded --kubernetes` and a control plane for pods, both real, between a kubelet, a driver
and an API server that are not: what `make test` can show of them without Kubernetes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import pytest

from controlplane.launch.kubernetes.daemon_identities import NODE_NAME
from riseml.v1 import node_pb2
from tests.integration.cluster import Cluster, Program, running_cluster, wait_for
from tests.integration.scripted_daemon import ScriptedDaemon
from tests.nvml_stub.library import NvmlStub, build_library
from tests.unit.kubernetes.fake_api import FakeApi
from tests.unit.kubernetes.launching import node
from tests.unit.noded_kubelet.fake_kubelet import FakeKubelet

T = TypeVar("T")
ACCOUNT: Final = "riseml-noded:riseml-noded"
TOKEN: Final = "eyJhbGciOi.eyJhdWQi.c2ln"
NODE: Final = "n1"
READY: Final = node_pb2.NODE_STATE_READY
UUIDS: Final = [f"GPU-57ab0000-0000-0000-0000-{index:012x}" for index in range(2)]


class Loop:
    """An event loop in a thread, for servers beside a test that is none of it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def call(self, function: Callable[[], object]) -> None:
        """In the loop's thread."""

        async def work() -> None:
            function()

        self.run(work())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Observed:
    """A node with two GPUs, and all around it."""

    def __init__(self, folder: Path, loop: Loop, server: FakeApi, kubelet: FakeKubelet) -> None:
        self.folder = folder
        self.loop = loop
        self.server = server
        self.kubelet = kubelet
        self.driver = NvmlStub(build_library(folder / "driver"), folder / "scenario")
        self.driver.play("healthy-8", "devices 2")
        self.token_file = folder / "token"
        self.token_file.write_text(TOKEN)
        (folder / "pods").mkdir()

    def daemon(self, cluster: Cluster, *options: str) -> Program:
        """Not started."""
        authority = self.folder / "ca.crt"
        authority.write_text(cluster.ca_pem)
        port = cluster.address.rpartition(":")[2]
        program = Program(
            "noded",
            [
                *("-m", "noded", "--kubernetes", "--name", NODE),
                *("--server", f"127.0.0.1:{port}", "--ca-file", str(authority)),
                *("--token-file", str(self.token_file)),
                *("--pod-logs", str(self.folder / "pods")),
                *("--pod-resources", str(self.kubelet.socket), *options),
            ],
            self.folder / "noded.log",
        )
        program.environ = self.driver.environ
        return program


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("observed")
    loop = Loop()
    server = FakeApi()
    kubelet = FakeKubelet(folder / "kubelet.sock")
    kubelet.offered, kubelet.holders = list(UUIDS), {}
    loop.run(server.__aenter__())
    loop.run(kubelet.start())
    good = {"username": f"system:serviceaccount:{ACCOUNT}", "extra": {NODE_NAME: [NODE]}}
    server.reviews[TOKEN] = {"authenticated": True, "user": good}
    loop.call(lambda: server.put("nodes", node(NODE)))
    yield Observed(folder, loop, server, kubelet)
    loop.run(kubelet.stop())
    loop.run(server.__aexit__())
    loop.close()


@pytest.fixture(scope="module")
def cluster(observed: Observed) -> Iterator[Cluster]:
    config = observed.folder / "controlplane.toml"
    config.write_text(
        f'[kubernetes]\nkubeconfig = "{observed.server.kubeconfig(observed.folder)}"\n'
        'namespace = "riseml"\ncontrol_plane_address = "riseml:7433"\n'
        f'platform_image = "riseml/platform:1"\ndaemon_account = "{ACCOUNT}"\n'
    )
    options = ("--config", str(config), "--launcher", "kubernetes")
    # With TLS, as the daemon wants it beyond this machine.
    with running_cluster(*options, node=False, host="0.0.0.0") as started:
        yield started


@pytest.fixture(scope="module")
def daemon(observed: Observed, cluster: Cluster) -> Iterator[Program]:
    program = observed.daemon(cluster)
    program.start()
    yield program
    program.stop()


def gpus(cluster: Cluster) -> dict[str, node_pb2.Gpu]:
    return {gpu.uuid: gpu for one in cluster.client().nodes.list() for gpu in one.gpus}


def wait_gpu(cluster: Cluster, uuid: str, is_so: Callable[[node_pb2.Gpu], bool]) -> None:
    wait_for(lambda: uuid in gpus(cluster) and is_so(gpus(cluster)[uuid]), f"GPU {uuid} to be so")


@pytest.mark.usefixtures("daemon")
def test_a_daemon_tells_of_its_node(observed: Observed, cluster: Cluster) -> None:
    for uuid in UUIDS:
        wait_gpu(cluster, uuid, lambda gpu: gpu.health == node_pb2.GPU_HEALTH_HEALTHY)
    client = cluster.client()
    wait_for(lambda: list(client.telemetry.get()), "a sample")
    (sample,) = client.telemetry.get()
    assert sample.node_name == NODE
    assert [gpu.gpu_uuid for gpu in sample.gpus] == UUIDS
    assert sample.host.memory_total_bytes > 0


@pytest.mark.usefixtures("daemon")
def test_what_the_kubelet_says_is_shown(observed: Observed, cluster: Cluster) -> None:
    pod = {
        "metadata": {"namespace": "other", "name": "notebook"},
        "spec": {
            "nodeName": NODE,
            "containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        },
        "status": {"phase": "Running"},
    }
    observed.loop.call(lambda: observed.server.put("pods", pod))
    observed.kubelet.holders = {UUIDS[0]: ("other", "notebook")}
    wait_gpu(cluster, UUIDS[0], lambda gpu: gpu.pod == "other/notebook")
    assert gpus(cluster)[UUIDS[1]].pod == ""
    observed.loop.call(lambda: observed.server.remove("pods", "other", "notebook"))
    observed.kubelet.holders = {}
    wait_gpu(cluster, UUIDS[0], lambda gpu: not gpu.pod and not gpu.foreign_memory_bytes)
    observed.kubelet.offered = UUIDS[1:]
    wait_gpu(cluster, UUIDS[0], lambda gpu: gpu.withheld)
    observed.kubelet.offered = list(UUIDS)
    wait_gpu(cluster, UUIDS[0], lambda gpu: not gpu.withheld)


def test_a_daemon_that_is_gone_makes_its_node_late_and_names_stay(
    observed: Observed, cluster: Cluster, daemon: Program
) -> None:
    for uuid in UUIDS:
        wait_gpu(cluster, uuid, lambda gpu: gpu.health == node_pb2.GPU_HEALTH_HEALTHY)
    cluster.control_plane.kill()
    daemon.kill()
    cluster.start_control_plane()
    # Nobody tells of its GPUs, and they have the names that they had.
    wait_for(lambda: cluster.client().nodes.get(NODE).state == READY, "the node to be ready")
    assert set(gpus(cluster)) == set(UUIDS)
    wait_for(lambda: cluster.client().nodes.get(NODE).telemetry_late, "the node to be late", 30)
    daemon.start()
    wait_for(lambda: not cluster.client().nodes.get(NODE).telemetry_late, "a sample", 30)


def test_a_daemon_whose_token_is_not_good_says_why(observed: Observed, cluster: Cluster) -> None:
    observed.token_file.write_text("eyJhbGciOi.eyJvdGhlciI.c2ln")
    program = observed.daemon(cluster)
    program.start()
    try:
        wait_for(lambda: not program.running, "it to end")
        assert "the daemon's token is refused" in program.log()
        assert "Kubernetes does not know this token for riseml" in program.log()
    finally:
        program.stop()
        observed.token_file.write_text(TOKEN)


def test_a_cluster_of_processes_has_no_use_for_one() -> None:
    with running_cluster(node=False) as cluster, pytest.raises(grpc.RpcError) as refused:
        ScriptedDaemon(cluster, "n9", observes=True)
    assert "start it without --kubernetes" in str(refused.value)
