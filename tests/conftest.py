"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is slow now and then, and pytest's time limit bounds every test anyway. The same
# examples in each run, and few enough that all unit tests together take one to two minutes.
settings.register_profile("riseml", deadline=None, max_examples=50, derandomize=True)
# Other examples each time, for a long search: `make test ARGS="--hypothesis-profile=thorough"`.
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile("riseml")
