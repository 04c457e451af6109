"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is slow now and then, and pytest's time limit bounds every test anyway.
settings.register_profile("riseml", deadline=None)
settings.load_profile("riseml")
