"""Where the control plane's time went: the profiles that `--profile DIR` left."""

from __future__ import annotations

import io
import pstats
from pathlib import Path
from typing import Final

LINES: Final = 30


def summary(folder: Path) -> str:
    """The functions with the most time of their own, of each profile in the folder."""
    text = io.StringIO()
    for file in sorted(folder.glob("*.pstats")):
        text.write(f"\n--- {file}\n")
        pstats.Stats(str(file), stream=text).sort_stats("tottime").print_stats(LINES)
    return text.getvalue()
