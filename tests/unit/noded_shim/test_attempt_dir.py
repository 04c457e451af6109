from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from noded.attempt_dir import (
    BOOT_ID_NOTE,
    AttemptDir,
    AttemptExists,
    AttemptState,
    boot_id,
    list_attempts,
)
from noded.errors import NoSpaceLeft, StartFailed
from noded.files import LocalFiles
from noded.shim.spec import Spec

RUNNING = (
    "riseml-status 1\nattempt a-1\nstate running\nshim_pid 1\nshim_start_ticks 1\npid 2\n"
    "start_ticks 2\nexec_ns 3\nend\n"
)
EXITED = RUNNING.replace("running", "exited").replace("end\n", "exit_code 4\nend\n")


class FailingFiles(LocalFiles):
    """The disk refuses from the n-th operation on."""

    def __init__(self, good: int, error: int) -> None:
        self._good = good
        self._error = error

    def _step(self) -> None:
        self._good -= 1
        if self._good < 0:
            raise OSError(self._error, os.strerror(self._error))

    def make_directory(self, path: str, mode: int) -> None:
        self._step()
        super().make_directory(path, mode)

    def write_new(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        self._step()
        super().write_new(path, data, mode=mode)


def intended(root: Path, boot: str = "") -> AttemptDir:
    directory = AttemptDir(str(root / "a-1"))
    directory.make()
    notes = {BOOT_ID_NOTE: boot or boot_id()}
    spec = Spec(attempt_id="a-1", argv=("true",), env={}, cwd="/", grace_ms=1, notes=notes)
    directory.intend(spec)
    return directory


def test_an_intent_without_a_start_can_never_start_later(tmp_path: Path) -> None:
    directory = intended(tmp_path)
    assert directory.observe(boot_id()).state is AttemptState.NEVER_STARTED
    assert not os.path.exists(directory.path + "/spec")
    assert directory.observe(boot_id()).state is AttemptState.NEVER_STARTED


def test_a_held_lock_means_a_living_shim(tmp_path: Path) -> None:
    directory = intended(tmp_path)
    with open(directory.path + "/spec", "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert directory.observe(boot_id()).state is AttemptState.STARTING
        Path(directory.path, "status").write_text(RUNNING)
        assert directory.observe(boot_id()).state is AttemptState.RUNNING
    seen = directory.observe(boot_id())
    assert seen.state is AttemptState.VANISHED
    assert "killed while it ran" in seen.message


def test_a_shim_that_ended_before_it_could_tell_has_vanished(tmp_path: Path) -> None:
    directory = intended(tmp_path)
    Path(directory.log_directory, f"{0:020d}.log").touch()
    assert directory.observe(boot_id()).state is AttemptState.VANISHED


def test_a_reboot_is_told_from_a_killed_shim(tmp_path: Path) -> None:
    directory = intended(tmp_path, boot="another boot")
    Path(directory.path, "status").write_text(RUNNING)
    seen = directory.observe(boot_id())
    assert (seen.state, seen.message) == (
        AttemptState.VANISHED,
        "the node was restarted while it ran",
    )


def test_a_recorded_end_counts_after_any_reboot(tmp_path: Path) -> None:
    directory = intended(tmp_path, boot="another boot")
    Path(directory.path, "status").write_text(RUNNING + EXITED)
    seen = directory.observe(boot_id())
    assert seen.state is AttemptState.EXITED
    assert seen.status is not None and seen.status.exit_code == 4


def test_an_attempt_is_never_intended_twice(tmp_path: Path) -> None:
    directory = intended(tmp_path)
    spec = Spec(attempt_id="a-1", argv=("true",), env={}, cwd="/", grace_ms=1)
    with pytest.raises(AttemptExists):
        directory.intend(spec)
    os.unlink(directory.path + "/spec")
    Path(directory.path, "status").write_text(EXITED)
    with pytest.raises(AttemptExists):
        directory.intend(spec)


@pytest.mark.parametrize("good", range(5))
def test_a_full_disk_is_a_clear_error_wherever_it_strikes(tmp_path: Path, good: int) -> None:
    directory = AttemptDir(str(tmp_path / "a-1"), FailingFiles(good, errno.ENOSPC))
    spec = Spec(attempt_id="a-1", argv=("true",), env={}, cwd="/", grace_ms=1)
    with pytest.raises(NoSpaceLeft, match="no space left"):
        directory.make()
        directory.intend(spec)
    assert directory.observe(boot_id()).state is AttemptState.NEVER_STARTED
    later = AttemptDir(directory.path)
    later.make()
    later.intend(spec)


def test_a_broken_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="Input/output error"):
        AttemptDir(str(tmp_path / "a-1"), FailingFiles(0, errno.EIO)).make()


def test_the_log_keeps_its_length_when_segments_go(tmp_path: Path) -> None:
    directory = intended(tmp_path)
    assert directory.log_size() == 0
    Path(directory.log_directory, f"{1000:020d}.log").write_bytes(b"x" * 24)
    assert directory.log_size() == 1024


def test_attempts_are_listed_by_name(tmp_path: Path) -> None:
    intended(tmp_path)
    AttemptDir(str(tmp_path / "a-0")).make()
    assert [directory.attempt_id for directory in list_attempts(str(tmp_path))] == ["a-0", "a-1"]
    assert list_attempts(str(tmp_path / "none")) == []
