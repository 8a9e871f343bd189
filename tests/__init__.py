"""Behaviour through the scripts, and every number against an independent oracle."""

from hypothesis import settings

# How long an example takes depends on what else the machine does.
settings.register_profile("arena", deadline=None)
settings.load_profile("arena")
