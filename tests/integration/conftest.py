"""What holds for tests that start processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.processes import kill_shims


@pytest.fixture(autouse=True)
def no_shim_is_left(tmp_path: Path) -> Iterator[None]:
    """Shims outlive their daemons, and so would those of a test that fails half-way."""
    yield
    kill_shims(tmp_path)
