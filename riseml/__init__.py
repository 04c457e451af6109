"""RiseML: experiments on a shared pool of GPU machines.

Importing this package is cheap and needs only the standard library, for it happens inside training
jobs. What a job uses is here; the typed client (``riseml.client``) and the generated stubs load
only when they are named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from riseml.results import report_result as report_result

__all__ = ["report_result"]


def __getattr__(name: str) -> object:
    if name == "report_result":
        from riseml.results import report_result

        return report_result
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
