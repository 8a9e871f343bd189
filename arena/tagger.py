"""What the arena asks of any tagger. models/ implements it; the arena imports no model.

A tagger is known by its card and its tags long before its network is opened, if it ever is: where
all its scores are cached, it is not.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypedDict

import numpy as np
import torch

Array = np.ndarray[Any, Any]

# Raise one when that resize gives other pixels than before: scores kept from then are not reused.
RESIZE_VERSIONS = {"bicubic": 2, "bilinear": 1, "lanczos": 1, "area": 3}


class First(NamedTuple):
    """A first step: resized to fit into a square of `size`, which the pad's colour fills up."""

    size: int
    resize: str


@dataclass(frozen=True)
class ImageSettings:
    """What a tagger needs done to an image: pad, resize to `size`, normalise.

    `pad` is `square`, `at_least` (the square is never smaller than `size`), or `stretch`: none. A
    pixel value v of 0 to 255 becomes (v * scale - mean) / std, per channel in `channels` order.
    """

    size: int
    pad: str
    resize: str
    channels: str
    layout: str
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    color: tuple[int, int, int] = (255, 255, 255)  # Of the pad, RGB.
    first: First | None = None


class Network(Protocol):
    """A tagger's network in memory. `batch` is the only batch size it takes, None for any.

    Where it `wants_padding`, it is told which pixels are none of the image's.
    """

    batch: int | None
    wants_padding: bool

    def outputs(self, images: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """Raw outputs, float32 (n, outputs), for preprocessed images, both on its device.

        Images are float32, (n, 3, size, size) or (n, size, size, 3) as the layout says, and
        `padding` is bool (n, size, size), true where there is no image. On a GPU
        the outputs are those of work that is under way on the current stream. Raises
        torch.OutOfMemoryError where a smaller batch may help.
        """


class About(TypedDict):
    """What the results say of a tagger."""

    name: str
    label: str
    source: str  # A hub repository, or a folder, of which only the name is told.
    revision: str | None  # Of the repository; None of a folder, whose files' hashes say it.
    # One number, one for each category, or the column of its tags file that has one for each tag.
    threshold: float | dict[str, float] | str
    last_post_id: int | None  # The newest post it may have been trained on; None: it is not known.
    held_out: tuple[int, int] | None  # The first and last id % 1000 that it was not trained on,
    validated_on: tuple[int, int] | None  # and those of them that chose checkpoint or threshold.
    vocabulary: int  # Its outputs.


class Origin(TypedDict):
    """What a tagger's scores come from, to the byte."""

    weights: dict[str, str]  # The files of its network: name to SHA-256.
    tags_file: dict[str, str]  # The same of its tags file.
    card: str  # TOML that runs it, without paths of this machine; empty where it has none.
    parameters: int | None  # Numbers in its weights; None where the file does not tell.
    file_size: int  # Bytes of the files of its network.


class Labels(Protocol):
    """What the outputs of a model are.

    `tags` are their canonical tags, in order: two outputs may have the same one. `categories` are
    theirs; an output of category `rating` scores a post's rating, which is no tag.
    """

    @property
    def tags(self) -> list[str]:
        """The canonical tag of each output."""

    @property
    def categories(self) -> list[str]:
        """The category of each output."""

    def thresholds(self) -> Array:
        """The threshold of each output: float (outputs,)."""


class Tagger(Labels, Protocol):
    """One tagger of a run.

    `activation` is `sigmoid` where the network gives logits, `none` where it gives scores.
    """

    @property
    def name(self) -> str:
        """The name that its files have."""

    @property
    def label(self) -> str:
        """The name that people read."""

    @property
    def image(self) -> ImageSettings:
        """What its images need done."""

    @property
    def activation(self) -> str:
        """`sigmoid` or `none`."""

    @property
    def last_post_id(self) -> int | None:
        """The newest post that it may have been trained on, None where that is not known."""

    def renamed(self, name: str) -> "Tagger":
        """The same by another name, as where a run has two of one name."""

    def may_have_seen(self, post_ids: Array) -> Array:
        """Whether it may have been trained on each post, by its id alone: bool (posts,). Of a
        tagger of which it is not known, no post is."""

    @property
    def precisions(self) -> list[str]:
        """What its sums can be worked out in, the most exact first."""

    def precision(self, device: torch.device, wanted: str) -> str:
        """Which of them `auto`, `float32` or `half` is on a device.

        Raises UserError where the device has no half precision worth using.
        """

    def fingerprint(self, precision: str) -> str:
        """A hash of all that decides its scores for an image: weights, settings, precision."""

    def open(self, device: torch.device, precision: str) -> Network:
        """Load its network. Raises UserError when that does not fit the card."""

    def remedy(self, *keys: str) -> str:
        """What to do about files that do not fit: which keys of which card to change."""

    def about(self) -> About:
        """What the results say of it."""

    def origin(self) -> Origin:
        """What its scores come from. Reads its files, where that was not done before."""


def vocabulary(labels: Labels) -> set[str]:
    """The tags that a model knows; ratings are none."""
    pairs = zip(labels.tags, labels.categories, strict=True)
    return {tag for tag, category in pairs if category != "rating"}
