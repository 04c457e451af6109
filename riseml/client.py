"""The typed client: every call of the users' API as a method, with the contract's messages as
answers.

    from riseml.client import connect

    with connect() as client:
        for experiment in client.experiments.list():
            print(experiment.id, experiment.state)

Synchronous and safe to use from several threads. Lists page by themselves. Everything raises
RisemlError (``riseml.errors``). Ids may leave out the caller's own name: ``17`` is ``ana.17``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from riseml import credentials as stored
from riseml.cluster_calls import Nodes, Queues, Results, Storage, System, Telemetry
from riseml.credentials import Credentials
from riseml.scheduler_calls import Scheduler
from riseml.transport import Transport
from riseml.work_calls import Experiments, Logs, Projects, Users, new_request_id

__all__ = ["EVERYBODY", "Client", "connect", "new_request_id"]

EVERYBODY: Final = "*"
"""As a user's name in lists: everybody's."""


def connect(environ: Mapping[str, str] = os.environ, *, server: str = "") -> Client:
    """A client with the stored credentials or those of RISEML_SERVER and RISEML_API_KEY.

    Raises NotLoggedIn. Nothing is sent before the first call.
    """
    return Client(stored.load(environ, server=server))


class Client:
    """One connection as one user; its parts are named after the contract's services."""

    def __init__(self, credentials: Credentials, transport: Transport | None = None) -> None:
        self.credentials = credentials
        self.transport = transport or Transport(credentials)
        self.users = Users(self.transport)
        self.projects = Projects(self.transport)
        self.experiments = Experiments(self.transport)
        self.logs = Logs(self.transport)
        self.scheduler = Scheduler(self.transport)
        self.nodes = Nodes(self.transport)
        self.queues = Queues(self.transport)
        self.telemetry = Telemetry(self.transport)
        self.storage = Storage(self.transport)
        self.results = Results(self.transport)
        self.system = System(self.transport)

    def close(self) -> None:
        """End all calls and the connection."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
