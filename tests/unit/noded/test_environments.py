from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from noded.environments import Environments, environment_key, find_python, named_files, tree_size
from noded.errors import BuildFailed
from noded.trees import TreeFile
from noded.uids import Identity

ME = Identity(os.getuid(), os.getgid(), separate=False)

FILES = {
    "requirements.txt": b"-r more/base.txt\nnumpy\n-e ./package\n",
    "more/base.txt": b"scipy\n-c limits.txt\n",
    "more/limits.txt": b"scipy<2\n",
    "package/setup.py": b"...",
    "train.py": b"print()",
    "setup.sh": b"echo",
}


def tree_of(files: dict[str, bytes]) -> tuple[TreeFile, ...]:
    return tuple(
        TreeFile(path, False, len(content), hashlib.sha256(content).digest())
        for path, content in files.items()
    )


def names(*steps: str) -> list[str]:
    return [f.path for f in named_files(steps, tree_of(FILES), lambda f: FILES[f.path])]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("pip install numpy", []),
        (
            "pip install -r requirements.txt",
            ["more/base.txt", "more/limits.txt", "package/setup.py", "requirements.txt"],
        ),
        ("pip install -rmore/limits.txt", ["more/limits.txt"]),
        ("pip install --requirement=more/limits.txt", ["more/limits.txt"]),
        ("sh ./setup.sh && echo done", ["setup.sh"]),
        ("sh 'setup.sh'", ["setup.sh"]),
        ("pip install ./package[dev]", ["package/setup.py"]),
        ("pip install -e .", sorted(FILES)),
        ("cat ../setup.sh /setup.sh ~/setup.sh", []),
    ],
)
def test_steps_name_files(step: str, expected: list[str]) -> None:
    assert names(step) == expected


def key(files: dict[str, bytes], *steps: str, user: str = "ana", python: str = "p") -> str:
    return environment_key(user, steps, python, tree_of(files), lambda f: files[f.path])


def test_the_key_changes_with_what_matters_only() -> None:
    step = "pip install -r requirements.txt"
    base = key(FILES, step)
    assert base == key({**FILES, "train.py": b"other"}, step)
    assert base == key(dict(reversed(FILES.items())), step)
    assert base != key({**FILES, "more/limits.txt": b"other"}, step)
    assert base != key(FILES, step, "true")
    assert base != key(FILES, step, user="bob")
    assert base != key(FILES, step, python="other")


def test_a_half_made_environment_is_no_environment(tmp_path: Path) -> None:
    environments = Environments(tmp_path, 1 << 30, 1e9)
    environment = environments.named("ana", "k")
    environments.prepare(environment, ME)
    (environment.path / "junk").write_text("x")
    assert environments.built_time(environment) is None
    environments.prepare(environment, ME)
    assert list(environment.path.iterdir()) == []
    environments.complete(environment, ["true"])
    assert environments.built_time(environment) is not None


def test_a_damaged_marker_counts_as_none(tmp_path: Path) -> None:
    environments = Environments(tmp_path, 1 << 30, 1e9)
    environment = environments.named("ana", "k")
    environments.prepare(environment, ME)
    environment.marker.write_bytes(b"")
    assert environments.built_time(environment) is None


def test_the_least_recently_used_goes_first_and_what_is_used_stays(tmp_path: Path) -> None:
    now = 1_000_000.0
    environments = Environments(tmp_path, 250, 1000, wall_clock=lambda: now)
    made = {}
    for age, name in ((2000, "old"), (900, "a"), (800, "b"), (700, "c"), (3000, "used")):
        environment = made[name] = environments.named("ana", name)
        environments.prepare(environment, ME)
        (environment.path / "file").write_bytes(b"x" * 100)
        environments.complete(environment, [])
        os.utime(environment.marker, (now - age, now - age))
    half = environments.named("bob", "half")
    environments.prepare(half, ME)
    gone = environments.collect([made["used"]])
    assert {e.key for e in gone} == {"half", "old", "a"}
    assert made["used"].path.exists() and made["c"].path.exists() and made["b"].path.exists()


def test_sizes_count_files_not_links(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"12345")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert 5 <= tree_size(tmp_path) < 5 + 4096


def test_some_python_is_found_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    assert os.access(find_python("", ME, os.environ["PATH"]), os.X_OK)
    with pytest.raises(BuildFailed, match="/nonexistent/python"):
        find_python("/nonexistent/python", ME, "")


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_an_interpreter_in_a_closed_directory_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    python = tmp_path / "closed" / "python3"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    stranger = Identity(200_999, 200_999, separate=True)
    with pytest.raises(BuildFailed, match="cannot be run by the job's user"):
        find_python(str(python), stranger, "")
    found = find_python("", stranger, f"{tmp_path}/closed:/usr/bin:/usr/local/bin")
    assert not found.startswith(str(tmp_path))
