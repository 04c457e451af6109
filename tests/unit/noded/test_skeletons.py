from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from noded.skeletons import Skeletons, output_skeleton
from noded.uids import Identity

ME = Identity(os.getuid(), os.getgid(), separate=False)


class AtOnce(Executor):
    """Does what it is told when it is told, and says so."""

    def __init__(self) -> None:
        self.done = asyncio.Event()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **rest: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **rest))
        self.done.set()
        return future


async def test_a_directory_that_another_daemon_made_meanwhile_is_left_as_it_is(
    tmp_path: Path,
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "theirs").touch()
    executor = AtOnce()
    skeletons = Skeletons(tmp_path / "prepared", output_skeleton, executor)
    await executor.done.wait()
    with pytest.raises(OSError, match="not empty"):
        skeletons.take(str(target), ME)
    assert os.listdir(target) == ["theirs"]


async def test_what_cannot_be_completed_is_not_put_in_place(tmp_path: Path) -> None:
    def full(path: str) -> None:
        raise OSError(28, "No space left on device", path)

    executor = AtOnce()
    skeletons = Skeletons(tmp_path / "prepared", output_skeleton, executor)
    await executor.done.wait()
    with pytest.raises(OSError, match="No space"):
        skeletons.take(str(tmp_path / "target"), ME, fill=full)
    assert not (tmp_path / "target").exists()
    assert skeletons.take(str(tmp_path / "target"), ME)
