"""What each model says of each post: the files in report_posts/, and the posts to look at first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from arena import files
from arena.data_folder import DataFolder
from arena.metrics.mistakes import differences, image_f1, most_different, truth_bits
from arena.metrics.tiles import Tiles
from arena.report import posts
from arena.report.posts import ByPost

import numpy as np

MOST = 100  # Posts to look at first.
POSTS_PER_FILE = 2048


class Disagreement(TypedDict):
    """A post on which the models differ much."""

    post: int
    # How many tags two models decide differently, added up over all pairs of models; 0 of one.
    differences: int
    f1: list[float]  # Of each model's tags on the post, in the order of `models`.


@dataclass(frozen=True)
class Decisions:
    """The tags of the posts and each model's mistakes about them, as bits (metrics/mistakes.py),
    and `chosen`, the rows of the posts on which the models differ most; of one model those on
    which it does worst."""

    post_ids: np.ndarray
    truth: Tiles
    mistakes: Sequence[Tiles]
    chosen: np.ndarray

    @classmethod
    def of(
        cls, folder: Path, post_ids: np.ndarray, truth: Tiles, mistakes: Sequence[Tiles]
    ) -> "Decisions":
        """`truth` bool (posts, tags). The scratch file of its bits lies in `folder`."""
        bits = truth_bits(folder, truth)
        return cls(post_ids, bits, mistakes, most_different(bits, mistakes, MOST))

    def disagreements(self) -> list[Disagreement]:
        """The chosen posts, as metrics.json has them."""
        truth, *wrong = self._some(self.chosen)
        f1 = np.stack([image_f1(truth, each) for each in wrong], axis=1)
        return [
            {"post": post, "differences": count, "f1": of_models}
            for post, count, of_models in zip(
                self.post_ids[self.chosen].tolist(),
                differences(wrong).tolist(),
                f1.tolist(),
                strict=True,
            )
        ]

    def write(self, out: DataFolder) -> ByPost:
        """Write the files of all posts that are not there yet; what the page needs of them, and of
        the chosen posts."""
        out.report_posts.mkdir(exist_ok=True)
        files.sweep(out.report_posts)
        named = []
        for start in range(0, len(self.post_ids), POSTS_PER_FILE):
            some = slice(start, min(start + POSTS_PER_FILE, len(self.post_ids)))
            truth, *wrong = (each.rows(some) for each in (self.truth, *self.mistakes))
            ids = self.post_ids[some]
            made = posts.script(int(ids[0]), posts.records(ids, truth, wrong))
            # A name stands for what is in the file.
            path = out.report_posts / made.name
            if not path.exists() or path.stat().st_size != len(made.text):
                files.write_text(path, made.text)
            named.append((made.first, made.name))
        rows = np.sort(self.chosen)
        truth, *wrong = self._some(rows)
        return ByPost(posts.records(self.post_ids[rows], truth, wrong), named)

    def _some(self, rows: np.ndarray) -> list[np.ndarray]:
        """The tags and each model's mistakes of the posts in some rows: bits (n, bytes)."""
        found = []
        for each in (self.truth, *self.mistakes):
            bits = np.empty((len(rows), each.tags), np.uint8)
            for place, row in enumerate(rows.tolist()):
                bits[place] = each.rows(slice(row, row + 1))[0]
            found.append(bits)
        return found


def remove_others(out: DataFolder, kept: ByPost) -> None:
    """Remove the files of posts that an earlier page had and this one has not."""
    names = {name for _, name in kept.files}
    for path in out.report_posts.iterdir():
        if posts.NAME.fullmatch(path.name) and path.name not in names:
            path.unlink()
