"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is slow now and then, which is no fault of the code; pytest's time limit bounds tests.
settings.register_profile("riseml", deadline=None)
settings.load_profile("riseml")
