"""Small copies of the images that the report shows, for one that travels without resized/."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from arena.cli import progress, say
from arena.data_folder import DataFolder
from arena.validate.schema import Results

from PIL import Image

SIDE = 96  # Pixels of the longest side.
QUALITY = 50


def thumbnails(data: DataFolder, report: Path, results: Results) -> dict[int, bytes]:
    """WebP images by post ID, of every post in the models' `examples` and in `disagreements` that
    has a resized image.

    Says how much they add to the `report`.
    """
    sides = (side for model in results["models"] for side in model["examples"].values())
    shown = {int(post) for tag in chain.from_iterable(sides) for post, _ in tag}
    ids = sorted(shown | {each["post"] for each in results["disagreements"]})
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        made = pool.map(lambda post: _thumbnail(data, post), ids)
        bar = progress(zip(ids, made, strict=True), desc="thumbnails", unit="post", total=len(ids))
        found = {post: image for post, image in bar if image}
    # In the page they stand as base64: four letters for three bytes.
    size = sum(map(len, found.values())) * 4 / 3e6
    say("", f"{report} holds {len(found)} thumbnails, {size:.1f} MB")
    return found


def _thumbnail(data: DataFolder, post: int) -> bytes | None:
    """The small copy of a post's resized image; None where that is gone or damaged."""
    try:
        with Image.open(data.resized_image(post), formats=["WEBP"]) as image:
            image.thumbnail((SIDE, SIDE))
            file = io.BytesIO()
            image.convert("RGB").save(file, "WEBP", quality=QUALITY)
    except OSError:
        return None
    return file.getvalue()
