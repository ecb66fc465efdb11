"""How hypothesis works here: the machine may be busy, so no example is failed for being slow."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("core", deadline=None)
settings.load_profile("core")
