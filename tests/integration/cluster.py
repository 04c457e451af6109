"""A real cluster for tests: the control plane and daemons as processes, on loopback, in a fresh
home.

Nothing is faked: programs are started as an admin would start them, and stopped by signals. Waiting
is always for a condition, with a deadline.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from riseml.client import Client
from riseml.credentials import Credentials
from riseml.cri import payload
from riseml.spec.model import Resources, RetryPolicy, RoleSpec, TrainSpec
from riseml.v1 import experiment_pb2, node_pb2, state_pb2
from tests.integration.processes import kill_shims

DEADLINE_SECONDS: Final = 30.0
ENDED: Final = frozenset({state_pb2.STATE_FINISHED, state_pb2.STATE_FAILED, state_pb2.STATE_KILLED})

Value = TypeVar("Value")


def wait_for(
    condition: Callable[[], Value | None], what: str, seconds: float = DEADLINE_SECONDS
) -> Value:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}; last seen: {value!r}")
        time.sleep(0.02)


class Program:
    """One program of ours, started as a user would start it; its output goes to a file."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self._arguments = [sys.executable, "-P", *arguments]
        self._log = log
        # None: that of the tests.
        self.environ: Mapping[str, str] | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environ,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self) -> None:
        """kill -9, and nothing of it is left when this returns."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM, and its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"{self.name} did not stop in {seconds:g} s:\n{self.log()}"
            ) from None

    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""


class Cluster:
    """A control plane and its nodes. Use `running_cluster`."""

    def __init__(self, home: Path, options: Sequence[str] = (), host: str = "127.0.0.1") -> None:
        self.home = home
        self._host = host
        self.control_plane_options = list(options)
        self._port = 0
        self.control_plane = self._control_plane_program()
        self.nodes: dict[str, Program] = {}
        self._clients: list[Client] = []

    def _control_plane_program(self) -> Program:
        return Program(
            "control plane",
            [
                "-m",
                "controlplane",
                "--home",
                str(self.home),
                "--listen",
                f"{self._host}:{self._port}",
                "--embedded-node",
                "n1",
                *self.control_plane_options,
            ],
            self.home / "control-plane.log",
        )

    def start_control_plane(self) -> None:
        """Starts it and waits until it serves; after the first time on the same port."""
        address_file = self.home / "control" / "address"
        address_file.unlink(missing_ok=True)
        self.control_plane = self._control_plane_program()
        self.control_plane.start()

        def ready() -> bool:
            assert self.control_plane.running, self.control_plane.log()
            return address_file.exists()

        wait_for(ready, "the control plane to serve")
        self._port = int(self.address.rpartition(":")[2])

    @property
    def address(self) -> str:
        return (self.home / "control" / "address").read_text().strip()

    @property
    def ca_pem(self) -> str:
        """Of the control plane's CA; empty where it serves loopback only."""
        path = self.home / "control" / "tls" / "ca.pem"
        return path.read_text() if path.exists() else ""

    @property
    def admin_key(self) -> str:
        return (self.home / "control" / "admin-key").read_text().strip()

    def client(self) -> Client:
        """A client as the admin, closed with the cluster."""
        return self.client_as("admin", self.admin_key)

    def client_as(self, user: str, api_key: str) -> Client:
        client = Client(
            Credentials(
                server=f"127.0.0.1:{self._port}",
                user=user,
                api_key=api_key,
                ca_pem=self.ca_pem,
            )
        )
        self._clients.append(client)
        return client

    def start_node(
        self,
        name: str = "n1",
        *,
        server: str = "",
        options: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> Program:
        """Starts a daemon (with a token of its own unless it is n1) and waits until it is READY.

        A daemon that is started again keeps what it was given the first time.
        """
        token_file = self.home / "node" / name / "token"
        if name not in self.nodes and not token_file.exists():
            answer = self.client().nodes.create_token(name)
            token_file.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
            token_file.write_text(f'{{"node_name": "{name}", "token": "{answer.token}"}}')
        program = self.nodes.get(name) or Program(
            f"noded {name}",
            [
                "-m",
                "noded",
                "--server",
                server or f"127.0.0.1:{self._port}",
                "--token-file",
                str(token_file),
                "--name",
                name,
                "--home",
                str(self.home),
                *(() if os.geteuid() == 0 else ("--only-user", "admin")),
                *options,
            ],
            self.home / f"noded-{name}.log",
        )
        program.environ = environ or program.environ
        self.nodes[name] = program
        program.start()
        self.wait_node(name, node_pb2.NODE_STATE_READY)
        return program

    def wait_node(
        self, name: str, state: node_pb2.NodeState.ValueType, seconds: float = DEADLINE_SECONDS
    ) -> node_pb2.Node:
        client = self.client()

        def reached() -> node_pb2.Node | None:
            program = self.nodes[name]
            assert program.running, program.log()
            found = [n for n in client.nodes.list() if n.name == name]
            return found[0] if found and found[0].state == state else None

        return wait_for(reached, f"{name} to be {node_pb2.NodeState.Name(state)}", seconds)

    def close(self) -> None:
        """Kills what still runs: daemons first, then shims and jobs that are left below home."""
        for client in self._clients:
            client.close()
        for program in (*self.nodes.values(), self.control_plane):
            if program.running:
                program.kill()
        kill_shims(self.home)

    def logs(self) -> str:
        """What all programs printed, for a failed test."""
        programs = (self.control_plane, *self.nodes.values())
        return "\n".join(f"--- {p.name}\n{p.log()[-4000:]}" for p in programs)


@contextlib.contextmanager
def running_cluster(*options: str, node: bool = True, host: str = "127.0.0.1") -> Iterator[Cluster]:
    """A cluster in a fresh home with one node, n1. The home is reachable for users' uids."""
    home = Path(tempfile.mkdtemp(prefix="riseml-test-"))
    home.chmod(0o711)
    cluster = Cluster(home, options, host)
    try:
        cluster.start_control_plane()
        if node:
            cluster.start_node()
        yield cluster
    except BaseException:
        sys.stderr.write(cluster.logs())
        raise
    finally:
        cluster.close()
        shutil.rmtree(home, ignore_errors=True)


def spec(
    *run: str,
    cpu_milli: int = 100,
    memory_bytes: int = 64 << 20,
    gpu_milli: int = 0,
    grace_seconds: int = 2,
    retry: RetryPolicy | None = None,
) -> TrainSpec:
    """A plain job with small needs."""
    needs = Resources(cpu_milli=cpu_milli, memory_bytes=memory_bytes, gpu_milli=gpu_milli)
    return TrainSpec(
        project="tests",
        run=run,
        roles=(RoleSpec("train", 1, needs),),
        grace_period_seconds=grace_seconds,
        retry=retry or RetryPolicy(),
    )


def submit(client: Client, wanted: TrainSpec) -> str:
    """Creates an experiment and returns its id."""
    return client.experiments.create(wanted).experiment.id


def wait_state(
    client: Client,
    experiment_id: str,
    *states: state_pb2.State.ValueType,
    seconds: float = DEADLINE_SECONDS,
) -> experiment_pb2.Experiment:
    """The experiment once it is in one of these states."""

    def reached() -> experiment_pb2.Experiment | None:
        found = client.experiments.get(experiment_id).experiment
        return found if found.state in states else None

    names = " or ".join(state_pb2.State.Name(s) for s in states)
    return wait_for(reached, f"{experiment_id} to be {names}", seconds)


def output(client: Client, attempt_id: str, *, follow: bool = True) -> bytes:
    """Exactly the bytes that an attempt wrote, from the control plane's archive."""
    data = bytearray()
    for record in client.logs.tail(attempt_id, follow=follow):
        if record.HasField("chunk"):
            assert record.chunk.offset == len(data), "a byte is missing or came twice"
            data += record.chunk.data
    return payload(bytes(data))
