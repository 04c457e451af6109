"""Lets tests stop parts of the cluster and start them again.

The cluster's first process listens on a socket whose path stands in RISEML_E2E_CONTROL; a request
is one line, ``stop kubelet`` or ``start kubelet``, and so is its answer: ``ok``, or what went
wrong.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Final, Protocol

CONTROL: Final = "RISEML_E2E_CONTROL"
ANSWER_SECONDS: Final = 150.0


class Stoppable(Protocol):
    """The parts by their names."""

    def stop(self, name: str) -> None: ...

    def again(self, name: str) -> None: ...


def serve_control(parts: Stoppable, path: Path) -> None:
    """Until the process ends."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    threading.Thread(target=_serve, args=(parts, listener), daemon=True).start()


def _serve(parts: Stoppable, listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rw") as stream:
            verb, _, name = stream.readline().strip().partition(" ")
            try:
                {"stop": parts.stop, "start": parts.again}[verb](name)
                answer = "ok"
            except Exception as fault:
                answer = f"{verb} {name}: {type(fault).__name__}: {fault}"
            stream.write(" ".join(answer.split()) + "\n")


def ask(path: str, request: str) -> None:
    """Sends a request and waits until it is done. Raises AssertionError with what went wrong."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(path)
        with connection.makefile("rw") as stream:
            stream.write(request + "\n")
            stream.flush()
            answer = stream.readline().strip()
    assert answer == "ok", answer
