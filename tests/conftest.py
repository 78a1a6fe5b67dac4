"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

# No time limit per example: a busy machine must not fail a correct test. The same examples every run: a failure on
# one machine is a failure on all of them.
settings.register_profile("finevla", deadline=None, derandomize=True)
settings.load_profile("finevla")
