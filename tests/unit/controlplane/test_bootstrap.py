"""What the first start makes, and what later starts keep of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane import config
from controlplane.bootstrap import job_token_key, write_embedded_token
from controlplane.domain.errors import FailedPrecondition
from controlplane.launch.daemon import DaemonLauncher
from controlplane.runtime import Runtime
from controlplane.scheduler.cycle import schedule
from controlplane.store.memory import MemoryStore


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    made = Runtime(MemoryStore(), DaemonLauncher(), schedule)
    task = asyncio.create_task(made.run())
    yield made
    made.stop()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def written(home: Path) -> dict[str, str | None]:
    content: dict[str, str | None] = json.loads((home / "node" / "vm" / "token").read_text())
    return content


async def test_embedded_node_keeps_its_token_and_learns_whether_there_is_tls(
    runtime: Runtime, tmp_path: Path
) -> None:
    settings = config.parse(["--home", str(tmp_path), "--embedded-node", "vm"])
    await write_embedded_token(runtime, settings, b"an authority")
    first = written(tmp_path)
    assert first["ca_pem"] == "an authority"
    await write_embedded_token(runtime, settings, b"")
    assert written(tmp_path) == first | {"ca_pem": None}
    await write_embedded_token(runtime, settings, b"another")
    assert written(tmp_path) == first | {"ca_pem": "another"}


def test_the_key_of_job_tokens_is_made_once_and_is_private(tmp_path: Path) -> None:
    settings = config.parse(["--home", str(tmp_path)])
    settings.control.mkdir()
    key = job_token_key(settings)
    assert job_token_key(settings) == key
    path = settings.control / "job-token-key"
    assert path.read_bytes() == key and path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    assert job_token_key(settings) != key


def test_a_damaged_key_of_job_tokens_is_not_replaced_in_silence(tmp_path: Path) -> None:
    settings = config.parse(["--home", str(tmp_path)])
    settings.control.mkdir()
    (settings.control / "job-token-key").write_bytes(b"short")
    with pytest.raises(FailedPrecondition, match="damaged"):
        job_token_key(settings)
