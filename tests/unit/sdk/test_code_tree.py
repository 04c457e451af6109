"""Which files are code, and what is refused."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from riseml.code_tree import HashCache, Limits, hash_tree, list_tree
from riseml.errors import SyncError


def write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def paths(root: Path) -> list[str]:
    return [file.path for file in list_tree(root)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    made.mkdir()
    return made


def test_files_come_sorted_with_sizes_and_execute_bits(root: Path) -> None:
    write(root, {"b.py": "12", "a/z.py": "1", "a.txt": ""})
    (root / "b.py").chmod(0o755)
    found = list_tree(root)
    assert [f.path for f in found] == sorted(["b.py", "a/z.py", "a.txt"])
    assert [(f.size_bytes, f.executable) for f in found if f.path == "b.py"] == [(2, True)]


def test_git_folder_is_never_sent_even_if_it_is_asked_for(root: Path) -> None:
    write(root, {".git/config": "x", "sub/.git": "gitdir", ".risemlignore": "!.git\n", "a": ""})
    assert paths(root) == [".risemlignore", "a"]


def test_ignore_files_count_at_every_level(root: Path) -> None:
    write(
        root,
        {
            ".gitignore": "*.log\nbuild/\n/only-top\n",
            "a.log": "",
            "build/x": "",
            "only-top": "",
            "sub/only-top": "",
            "sub/b.log": "",
            "sub/.gitignore": "!b.log\nlocal\n",
            "sub/local": "",
            "sub/deep/local": "",
            "local": "",
        },
    )
    assert paths(root) == [".gitignore", "local", "sub/.gitignore", "sub/b.log", "sub/only-top"]


def test_risemlignore_comes_after_gitignore(root: Path) -> None:
    write(
        root, {".gitignore": "data\n", ".risemlignore": "!data\nnotes\n", "data": "", "notes": ""}
    )
    assert paths(root) == [".gitignore", ".risemlignore", "data"]


def test_rules_above_count_up_to_the_root_of_the_repository(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".gitignore": "*.tmp\n",
            "repo/.git/HEAD": "",
            "repo/.gitignore": "*.pyc\n/examples/one/secret\n",
            "repo/examples/one/train.py": "",
            "repo/examples/one/train.pyc": "",
            "repo/examples/one/secret": "",
            "repo/examples/one/x.tmp": "",
        },
    )
    assert paths(tmp_path / "repo" / "examples" / "one") == ["train.py", "x.tmp"]


def test_same_files_as_git_itself_would_take(root: Path) -> None:
    write(
        root,
        {
            ".gitignore": "# note\n*.o\n!keep.o\n/top\nfoo/**/bar\nq?z\n[ab].txt\ndir/\n\\!odd\n",
            "x.o": "",
            "keep.o": "",
            "top": "",
            "n/top": "",
            "foo/1/2/bar": "",
            "foo/baz": "",
            "qaz": "",
            "a.txt": "",
            "c.txt": "",
            "dir/x": "",
            "n/dir/x": "",
            "n/dirt": "",
            "!odd": "",
        },
    )
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert paths(root) == sorted(listed.split("\0")[:-1])


def test_link_that_leaves_the_tree_is_refused_with_its_target(root: Path) -> None:
    (root / "data").symlink_to("/etc")
    with pytest.raises(SyncError, match=r"data: .*leaves the project \(to /etc\)"):
        list_tree(root)


def test_link_inside_the_tree_is_refused_with_what_to_do(root: Path) -> None:
    write(root, {"a": ""})
    (root / "b").symlink_to("a")
    with pytest.raises(SyncError, match=r"b: is a symbolic link to a.*\.risemlignore"):
        list_tree(root)


def test_ignored_links_do_no_harm(root: Path) -> None:
    write(root, {".risemlignore": "venv/\nlink\n", "a": ""})
    (root / "venv").mkdir()
    (root / "venv" / "python").symlink_to("/usr/bin/python3")
    (root / "link").symlink_to("/etc")
    assert paths(root) == [".risemlignore", "a"]


def test_special_files_are_refused(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "socket"))
        with pytest.raises(SyncError) as caught:
            list_tree(root)
    assert "pipe: is no regular file" in caught.value.message
    assert "socket: is no regular file" in caught.value.message


@pytest.mark.parametrize("name", [b"\xff", b"a\nb"])
def test_names_that_cannot_travel_are_refused(root: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/" + name)).touch()
    with pytest.raises(SyncError, match="Rename it"):
        list_tree(root)


def test_many_problems_are_told_at_once_but_not_all(root: Path) -> None:
    for number in range(9):
        (root / f"l{number}").symlink_to("/etc")
    with pytest.raises(SyncError, match="and 4 more"):
        list_tree(root)


def test_too_large_files_are_named(root: Path) -> None:
    write(root, {"small": "1", "big": "12345678", "huge": "1234567890"})
    with pytest.raises(SyncError) as caught:
        list_tree(root, Limits(max_file_bytes=5))
    message = caught.value.message
    assert message.index("huge") < message.index("big") and "small" not in message


def test_too_large_tree_names_its_biggest_files(root: Path) -> None:
    write(root, {"small": "1", "big": "123456789"})
    with pytest.raises(SyncError, match="10B, and 5B is the limit") as caught:
        list_tree(root, Limits(max_total_bytes=5))
    assert "big" in caught.value.message


def test_too_many_files_name_the_fullest_folder(root: Path) -> None:
    write(root, {f"data/{n}": "" for n in range(7)} | {"a": ""})
    with pytest.raises(SyncError, match=r"7 +data/"):
        list_tree(root, Limits(max_files=5))


def hashes(root: Path, cache: HashCache) -> list[bytes]:
    return [item.sha256 for item in hash_tree(root, list_tree(root), cache)]


def test_unchanged_files_are_not_read_again(root: Path, tmp_path: Path) -> None:
    write(root, {"a": "one", "b": "two"})
    later = max(os.stat(root / n).st_ctime_ns for n in "ab") + 10_000_000_000
    first = HashCache(tmp_path / "cache", root, lambda: later)
    expected = hashes(root, first)
    first.save()
    again = HashCache(tmp_path / "cache", root, lambda: later)
    files = list_tree(root)
    assert [again.find(file) for file in files] == expected


def test_changed_file_is_read_again(root: Path, tmp_path: Path) -> None:
    write(root, {"a": "one"})
    later = os.stat(root / "a").st_ctime_ns + 10_000_000_000
    first = HashCache(tmp_path / "cache", root, lambda: later)
    before = hashes(root, first)
    first.save()
    status = os.stat(root / "a")
    (root / "a").write_text("two")
    os.utime(root / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    again = HashCache(tmp_path / "cache", root, lambda: later)
    assert hashes(root, again) != before


def test_file_that_may_still_change_unseen_is_not_remembered(root: Path, tmp_path: Path) -> None:
    write(root, {"a": "one"})
    cache = HashCache(tmp_path / "cache", root)
    hashes(root, cache)
    cache.save()
    assert HashCache(tmp_path / "cache", root).find(list_tree(root)[0]) is None


@pytest.mark.parametrize("content", ["", "[]", '{"a": 5}', '{"a": [1, 2, 3, 4, "zz"]}'])
def test_damaged_cache_only_costs_time(root: Path, tmp_path: Path, content: str) -> None:
    write(root, {"a": "one"})
    later = os.stat(root / "a").st_ctime_ns + 10_000_000_000
    cache = HashCache(tmp_path / "cache", root, lambda: later)
    expected = hashes(root, cache)
    cache.save()
    file = next((tmp_path / "cache" / "hashes").iterdir())
    file.write_text(content)
    assert hashes(root, HashCache(tmp_path / "cache", root, lambda: later)) == expected
