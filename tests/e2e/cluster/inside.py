"""Inside of the namespaces: brings the cluster up and runs a command in it.

    python -m tests.e2e.cluster.inside ROOT [CMD ...]

The first process of the namespace is this one: when it ends, the kernel ends all others.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.e2e.cluster import images, network, programs
from tests.e2e.cluster.control import CONTROL, serve_control
from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.parts import Part, Parts
from tests.e2e.cluster.places import PRIVATE, Places

START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.1


class Running:
    """The parts that were started, in their order."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._parts: dict[str, Part] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, part: Part) -> None:
        """Raises ClusterError when it ends, or is not ready in time."""
        log = self._places.logs / f"{part.name}.log"
        begin = time.monotonic()
        with log.open("ab") as out:
            process = subprocess.Popen(
                part.command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        self._parts[part.name] = part
        self._processes[part.name] = process
        while not part.ready():
            status = process.poll()
            if status is not None:
                raise ClusterError(f"{part.name} ended with {status}: {_tail(log)}")
            if time.monotonic() - begin > START_SECONDS:
                raise ClusterError(
                    f"{part.name} is not ready after {START_SECONDS:.0f} s: {_tail(log)}"
                )
            time.sleep(LOOK_SECONDS)
        _say(f"{part.name} is ready after {time.monotonic() - begin:.1f} s")

    def again(self, name: str) -> None:
        """Starts a part that was stopped."""
        self.start(self._parts[name])

    def stop(self, name: str) -> None:
        """Until `again`."""
        process = self._processes[name]
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _say(f"{name} is stopped")


def bring_up(places: Places) -> Running:
    """All parts, and the images that jobs use."""
    places.make()
    network.make()
    _mount_private(places)
    parts = Parts(places)
    running = Running(places)

    def runtime() -> None:
        running.start(parts.containerd())
        images.load(images.build())

    with ThreadPoolExecutor(1) as beside:
        containers = beside.submit(runtime)
        running.start(parts.etcd())
        running.start(parts.apiserver())
        running.start(parts.controller_manager())
        running.start(parts.scheduler())
        running.start(parts.dns())
        containers.result()
    running.start(parts.kubelet())
    # It asks for its node.
    running.start(parts.proxy())
    running.start(parts.device_plugin())
    return running


def _mount_private(places: Places) -> None:
    # Kubelet's mounts have to be seen by containerd, and nothing of it outside.
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    for number, path in enumerate(PRIVATE):
        own = places.state / f"{number}-{Path(path).name}"
        own.mkdir()
        subprocess.run(["mount", "--bind", str(own), path], check=True)


def run(root: Path, command: Sequence[str]) -> int:
    """Exit status of the command, 1 when the cluster did not come up."""
    places = Places(root)
    begin = time.monotonic()
    try:
        running = bring_up(places)
    except ClusterError as fault:
        _say(str(fault))
        return 1
    _say(f"the cluster is up after {time.monotonic() - begin:.1f} s")
    serve_control(running, places.control)
    environment = {
        **os.environ,
        CONTROL: str(places.control),
        "KUBECONFIG": str(places.kubeconfig),
        "RISEML_E2E_KUBECONFIG": str(places.kubeconfig),
        "PATH": f"{programs.KUBERNETES.folder}:{os.environ['PATH']}",
    }
    return subprocess.run(
        command or [os.environ.get("SHELL", "/bin/sh")], env=environment
    ).returncode


def _as_first_process(work: Callable[[], int]) -> int:
    """Does the work in a child, and reaps what the first process inherits: shims of containers."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(KeyboardInterrupt):
            status = work()
        sys.stderr.flush()
        os._exit(status)
    # Asked to stop, the child's end is awaited all the same: it says why it ended.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os.kill(child, number))
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status) & 0xFF


def _tail(log: Path) -> str:
    last = log.read_bytes()[-2000:].decode(errors="replace")
    return f"{log}\n{last}"


def _say(text: str) -> None:
    sys.stderr.write(f"e2e: {text}\n")


if __name__ == "__main__":
    sys.exit(_as_first_process(lambda: run(Path(sys.argv[1]), sys.argv[2:])))
