"""A real cluster in a fresh home, and the programs that load it, as processes on loopback.

Nothing is faked: the parts are started as `riseml up` starts them. Waiting is for a condition,
with a deadline.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from riseml.client import Client
from riseml.credentials import Credentials
from riseml.v1 import experiment_pb2, node_pb2, state_pb2

ROOT: Final = Path(__file__).resolve().parent.parent
DEADLINE_SECONDS: Final = 60.0
NODE: Final = "n1"
ENDED: Final = frozenset({state_pb2.STATE_FINISHED, state_pb2.STATE_FAILED, state_pb2.STATE_KILLED})

Value = TypeVar("Value")


class BenchmarkError(Exception):
    """The measurement is void: something was lost, failed, or took too long."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a run was asked for."""

    quick: bool = False
    repeats: int = 3
    # Where homes are made; the disk that is measured.
    directory: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    # Where profiles of the control plane are kept; None: not profiled.
    profiles: Path | None = None

    def count(self, full: int, quick: int) -> int:
        """How many of something, by the kind of run."""
        return quick if self.quick else full


def wait_for(condition: Callable[[], Value], what: str, seconds: float = DEADLINE_SECONDS) -> Value:
    """The first true value of `condition`. Raises BenchmarkError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise BenchmarkError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.02)


def load_command(name: str, *arguments: object) -> list[str]:
    """How a program of `loads/` is started."""
    return [sys.executable, "-m", f"benchmarks.loads.{name}", *map(str, arguments)]


def run_load(
    name: str, *arguments: object, env: Mapping[str, str] | None = None, seconds: float = 300
) -> dict[str, Any]:
    """Runs a program of `loads/` to its end; returns what it printed."""
    done = subprocess.run(
        load_command(name, *arguments),
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=seconds,
        check=False,
    )
    if done.returncode != 0:
        raise BenchmarkError(f"{name} {' '.join(map(str, arguments))} ended with {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextlib.contextmanager
def bare_server() -> Iterator[tuple[str, int]]:
    """`loads/serving.py`: its address and its pid."""
    process = subprocess.Popen(
        load_command("serving"), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}", process.pid
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, in user and kernel mode, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory now, in 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise BenchmarkError(f"process {pid} has no memory")


class Program:
    """One program of ours; its output goes to a file."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self._arguments = [sys.executable, "-P", *arguments]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9, and it is gone when this returns."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def last_words(self) -> str:
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return f"--- {self.name}\n{text[-3000:]}"


class Cluster:
    """A control plane and one node. Use `running_cluster`."""

    def __init__(self, home: Path, options: Options, name: str) -> None:
        self.home = home
        self._options = options
        self._name = name
        self._starts = 0
        self._port = 0
        self._clients: list[Client] = []
        self.control_plane = self._control_plane_program()
        token_file = home / "node" / NODE / "token"
        arguments = ["-m", "noded", "--server", "", "--token-file", str(token_file)]
        arguments += ["--name", NODE, "--home", str(home)]
        if os.geteuid() != 0:
            arguments += ["--only-user", "admin"]
        self._node_arguments = arguments
        self.node = Program("noded", arguments, home / "noded.log")

    def _control_plane_program(self) -> Program:
        profile: list[str] = []
        if self._options.profiles is not None:
            self._starts += 1
            file = self._options.profiles / f"{self._name}-{os.getpid()}-{self._starts}.pstats"
            profile = ["-m", "cProfile", "-o", str(file)]
        arguments = [*profile, "-m", "controlplane", "--home", str(self.home)]
        arguments += ["--listen", f"127.0.0.1:{self._port}", "--embedded-node", NODE]
        return Program("control plane", arguments, self.home / "control-plane.log")

    def start_control_plane(self) -> None:
        """Starts it and waits until it serves; after the first time on the same port."""
        address_file = self.home / "control" / "address"
        address_file.unlink(missing_ok=True)
        self.control_plane = self._control_plane_program()
        self.control_plane.start()

        def serves() -> bool:
            if not self.control_plane.running:
                raise BenchmarkError(self.control_plane.last_words())
            return address_file.exists()

        wait_for(serves, "the control plane to serve")
        self._port = int(address_file.read_text().strip().rpartition(":")[2])

    def start_node(self) -> None:
        """Starts the daemon and waits until it is READY."""
        arguments = list(self._node_arguments)
        arguments[arguments.index("--server") + 1] = self.address
        self.node = Program("noded", arguments, self.home / "noded.log")
        self.node.start()
        client = self.client()

        def ready() -> bool:
            if not self.node.running:
                raise BenchmarkError(self.node.last_words())
            return any(n.state == node_pb2.NODE_STATE_READY for n in client.nodes.list())

        wait_for(ready, "the node to be ready")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def admin_key(self) -> str:
        return (self.home / "control" / "admin-key").read_text().strip()

    @property
    def load_env(self) -> dict[str, str]:
        """What programs of `loads/` read the credential from."""
        return {"RISEML_API_KEY": self.admin_key}

    def client(self) -> Client:
        """As the admin; closed with the cluster."""
        client = Client(Credentials(server=self.address, user="admin", api_key=self.admin_key))
        self._clients.append(client)
        return client

    def cpu_milli_for_slots(self, slots: int) -> int:
        """What one job asks for where exactly so many fit on the node at once."""
        node = next(n for n in self.client().nodes.list() if n.name == NODE)
        return int(node.cpu_milli) // slots

    def wait_end(self, experiment_id: str, seconds: float) -> experiment_pb2.Experiment:
        """The experiment once it has ended; asks five times a second."""
        client = self.client()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            experiment = client.experiments.get(experiment_id).experiment
            if experiment.state in ENDED:
                return experiment
            time.sleep(0.2)
        raise BenchmarkError(f"{experiment_id} did not end in {seconds:g} s")

    def close(self) -> None:
        for client in self._clients:
            client.close()
        profiled = self._options.profiles is not None
        for program in (self.node, self.control_plane):
            if program.running:
                # A profile is written at the end, so that end must be an orderly one.
                if profiled:
                    program.stop()
                else:
                    program.kill()
        kill_shims(self.home)

    def last_words(self) -> str:
        return "\n".join((self.control_plane.last_words(), self.node.last_words()))


def kill_shims(home: Path) -> None:
    """Ends shims whose attempt lies below `home`, each with its job, and no others."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # A shim works in its attempt's folder.
            if (entry / "comm").read_text().strip() != "riseml-shim":
                continue
            if Path(os.readlink(entry / "cwd")).is_relative_to(home):
                os.kill(int(entry.name), signal.SIGUSR1)


@contextlib.contextmanager
def running_cluster(options: Options, name: str, *, node: bool = True) -> Iterator[Cluster]:
    """A cluster in a fresh home that users' uids can reach, removed when all is over."""
    home = Path(tempfile.mkdtemp(prefix="riseml-bench-", dir=options.directory))
    home.chmod(0o711)
    cluster = Cluster(home, options, name)
    try:
        cluster.start_control_plane()
        if node:
            cluster.start_node()
        yield cluster
    except BaseException:
        sys.stderr.write(cluster.last_words() + "\n")
        raise
    finally:
        cluster.close()
        # Not now: some file systems are slow to make files for a while after many were deleted
        # (ext4 without a journal), and the next repeat would pay for this one.
        atexit.register(shutil.rmtree, home, ignore_errors=True)
