"""riseml-fetch-code: the init container of a pod. Puts the job's code, the SDK and
riseml-configuration.yml where the job will look for them, and ends.

It is told everything by variables (see `FetchSettings`). The last line on stderr says why it failed
and the exit code which kind of failure it was (`FetchExit`). Only the directories it is given are
written.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from noded.blobs import disk_error
from noded.errors import (
    ConfigError,
    CredentialRefused,
    NodedError,
    NoSpaceLeft,
    RevisionRefused,
)
from noded.pod.checkout import Checkout
from noded.pod.fetching import Fetching, Unreachable, megabytes
from noded.pod.settings import FetchSettings, read_settings
from noded.sdk import install_sdk
from riseml.files.area import FileArea
from riseml.files.errors import FileAreaError, NoSpace
from riseml.files.paths import partial_name
from riseml.spec.code_fetch import FetchExit

CHANNEL_OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # The largest message is a manifest of 50,000 files.
    ("grpc.max_receive_message_length", 16 << 20),
    # A control plane that is back is found soon: gRPC's own waits grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # For how long it tries to connect, in spite of the name.
    ("grpc.min_reconnect_backoff_ms", 10_000),
)


def main() -> int:
    """Entry point; returns a FetchExit."""
    # The group may write what the owner may: see Checkout.lay_out.
    os.umask(0o002)
    try:
        asyncio.run(_fetch_or_stop(read_settings(os.environ)))
    except ConfigError as error:
        return _end(FetchExit.WRONG_ENVIRONMENT, str(error))
    except asyncio.CancelledError:
        return _end(FetchExit.STOPPED, "stopped")
    except CredentialRefused as error:
        return _end(FetchExit.TOKEN_REFUSED, f"the job's token is refused: {error}")
    except RevisionRefused as error:
        return _end(FetchExit.REVISION_GONE, str(error))
    except Unreachable as error:
        return _end(FetchExit.UNREACHABLE, str(error))
    except NoSpaceLeft as error:
        return _end(FetchExit.NO_SPACE, str(error))
    except NodedError as error:
        return _end(FetchExit.NOT_WRITTEN, str(error))
    return FetchExit.DONE


def say(text: str) -> None:
    """One line for whoever reads the container's log."""
    sys.stderr.write(f"riseml-fetch-code: {text}\n")
    sys.stderr.flush()


def _end(code: FetchExit, text: str) -> FetchExit:
    # One line, whatever the text holds: it becomes the container's termination message.
    say(" ".join(text.split()))
    return code


async def _fetch_or_stop(settings: FetchSettings) -> None:
    """As the first process of its container it would not even notice SIGTERM without a handler."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    if settings.revision_id:
        await _fetch(settings)
    try:
        install_sdk(settings.run_directory / "sdk")
        if settings.output_directory is not None:
            _write_output(settings, settings.output_directory)
    except OSError as error:
        raise disk_error(error) from error


async def _fetch(settings: FetchSettings) -> None:
    # Here, so that a job without code and a wrong variable cost nothing.
    from noded.revision_source import GrpcRevisionSource
    from noded.tls import make_channel
    from riseml.v1.daemon_service_pb2_grpc import DaemonServiceStub

    started = time.monotonic()
    channel = make_channel(settings.server, settings.ca_pem, CHANNEL_OPTIONS)
    source = GrpcRevisionSource()
    metadata = (("authorization", f"Bearer {settings.token}"),)
    serving = asyncio.create_task(source.serve(DaemonServiceStub(channel), metadata))
    try:
        checkout = Checkout(settings.code_directory)
        fetching = Fetching(source, checkout, settings.deadline_seconds, say)
        tree = await fetching.fetch(settings.revision_id, settings.attempt_id)
    finally:
        serving.cancel()
        await channel.close()
    size = megabytes(sum(file.size_bytes for file in tree))
    seconds = time.monotonic() - started
    say(f"the code is in place after {seconds:.1f} s: files {len(tree)}, {size}")


def _write_output(settings: FetchSettings, root: Path) -> None:
    directory = root
    if settings.output_path:
        # Jobs of others write below the same root: nothing on the way may be a link.
        try:
            os.close(FileArea(root).make_directories(settings.output_path, 0o775))
        except NoSpace as error:
            raise NoSpaceLeft(str(error)) from error
        except FileAreaError as error:
            raise NodedError(f"the job's output folder cannot be made: {error}") from error
        directory = root / settings.output_path
    if settings.configuration:
        _write_configuration(settings, directory)


def _write_configuration(settings: FetchSettings, directory: Path) -> None:
    """Whole or not at all: members of a gang share the directory and write the same at once."""
    # Here, for it brings a reader of YAML along.
    from riseml.spec.configuration import FILE_NAME

    temporary = directory / partial_name(settings.attempt_id)
    temporary.unlink(missing_ok=True)
    with open(temporary, "x", encoding="utf-8") as file:
        file.write(settings.configuration)
    os.chmod(temporary, 0o664)
    os.rename(temporary, directory / FILE_NAME)


if __name__ == "__main__":
    sys.exit(main())
