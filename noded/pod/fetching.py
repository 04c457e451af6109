"""Brings a revision in, however often the control plane goes away meanwhile.

What bounds it is patience: the time without anything new. Bytes that only repeat what an earlier
try had reached are nothing new, so a file that always arrives damaged ends it as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from noded.blobs import disk_error
from noded.errors import CredentialRefused, NodedError
from noded.pod.checkout import Checkout
from noded.trees import RevisionSource, TreeFile, checked_tree
from riseml.retry import Backoff

PROGRESS_SECONDS: Final = 5.0
COMPLAIN_SECONDS: Final = 30.0
_BACKOFF: Final = Backoff(first_seconds=0.2, most_seconds=5.0, tries=1_000_000)

Say = Callable[[str], None]


class Unreachable(NodedError):
    """Nothing new came for too long."""


class Fetching:
    """One revision into one checkout, told to people by `say`."""

    def __init__(
        self,
        source: RevisionSource,
        checkout: Checkout,
        patience_seconds: float,
        say: Say,
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._checkout = checkout
        self._patience_seconds = patience_seconds
        self._say = say
        self._wait = wait
        self._pauses: Iterator[float] = iter(())
        self._problem = "no answer"
        self._total_bytes = 0
        # Of the present try, and the furthest of all.
        self._position = self._furthest = 0
        self._next_progress = time.monotonic() + PROGRESS_SECONDS
        self._next_complaint = 0.0

    async def fetch(self, revision_id: str, attempt_id: str) -> tuple[TreeFile, ...]:
        """Returns what was laid out. Raises StartFailed, CredentialRefused or Unreachable."""
        try:
            async with asyncio.timeout(self._patience_seconds) as self._patience:
                tree = await self._try_on(revision_id, attempt_id)
        except TimeoutError:
            raise Unreachable(
                f"nothing new came from the control plane for {self._patience_seconds:g} s: "
                f"{self._problem}"
            ) from None
        except OSError as error:
            if isinstance(error, CredentialRefused):
                raise
            raise disk_error(error) from error
        return tree

    async def _try_on(self, revision_id: str, attempt_id: str) -> tuple[TreeFile, ...]:
        self._checkout.begin()
        self._pauses = _BACKOFF.pauses()
        tree: tuple[TreeFile, ...] | None = None
        while True:
            try:
                if tree is None:
                    tree = checked_tree(await self._source.manifest(revision_id, attempt_id))
                self._begin_try(tree)
                await self._checkout.blobs.fetch(
                    self._source, revision_id, attempt_id, tree, self._received
                )
                break
            except CredentialRefused:
                raise
            except ConnectionError as error:
                self._complain(str(error))
            await self._wait(next(self._pauses))
        self._checkout.lay_out(tree)
        return tree

    def _begin_try(self, tree: tuple[TreeFile, ...]) -> None:
        sizes = {file.sha256: file.size_bytes for file in tree}
        missing = {file.sha256 for file in self._checkout.blobs.missing(tree)}
        self._total_bytes = sum(sizes.values())
        self._position = self._total_bytes - sum(sizes[sha256] for sha256 in missing)

    def _received(self, byte_count: int) -> None:
        self._position += byte_count
        if self._position <= self._furthest:
            return
        self._furthest = self._position
        self._pauses = _BACKOFF.pauses()
        self._patience.reschedule(asyncio.get_running_loop().time() + self._patience_seconds)
        if time.monotonic() >= self._next_progress:
            self._next_progress = time.monotonic() + PROGRESS_SECONDS
            self._say(f"{megabytes(self._furthest)} of {megabytes(self._total_bytes)} arrived")

    def _complain(self, problem: str) -> None:
        self._problem = problem
        if time.monotonic() >= self._next_complaint:
            self._next_complaint = time.monotonic() + COMPLAIN_SECONDS
            self._say(f"trying on: {problem}")


def megabytes(byte_count: int) -> str:
    """For people: 12.3 MB."""
    return f"{byte_count / 1e6:.1f} MB"
