"""A device plugin that offers GPUs which are not there, so that requests for them, and their
exhaustion, are real to the kubelet.

    python -m tests.e2e.cluster.device_plugin COUNT

Like NVIDIA's it tells a container by NVIDIA_VISIBLE_DEVICES which ones it got.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, Final

import grpc

from tests.e2e.cluster.parts import RESOURCE

FOLDER: Final = Path("/var/lib/kubelet/device-plugins")
SOCKET: Final = "riseml-e2e.sock"
KUBELET: Final = "kubelet.sock"
REGISTER_SECONDS: Final = 10
LOOK_SECONDS: Final = 0.3
# Made from the file when this starts: nothing generated has to be kept.
messages, services = grpc.protos_and_services("tests/e2e/cluster/device_plugin.proto")
Servicer: Any = services.DevicePluginServicer


def gpu_ids(count: int) -> list[str]:
    """In the form of NVIDIA's UUIDs."""
    return [f"GPU-e2e00000-0000-0000-0000-{number:012}" for number in range(count)]


class Plugin(Servicer):  # type: ignore[misc]
    """All of its devices are well for ever."""

    def __init__(self, ids: list[str]) -> None:
        self._ids = ids
        self.stopped = threading.Event()

    def GetDevicePluginOptions(self, request: Any, context: Any) -> Any:
        return messages.DevicePluginOptions()

    def ListAndWatch(self, request: Any, context: Any) -> Iterator[Any]:
        yield messages.ListAndWatchResponse(
            devices=[messages.Device(ID=id, health="Healthy") for id in self._ids]
        )
        self.stopped.wait()

    def Allocate(self, request: Any, context: Any) -> Any:
        given = [",".join(sorted(one.devices_ids)) for one in request.container_requests]
        return messages.AllocateResponse(
            container_responses=[
                messages.ContainerAllocateResponse(envs={"NVIDIA_VISIBLE_DEVICES": ids})
                for ids in given
            ]
        )


@contextlib.contextmanager
def offered(ids: list[str]) -> Iterator[None]:
    """The kubelet that runs now knows of the devices."""
    plugin = Plugin(ids)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    services.add_DevicePluginServicer_to_server(plugin, server)
    server.add_insecure_port(f"unix://{FOLDER / SOCKET}")
    server.start()
    try:
        with grpc.insecure_channel(f"unix://{FOLDER / KUBELET}") as channel:
            services.RegistrationStub(channel).Register(
                messages.RegisterRequest(
                    version="v1beta1", endpoint=SOCKET, resource_name=RESOURCE
                ),
                wait_for_ready=True,
                timeout=REGISTER_SECONDS,
            )
        yield
    finally:
        plugin.stopped.set()
        server.stop(0).wait()


def main(count: int) -> None:
    """Registers again with every kubelet: one that starts clears the folder of all sockets."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    while not stopped.is_set():
        kubelet = which_kubelet()
        if kubelet:
            with contextlib.suppress(grpc.RpcError), offered(gpu_ids(count)):
                while which_kubelet() == kubelet and not stopped.wait(LOOK_SECONDS):
                    pass
        stopped.wait(LOOK_SECONDS)


def which_kubelet() -> int:
    """A number that is another for another kubelet; 0 while there is none.

    When its socket was made: the number of its inode is given out again at once.
    """
    try:
        return (FOLDER / KUBELET).stat().st_ctime_ns
    except FileNotFoundError:
        return 0


if __name__ == "__main__":
    main(int(sys.argv[1]))
