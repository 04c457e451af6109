"""up"""

from __future__ import annotations

import os
import queue
import signal
import sys
import time
from pathlib import Path
from typing import Final, TypeAlias

from riseml import credentials as stored
from riseml.client import Client
from riseml.credentials import Credentials
from riseml.errors import CredentialsError, RisemlError, Unauthenticated
from riseml.retry import Backoff
from riseml.transport import Transport
from riseml.v1 import node_pb2
from shell.children import Child, Ended, end_leftovers, how_it_died, remember
from shell.command import UsageError, Values
from shell.context import Context
from shell.home import (
    HomeLock,
    find_home,
    node_name,
    own_addresses,
    own_node_name,
    plain_host,
)
from shell.nodes import node_summary
from shell.render import json_text

READY_SECONDS: Final = 60.0
NODE_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.05
_CONFIGURATION_FAULT: Final = 2


class ClusterFailed(RisemlError):
    """A part of the cluster did not start; the message has the end of its log."""


class _Stop:
    """Ctrl-C or SIGTERM."""


_News: TypeAlias = Ended | _Stop


def up(context: Context, values: Values) -> int:
    """Start the control plane and this machine's node, keep them up, stop them at the end."""
    if context.at_prompt:
        raise UsageError("'up' runs in the foreground: start it in a terminal of its own.")
    home = find_home(values.text("home"), context.environ, root=os.geteuid() == 0)
    name = node_name(values.text("name")) if values.text("name") else own_node_name()
    with HomeLock(home):
        cluster = EmbeddedCluster(context, home, name, values)
        try:
            cluster.start()
            cluster.serve()
        finally:
            cluster.stop()
    return 0


