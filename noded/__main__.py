"""riseml-noded: wires the daemon up and runs it until it is told to stop. Jobs go on without it."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

# Before grpc is imported: shims are started by posix_spawn, and grpc's fork handlers would only
# cost time.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from noded.config import Config, load
from noded.errors import ConfigError, NodedError
from noded.kubelet.settings import FLAG as OBSERVER_FLAG
from noded.kubelet.settings import ObserverSettings
from noded.kubelet.settings import load as load_observer

if TYPE_CHECKING:
    from noded.daemon import Daemon
    from noded.kubelet.observer import Observer

log = logging.getLogger("noded")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 after a clean stop, 2 for what it was given, 1 when the control plane refuses it for
    good."""
    given = sys.argv[1:] if arguments is None else arguments
    config: Config | ObserverSettings
    try:
        config = (
            load_observer(given, os.environ) if OBSERVER_FLAG in given else load(given, os.environ)
        )
    except ConfigError as error:
        sys.stderr.write(f"riseml-noded: {error}\n")
        return 2
    logging.basicConfig(
        level=logging.DEBUG if config.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        asyncio.run(_run(config))
    except ConfigError as error:
        return _complain(error, 2, config.debug)
    except NodedError as error:
        return _complain(error, 1, config.debug)
    return 0


def _complain(error: NodedError, code: int, debug: bool) -> int:
    if debug:
        log.exception("stopped")
    sys.stderr.write(f"riseml-noded: {error}\n")
    return code


async def _run(config: Config | ObserverSettings) -> None:
    # Here, so that --help and refusals cost nothing.
    daemon: Daemon | Observer
    if isinstance(config, ObserverSettings):
        from noded.kubelet.observer import Observer

        daemon = Observer(config)
    else:
        from noded.daemon import Daemon

        daemon = Daemon(config)
    task = asyncio.ensure_future(daemon.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, functools.partial(_stop, task, number))
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped; jobs go on under their shims")
    finally:
        await daemon.close()


def _stop(task: asyncio.Future[None], number: int) -> None:
    log.info("told to stop by %s", signal.Signals(number).name)
    task.cancel()


if __name__ == "__main__":
    sys.exit(main())
