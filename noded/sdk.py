"""What `import riseml` needs inside a job, apart from everything else that is installed here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import riseml

_FILES: Final = ("__init__.py", "results.py")


def install_sdk(directory: Path) -> str:
    """Copies it below `directory`, readable by all; returns what goes on PYTHONPATH."""
    package = directory / "riseml"
    package.mkdir(parents=True, exist_ok=True)
    source = Path(riseml.__file__).parent
    for name in _FILES:
        temporary = package / f".{name}"
        shutil.copyfile(source / name, temporary)
        os.chmod(temporary, 0o644)
        os.rename(temporary, package / name)
    return str(directory)
