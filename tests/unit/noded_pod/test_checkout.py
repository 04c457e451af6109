"""Files come into their places whole, with their modes, and never outside of the target."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from noded.pod.checkout import Checkout
from noded.trees import TreeFile


def checkout_with(target: Path, files: dict[str, bytes]) -> tuple[Checkout, list[TreeFile]]:
    """A checkout that all content has arrived in."""
    checkout = Checkout(target)
    checkout.begin()
    tree = []
    for path, content in files.items():
        sha256 = hashlib.sha256(content).digest()
        Path(checkout.blobs.path(sha256)).write_bytes(content)
        tree.append(TreeFile(path, path.endswith(".sh"), len(content), sha256))
    return checkout, tree


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_of_equal_content_are_files_of_their_own(tmp_path: Path) -> None:
    files = {"a.sh": b"same", "b/c": b"same", "b/d/e": b"same", "empty": b"", "b/empty": b""}
    checkout, tree = checkout_with(tmp_path, files)
    checkout.lay_out(tree)
    found = {str(p.relative_to(tmp_path)): p for p in tmp_path.rglob("*") if p.is_file()}
    assert {path: p.read_bytes() for path, p in found.items()} == files
    assert mode(tmp_path / "a.sh") == 0o775
    assert mode(tmp_path / "b" / "c") == 0o664
    assert all(p.stat().st_nlink == 1 for p in found.values())


def test_it_can_be_done_again_over_what_an_earlier_start_left(tmp_path: Path) -> None:
    checkout, tree = checkout_with(tmp_path, {"a": b"old", "b/c": b"old too"})
    checkout.lay_out(tree)
    torn = Checkout(tmp_path)
    torn.begin()
    Path(torn.blobs.path(bytes(32))).write_bytes(b"half")
    checkout, tree = checkout_with(tmp_path, {"a": b"new", "b/c": b"new too"})
    checkout.lay_out(tree)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert (tmp_path / "b" / "c").read_bytes() == b"new too"


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "folder").symlink_to(outside)
    (target / "file").symlink_to(outside / "file")
    checkout, tree = checkout_with(target, {"file": b"content", "folder/x": b"other"})
    with pytest.raises(FileExistsError):
        checkout.lay_out(tree)
    assert (target / "file").read_bytes() == b"content"
    assert not os.listdir(outside)
