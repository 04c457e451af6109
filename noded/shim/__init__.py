"""The shim, a C program that is the parent of one attempt's job, and the two texts that we share.

`spec.py` writes what it is to do, `status.py` reads what became of it. `*.c` is compiled to
`riseml-shim` beside this file when the package is built. Nothing here knows asyncio or the session.
"""

from __future__ import annotations

from pathlib import Path

SHIM_PROGRAM = Path(__file__).with_name("riseml-shim")
