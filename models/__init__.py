"""Taggers: one TOML file a model, and the Python that runs each kind of network."""

from models.card import text
from models.tagger import table, tagger, taggers

__all__ = ["table", "tagger", "taggers", "text"]