class EmbeddedCluster:
    """One control plane and one node daemon on this machine."""

    def __init__(self, context: Context, home: Path, name: str, values: Values) -> None:
        self._context = context
        self._home = home
        self._name = name
        self._host = plain_host(values.text("listen"))
        self._port = values.number("port")
        self._tls_names = values.words("tls_name")
        self._gpus = values.text("simulate_gpus")
        self._news: queue.SimpleQueue[_News] = queue.SimpleQueue()
        self._pids = home / "up.json"
        self._admin: Client | None = None
        self._address = ""
        self._was_up = False
        self._control = Child("control plane", [], home / "control" / "log", self._news.put)
        self._node = Child("node daemon", [], home / "node" / name / "log", self._news.put)

    def start(self) -> None:
        """Returns when jobs can be submitted. Raises ClusterFailed."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._news.put(_Stop()))
        for left in end_leftovers(self._pids):
            self._context.say(f"Ended the {left} that an earlier 'riseml up' left behind.")
        # The control plane's folder holds keys; through the node's jobs of other uids reach theirs.
        for folder, mode in ((self._control.log.parent, 0o700), (self._node.log.parent, 0o711)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)
        self._start_control()
        self._connect()
        saved = self._save_credentials()
        self._start_node()
        node = self._wait_for_node()
        self._was_up = True
        self._report(saved, node)

    def serve(self) -> None:
        """Keep both up until Ctrl-C or SIGTERM. Raises ClusterFailed for what starting again
        cannot mend.
        """
        due: dict[Child, float] = {}
        while True:
            pause = min(due.values(), default=None)
            timeout = None if pause is None else max(0.0, pause - time.monotonic())
            try:
                news = self._news.get(timeout=timeout)
            except queue.Empty:
                for child in [c for c, when in due.items() if when <= time.monotonic()]:
                    del due[child]
                    self._start_again(child)
                continue
            if isinstance(news, _Stop):
                return
            due[news.child] = self._after_death(news)

    def stop(self) -> None:
        """Stop the node daemon and the control plane. The shims of running jobs are not theirs to
        stop.
        """
        running = self._running_count()
        if self._was_up:
            self._context.say("Stopping ...")
        for child in (self._node, self._control):
            child.ask_to_stop()
            child.finish()
        self._pids.unlink(missing_ok=True)
        if self._admin is not None:
            self._admin.close()
        if running:
            jobs = (
                "1 running experiment goes" if running == 1 else f"{running} running experiments go"
            )
            self._context.say(f"Stopped. {jobs} on; the next 'riseml up' picks up from there.")
        elif self._was_up:
            self._context.say("Stopped.")

    @property
    def _admin_key_file(self) -> Path:
        return self._home / "control" / "admin-key"

    def _start_control(self) -> None:
        address_file = self._home / "control" / "address"
        address_file.unlink(missing_ok=True)
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._control.command = [
            *_program("controlplane", self._home),
            *("--listen", f"{host}:{self._port}"),
            *("--embedded-node", self._name),
        ]
        if not stored.is_loopback(self._host):
            for tls_name in dict.fromkeys((*self._tls_names, *own_addresses())):
                self._control.command += ["--tls-name", tls_name]
        self._launch_control()
        deadline = time.monotonic() + READY_SECONDS
        while not (address_file.exists() and self._answers(address_file)):
            if not self._control.is_alive or time.monotonic() > deadline:
                raise self._failed(self._control, "did not start")
            self._interruptible_pause(_POLL_SECONDS)

    def _launch_control(self) -> None:
        self._control.start()
        remember(self._pids, [self._control, self._node])

    def _answers(self, address_file: Path) -> bool:
        address = address_file.read_text("utf-8").strip()
        if not address:
            return False
        _, port = stored.split_address(address)
        self._port = port
        host = self._host if stored.is_loopback(self._host) else "127.0.0.1"
        self._address = stored.normalize_address(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        )
        with Transport(self._credentials("")) as transport:
            return transport.is_serving()

    def _credentials(self, api_key: str, user: str = "") -> Credentials:
        ca_pem = ""
        if not stored.is_loopback(self._host):
            ca_pem = (self._home / "control" / "tls" / "ca.pem").read_text("ascii")
        return Credentials(self._address, api_key, user, ca_pem)

    def _connect(self) -> None:
        """Become the admin, if the key that was made at first start is still there and valid."""
        try:
            api_key = self._admin_key_file.read_text("utf-8").strip()
        except FileNotFoundError:
            return
        transport = Transport(self._credentials(api_key), backoff=Backoff(tries=2))
        client = Client(self._credentials(api_key), transport)
        try:
            user = client.users.caller().name
        except Unauthenticated:
            client.close()
            return
        client.credentials = self._credentials(api_key, user)
        self._admin = client

    def _save_credentials(self) -> Path | None:
        """Log the CLI in here, unless it is logged in on another machine; returns the file if it
        was written.
        """
        if self._admin is None:
            return None
        mine = self._admin.credentials
        path = stored.credentials_file(self._context.environ)
        try:
            present = stored.read_file(path)
        except CredentialsError as error:
            self._context.say(f"{error.message}\nThe CLI was not logged in here.")
            return None
        if present == mine:
            return None
        if present is not None and not present.loopback:
            self._context.say(
                f"The CLI stays logged in to {present.server}. "
                f"For this cluster set RISEML_SERVER={mine.server} and RISEML_API_KEY "
                f"(in {self._admin_key_file}), or run 'riseml user login {mine.server}'."
            )
            return None
        return stored.save(mine, self._context.environ)

    def _start_node(self) -> None:
        self._node.command = [
            *_program("noded", self._home),
            *("--server", self._address),
            *("--token-file", str(self._home / "node" / self._name / "token")),
        ]
        if self._gpus:
            self._node.command += ["--simulate-gpus", self._gpus]
        if os.geteuid() != 0:
            admin = self._admin.credentials.user if self._admin is not None else "admin"
            self._node.command += ["--only-user", admin]
        self._node.start()
        remember(self._pids, [self._control, self._node])

    def _wait_for_node(self) -> node_pb2.Node | None:
        deadline = time.monotonic() + NODE_SECONDS
        while time.monotonic() < deadline:
            if not self._node.is_alive:
                raise self._failed(self._node, "did not start")
            if self._admin is None:
                return None
            for node in self._admin.nodes.list():
                if node.name == self._name and node.state == node_pb2.NODE_STATE_READY:
                    return node
            self._interruptible_pause(_POLL_SECONDS)
        raise self._failed(self._node, f"is not ready after {NODE_SECONDS:.0f} s")

    def _interruptible_pause(self, seconds: float) -> None:
        try:
            news = self._news.get(timeout=seconds)
        except queue.Empty:
            return
        if isinstance(news, _Stop):
            raise KeyboardInterrupt
        raise self._failed(news.child, f"died ({how_it_died(news.status)})")

    def _report(self, saved: Path | None, node: node_pb2.Node | None) -> None:
        context = self._context
        # A mark, not the key's age: a first start that failed half-way has shown nothing yet.
        shown = self._admin_key_file.with_name("admin-key-shown")
        if context.format == "json":
            context.out(
                json_text(
                    {
                        "address": self._address,
                        "home": str(self._home),
                        "node_name": self._name,
                        "admin_key_file": str(self._admin_key_file),
                    }
                )
            )
            context.stdout.flush()
            return
        context.out(f"RiseML is up at {self._address}")
        context.out(f"  state    {self._home}")
        if node is not None:
            context.out(f"  node     {node.name}: {node_summary(node)}")
        if not shown.exists() and self._admin is not None:
            context.out(f"  API key  {self._admin.credentials.api_key}")
            context.out(f"           of {self._admin.credentials.user}, shown this once; also in")
            context.out(f"           {self._admin_key_file}")
        if saved is not None:
            context.out(f"  login    saved for the CLI in {saved}")
        shown.touch()
        context.out("In another terminal: riseml init, riseml train, riseml status.")
        context.out("Ctrl-C stops the cluster; running jobs go on.")
        context.stdout.flush()

    def _after_death(self, ended: Ended) -> float:
        """Tell about it; returns when to start again."""
        if ended.child is self._node and ended.status == _CONFIGURATION_FAULT:
            raise self._failed(ended.child, "cannot run with these settings")
        pause = ended.child.pause_seconds()
        self._context.say(
            f"The {ended.child.name} died ({how_it_died(ended.status)}) and starts again in "
            f"{pause:.1f} s. The end of its log, {ended.child.log}:\n{ended.child.last_words()}"
        )
        return time.monotonic() + pause

    def _start_again(self, child: Child) -> None:
        """Nobody waits for it: it says itself, by dying again, that this did not help."""
        if child is self._control:
            # The port that was picked at first is known to the node and to clients.
            place = self._control.command.index("--listen") + 1
            host, _, _ = self._control.command[place].rpartition(":")
            self._control.command[place] = f"{host}:{self._port}"
            self._launch_control()
        else:
            self._start_node()
        self._context.say(f"The {child.name} was started again.")

    def _failed(self, child: Child, what: str) -> ClusterFailed:
        return ClusterFailed(
            f"The {child.name} {what}. The end of its log, {child.log}:\n{child.last_words()}"
        )

    def _running_count(self) -> int:
        if self._admin is None or not self._was_up or not self._control.is_alive:
            return 0
        try:
            return self._admin.system.info().running_experiment_count
        except RisemlError:
            return 0


def _program(module: str, home: Path) -> list[str]:
    """``-P``: a folder of that name where the user happens to be must not be taken for ours."""
    return [sys.executable, "-P", "-m", module, "--home", str(home)]
