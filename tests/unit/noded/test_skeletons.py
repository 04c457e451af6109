from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from noded.skeletons import Skeletons, output_skeleton
from noded.uids import Identity

ME = Identity(os.getuid(), os.getgid(), separate=False)


async def test_a_directory_that_another_daemon_made_meanwhile_is_left_as_it_is(
    tmp_path: Path,
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "theirs").touch()
    with ThreadPoolExecutor(1) as threads:
        skeletons = Skeletons(tmp_path / "prepared", output_skeleton, threads)
        with pytest.raises(OSError, match="not empty"):
            async with asyncio.timeout(10):
                while not skeletons.take(str(target), ME):
                    await asyncio.sleep(0.001)
    assert [entry.name for entry in target.iterdir()] == ["theirs"]
