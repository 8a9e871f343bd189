"""A tagger from its card: its tags and thresholds, what its scores depend on, its network."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from arena.cli import UserError, say
from arena.data_folder import DataFolder
from arena.seen import Training
from arena.tagger import RESIZE_VERSIONS, About, ImageSettings, Network, Origin
from danbooru_metadata import TagMappings
from models import card as cards
from models import recognise, tags, weights
from models.card import ModelCard

import numpy as np
import torch

if TYPE_CHECKING:
    from models.external import Contents

# The instructions, as torch names them, with which bfloat16 is faster than float32 on a CPU.
FAST_BFLOAT16 = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class CardTagger:
    """A tagger as arena.tagger.Tagger asks, of a card and the files that it names."""

    card: ModelCard
    data: DataFolder
    tags: list[str]
    categories: list[str]
    by_output: list[float] | None = None  # Thresholds, where the tags file has them.

    @property
    def name(self) -> str:
        """The card's file name without its ending."""
        return self.card.name

    @property
    def label(self) -> str:
        """The card's label."""
        return self.card.label

    @property
    def image(self) -> ImageSettings:
        """The card's image settings."""
        return self.card.image

    @property
    def activation(self) -> str:
        """The card's activation."""
        return self.card.activation

    @property
    def last_post_id(self) -> int | None:
        """The card's newest training post, None where it does not say."""
        return self.card.last_post_id

    def renamed(self, name: str) -> "CardTagger":
        """The same by another name."""
        return replace(self, card=replace(self.card, name=name))

    def thresholds(self) -> np.ndarray:
        """The card's one number, its number for each output's category, or the tags file's for each
        output: float (outputs,).

        A category without a number of its own has that of `other`. None is asked of a rating: where
        the card has neither, it is not a number.
        """
        if self.by_output is not None:
            return np.array(self.by_output)
        if not isinstance(self.card.threshold, dict):
            return np.full(len(self.tags), self.card.threshold)
        other = self.card.threshold.get("other", np.nan)
        by_category = [self.card.threshold.get(category, other) for category in self.categories]
        return np.array(by_category)

    def may_have_seen(self, post_ids: np.ndarray) -> np.ndarray:
        """Whether each post is at or below the card's newest training post, and not among those
        that were held out by their id: bool (posts,). None where the card does not know."""
        if self.card.last_post_id is None:
            return np.zeros(len(post_ids), bool)
        seen: np.ndarray = Training(self.card.last_post_id, self.card.held_out).may_have_seen(
            post_ids
        )
        return seen

    @property
    def precisions(self) -> list[str]:
        """Of ONNX Runtime, whose networks decide the rest themselves, or of torch."""
        if self.card.kind == "onnx":
            return ["float32", "tf32"]
        return ["float32", "float16", "bfloat16"]

    def precision(self, device: torch.device, wanted: str) -> str:
        """Half precision where it is fast and exact enough.

        float16 on a GPU, as bfloat16's errors are eight times as large; on a CPU bfloat16 if it is
        wanted. ONNX Runtime has TF32 on GPUs that have it: NVIDIA's since compute capability 8.0.
        """
        onnx = self.card.kind == "onnx"
        if device.type == "cuda":
            if wanted == "float32":
                return "float32"
            if onnx:
                return "tf32" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
            return "float16"
        if wanted != "half":
            return "float32"
        if not FAST_BFLOAT16 & {name for name, has in torch.cpu.get_capabilities().items() if has}:
            raise UserError(
                "--precision half: this CPU has no instructions for bfloat16 (avx512_bf16 or"
                " amx_bf16), so it would be slower, not faster: give float32"
            )
        return "float32" if onnx else "bfloat16"

    def fingerprint(self, precision: str) -> str:
        """A hash of weights, settings and precision. Fetches the weights' files if need be."""
        return hashlib.sha256(f"{self._digest} {precision}".encode()).hexdigest()

    @cached_property
    def _digest(self) -> str:
        """A hash of the weights' files and of the settings, read once."""
        card = self.card
        steps = [card.image.resize, *([card.image.first.resize] if card.image.first else [])]
        versions = [RESIZE_VERSIONS[step] for step in steps]
        settings = json.dumps(
            [card.kind, card.output, card.activation, asdict(card.image), versions]
        )
        digest = hashlib.sha256(settings.encode())
        for sha256 in self._hashes:
            digest.update(bytes.fromhex(sha256))
        return digest.hexdigest()

    @cached_property
    def _hashes(self) -> list[str]:
        """The SHA-256 of each of the weights' files, read once."""
        return [_sha256(path) for path in self._weight_files]

    def open(self, device: torch.device, precision: str) -> Network:
        """Load the network for a CPU or GPU. Raises UserError when it does not fit the card."""
        # Imported here, as ONNX Runtime and torch.nn take seconds that cached models never need.
        path = self._weight_files[0]
        if self.card.kind == "joytag":
            from models.joytag import JoyTagNetwork

            return JoyTagNetwork(self.card, path, len(self.tags), device, precision)
        if self.card.kind == "timm":
            from models.timm import TimmNetwork

            return TimmNetwork(self.card, path, len(self.tags), device, precision)
        from models.onnx import OnnxNetwork

        return OnnxNetwork(self.card, path, len(self.tags), device, precision)

    def remedy(self, *keys: str) -> str:
        """Which of the card's keys to change, or what else makes the files fit."""
        return cards.remedy(self.card, *keys)

    def about(self) -> About:
        """What the results say of it."""
        return {
            "name": self.card.name,
            "label": self.card.label,
            "source": cards.shown_source(self.card),
            "revision": self.card.revision,
            "threshold": self.card.threshold,
            "last_post_id": self.card.last_post_id,
            "held_out": self.card.held_out,
            "validated_on": self.card.validated_on,
            "vocabulary": len(self.tags),
        }

    def origin(self) -> Origin:
        """The hashes, the size and the card."""
        return {
            "weights": dict(zip(self._weight_names, self._hashes, strict=True)),
            "tags_file": {self.card.tags: _sha256(cards.locate_tags(self.card, self.data))},
            "card": cards.portable(self.card),
            "parameters": self._parameters,
            "file_size": sum(path.stat().st_size for path in self._weight_files),
        }

    @cached_property
    def _weight_files(self) -> list[Path]:
        """The files of the network, the one to open first, fetched if need be."""
        return cards.locate(self.card, self.data, *self._weight_names)

    @cached_property
    def _weight_names(self) -> list[str]:
        """Their names within the card's source."""
        card = self.card
        names = cards.weight_names(card)
        if card.kind == "onnx":
            folder = PurePosixPath(card.file).parent
            names += [str(folder / name) for name in self._onnx_contents.names]
        return names

    @cached_property
    def _onnx_contents(self) -> "Contents":
        from models import external  # Here, as JoyTag does without ONNX.

        (path,) = cards.locate(self.card, self.data, self.card.file)
        return external.contents(path)

    @property
    def _parameters(self) -> int | None:
        """How many numbers its weights are."""
        if self.card.kind == "onnx":
            return self._onnx_contents.parameters
        return weights.parameters(self._weight_files[0])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tagger(name: str, data: DataFolder, mappings: TagMappings) -> CardTagger:
    """The tagger of a name in models/, or of the path of a card elsewhere.

    Its tags and its preprocess file are fetched if need be; the tags go through the aliases. Raises
    UserError for a card or a file that is wrong, or that do not fit each other.
    """
    card = cards.whole(cards.card(name), data)
    if recognise.is_source(name):
        say(
            f"{name} has no card: it is run as validate.py --show-card {name} prints; where that is"
            f" wrong, save it as {card.path}, correct it and give that file"
        )
    path = cards.locate_tags(card, data)
    by_output: list[float] | None = None
    try:
        found = tags.read(path)
        if isinstance(card.threshold, str):
            by_output = tags.thresholds(found, card.threshold, path)
    except UserError as error:
        raise UserError(f"{error}: {cards.remedy(card, 'tags')}") from None
    if isinstance(card.threshold, dict) and "other" not in card.threshold:
        for category in sorted(set(found.categories) - {"rating"} - card.threshold.keys()):
            raise UserError(
                f"{card.path}: key 'threshold' has no {category}, a category of {path.name}: add"
                " it, or other for all that are not named"
            )
    names = found.names
    # The site's tags hold no spaces.
    if spaced := [name for name in names if " " in name]:
        say(f"{card.name}: {len(spaced)} tags, such as '{spaced[0]}', are read with _ for spaces")
        names = [name.replace(" ", "_") for name in names]
    canonical = [mappings.get_canonical(name) for name in names]
    return CardTagger(card, data, canonical, found.categories, by_output)


def training(names: Sequence[str]) -> list[Training]:
    """What these models may have been trained on, as their cards alone say it.

    Raises UserError for a card that is wrong or does not say it.
    """
    found = []
    for card in map(cards.card, names):
        if card.last_post_id is None:
            raise UserError(
                f"{card.path}: without the key 'last_post_id' it is not known which posts"
                f" {card.label} was trained on: leave out {card.name}, or give the card the key"
            )
        found.append(Training(card.last_post_id, card.held_out))
    return found
