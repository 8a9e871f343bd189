"""What is known of every model in this folder, without its network or the hub."""

from pathlib import Path
from typing import Any

from arena.cli import UserError
from arena.data_folder import DataFolder
from models import card as cards
from models import tags
from models.card import ModelCard


def known(data: DataFolder) -> list[dict[str, Any]]:
    """What is known of each model in this folder, sorted by family and then name.

    Asks nothing of the hub. Raises UserError for a card that is wrong.
    """
    found = [_known(cards.card(name), data) for name in cards.names()]
    return sorted(found, key=lambda model: (model["family"], model["name"]))


def _known(card: ModelCard, data: DataFolder) -> dict[str, Any]:
    return {
        "name": card.name,
        "label": card.label,
        "family": card.family,
        "source": card.source,
        "revision": card.revision,
        "tags": _tag_count(card, data),
        "threshold": card.threshold,
        "last_post_id": card.last_post_id,
        "held_out": card.held_out,
        "validated_on": card.validated_on,
        "license": card.license,
        "gated": card.gated,
        "on_this_machine": cards.is_cached(card, data),
        "predictions": data.predictions(card.name).is_file(),
    }


def _tag_count(card: ModelCard, data: DataFolder) -> int | None:
    """How many outputs the tags file has; None where it is not here or cannot be read."""
    source = card.tags_source or card.source
    path: Path | None
    if cards.is_folder(source):
        path = data.root / Path(source).expanduser() / card.tags
    else:
        from arena import hub  # Here, as in models.card.

        path = hub.cached_path(source, str(card.tags_revision or card.revision), card.tags)
    try:
        return len(tags.read(path).names) if path and path.is_file() else None
    except UserError:
        return None
