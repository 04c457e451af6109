"""A revision's files in a directory that is mounted, is not ours to replace, and may be small.

Content arrives in a hidden folder of the same file system and is renamed from there, so it needs
no more room than the files themselves. The folder's name is one that no revision's path may have.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from noded.blobs import BlobFolder, clone_or_copy
from noded.trees import TreeFile
from riseml.files.paths import partial_name


class Checkout:
    """One tree on its way into `target`. All methods block, and raise OSError as the disk does."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._staging = target / partial_name("code")
        self.blobs = BlobFolder(self._staging)

    def begin(self) -> None:
        """Makes the hidden folder. What another start of this container left may be torn."""
        self._remove_staging()
        self._staging.mkdir(mode=0o700)

    def lay_out(self, tree: Collection[TreeFile]) -> None:
        """Puts all files, whose content is here, into their places; others there stay.

        Modes have group bits like the owner's: the job may run under another uid than this program
        and share the group of the pod's volumes (`fsGroup`).
        """
        uses = Counter(file.sha256 for file in tree)
        made = {""}
        for file in tree:
            self._make_parents(file.path, made)
            uses[file.sha256] -= 1
            blob = self.blobs.path(file.sha256)
            source = self._copy(blob, file.size_bytes) if uses[file.sha256] else blob
            os.chmod(source, 0o775 if file.executable else 0o664)
            os.rename(source, self._target / file.path)
        self._remove_staging()

    def _make_parents(self, path: str, made: set[str]) -> None:
        parent = path.rpartition("/")[0]
        if parent in made:
            return
        self._make_parents(parent, made)
        directory = self._target / parent
        try:
            os.mkdir(directory, 0o775)
        except FileExistsError:
            # A link would lead somewhere else.
            if not stat.S_ISDIR(os.lstat(directory).st_mode):
                raise
        made.add(parent)

    def _copy(self, blob: str, size_bytes: int) -> str:
        copy = f"{self._staging}/copy"
        with open(blob, "rb") as source, open(copy, "xb") as target:
            clone_or_copy(source.fileno(), target.fileno(), size_bytes)
        return copy

    def _remove_staging(self) -> None:
        try:
            shutil.rmtree(self._staging)
        except FileNotFoundError:
            return
