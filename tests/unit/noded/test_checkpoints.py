"""Checkpoints are found by names and times, with bounded effort, and told once each."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from noded.checkpoints import Checkpoints, LiveOutput, looks_like_checkpoint, newest_checkpoint


@pytest.mark.parametrize(
    "name",
    [
        *("model.pt", "last.ckpt", "best.PTH", "model.safetensors", "weights.h5", "model.keras"),
        *("state.msgpack", "forest.joblib", "params.npz", "pytorch_model.bin"),
        *("pytorch_model-00001-of-00002.bin", "checkpoint", "checkpoint-500", "checkpoint_12"),
        *("ckpt_3", "model.ckpt-100.index", "step_1000", "global_step500", "epoch=3-step=9.ckpt"),
        *("epoch_7", "iter_0000100", "iteration-5", "step100"),
    ],
)
def test_what_frameworks_write_is_a_checkpoint(name: str) -> None:
    assert looks_like_checkpoint(name)


@pytest.mark.parametrize(
    "name",
    [
        *("metrics.csv", "train.log", "events.out.tfevents.1", "step_times.csv", "epoch_losses"),
        *("checkpoint-500.tmp", "model.pt.partial", "checkpoints.txt", "riseml-configuration.yml"),
        *("report.pdf", "stepwise", "part.ptx", "iterator"),
    ],
)
def test_what_else_jobs_write_is_none(name: str) -> None:
    assert not looks_like_checkpoint(name)


def write(path: Path, when: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (when, when))


def test_the_newest_of_all_levels_counts(tmp_path: Path) -> None:
    write(tmp_path / "a.pt", 100.0)
    write(tmp_path / "deep" / "er" / "b.pt", 300.0)
    write(tmp_path / "notes.log", 400.0)
    assert newest_checkpoint(str(tmp_path), 50.0, 1000.0) == 300.0
    assert newest_checkpoint(str(tmp_path), 50.0, 299.0) == 100.0
    assert newest_checkpoint(str(tmp_path), 300.0, 1000.0) is None


def test_a_folder_that_grows_is_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-500"
    write(folder / "shard-0", 200.0)
    os.utime(folder, (210.0, 210.0))
    assert newest_checkpoint(str(tmp_path), 0.0, 1000.0) == 210.0


def test_links_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "a.pt", 500.0)
    output = tmp_path / "output"
    output.mkdir()
    (output / "in").symlink_to(tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere" / "a.pt", output / "b.pt")
    os.utime(output / "b.pt", (90.0, 90.0), follow_symlinks=False)
    assert newest_checkpoint(str(output), 0.0, 1000.0) == 90.0


def test_a_look_is_bounded(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / "many" / f"{number}.json", 10.0)
    write(tmp_path / "many" / "more" / "a.pt", 500.0)
    assert newest_checkpoint(str(tmp_path), 0.0, 1000.0, most_entries=100) == 500.0
    assert newest_checkpoint(str(tmp_path), 0.0, 1000.0, most_entries=30) is None


def test_an_output_that_is_gone_has_none(tmp_path: Path) -> None:
    assert newest_checkpoint(str(tmp_path / "gone"), 0.0, 1000.0) is None


async def eventually(condition: Callable[[], bool]) -> None:
    """For what nobody tells us of: looks until it holds."""
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def test_each_new_checkpoint_is_told_once(tmp_path: Path) -> None:
    began = time.time() - 100
    write(tmp_path / "from-before.pt", began - 50)
    outputs = [LiveOutput("ana.1.train.1-1", str(tmp_path), began)]
    told: list[tuple[str, float]] = []
    watch = Checkpoints(
        lambda: outputs, lambda *seen: told.append(seen), look_seconds=0.02, settled_seconds=1.0
    )
    task = asyncio.ensure_future(watch.run())
    try:
        write(tmp_path / "a.pt", began + 10)
        await eventually(lambda: len(told) == 1)
        write(tmp_path / "being-written.pt", time.time() + 3600)
        write(tmp_path / "b.pt", began + 20)
        await eventually(lambda: len(told) == 2)
        assert told == [("ana.1.train.1-1", began + 10), ("ana.1.train.1-1", began + 20)]
        assert watch.seen() == [told[-1]]
        outputs.clear()
        await eventually(lambda: not watch.seen())
    finally:
        task.cancel()
        await asyncio.wait([task])
