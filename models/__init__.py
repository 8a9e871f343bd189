"""Taggers: one TOML file a model, and the Python that runs each kind of network."""

from models.card import text
from models.listing import known
from models.tagger import tagger, training

__all__ = ["known", "tagger", "text", "training"]
