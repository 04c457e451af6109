"""The names that completion offers, asked for in the background and never while a key is
pressed.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable

from riseml.errors import RisemlError
from riseml.states import state_name
from riseml.v1 import node_pb2
from shell.completion import Known
from shell.context import Context
from shell.nodes import node_state

REFRESH_SECONDS = 20.0
_MOST = 200


class KnownNames:
    """Holds the newest answer; ``refresh_soon`` after a command that may have changed something."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._wake = threading.Event()
        self._stopped = False
        self.now = Known()

    def start(self) -> None:
        """Ask in a thread from now on."""
        threading.Thread(target=self._keep_fresh, daemon=True).start()

    def stop(self) -> None:
        """End the thread at its next turn."""
        self._stopped = True
        self._wake.set()

    def refresh_soon(self) -> None:
        """Ask now."""
        self._wake.set()

    def _keep_fresh(self) -> None:
        while not self._stopped:
            try:
                self.now = ask(self._context)
            except (RisemlError, ValueError):
                # No server, or the connection was closed under us: the old names go on to serve.
                self.now = Known(server=self.now.server, user=self.now.user)
            self._wake.wait(REFRESH_SECONDS)
            self._wake.clear()


def ask(context: Context) -> Known:
    """What the cluster holds now. Raises RisemlError."""
    client = context.client
    caller = client.users.caller()
    own = f"{caller.name}."
    experiments = tuple(
        (experiment.id.removeprefix(own), f"{experiment.project} {state_name(experiment.state)}")
        for experiment in itertools.islice(client.experiments.list(page_size=_MOST), _MOST)
    )
    every_node = list(client.nodes.list())
    nodes = tuple((node.name, node_state(node)) for node in every_node)
    taints = _taints(every_node)
    queues = tuple((queue.name, f"weight {queue.weight}") for queue in client.queues.list())
    users: tuple[tuple[str, str], ...] = ((caller.name, ""),)
    if caller.admin:
        users = tuple((user.name, user.email) for user in client.users.list())
    projects = tuple((project.name, "") for project in client.projects.list())
    return Known(
        experiments,
        nodes,
        taints,
        queues,
        users=users,
        projects=projects,
        user=caller.name,
        server=client.credentials.server,
    )


def _taints(nodes: Iterable[node_pb2.Node]) -> tuple[tuple[str, str], ...]:
    """Keys of taints, each with the nodes that have it."""
    bearers: dict[str, list[str]] = {}
    for node in nodes:
        for taint in node.taints:
            bearers.setdefault(taint.key, []).append(node.name)
    return tuple((key, f"of {', '.join(names)}") for key, names in sorted(bearers.items()))
