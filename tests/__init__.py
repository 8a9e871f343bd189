"""Behaviour through the scripts, and every number against an independent oracle."""
