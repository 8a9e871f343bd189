"""Means of models: `--models a,b,a+b` gives a row to the mean of a's and b's scores.

It costs no inference: both are in --models, so their scores are there. A tag that only some of the
parts know has the mean of those parts' scores, so what a mean knows is all that any part knows.
Its threshold for a tag is the mean of its parts' thresholds for it, as no card names one: natural
where scores are averaged, and no better chosen than that. It may have seen a post that any part may
have seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from arena.cli import UserError
from arena.metrics import Decided
from arena.metrics.tiles import Tiles
from arena.tagger import About, Labels, Origin, vocabulary
from arena.validate import history, scores
from arena.validate.given import Given, stem
from arena.validate.ground_truth import GroundTruth, may_have_seen
from arena.validate.outputs import RATING_OF, rating_outputs
from arena.validate.predictions import Cache, rows_at_once, store
from arena.validate.speed import Speed

import numpy as np


def split(names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The names of --models that are models, and the parts of each that is a mean of some.

    A path that is there is a model's, whatever its name. Raises UserError for a mean of parts that
    are not among the models, or of fewer than two different ones.
    """
    sums = [name for name in names if "+" in name and not Path(name).exists()]
    singles = [name for name in names if name not in sums]
    stems = {stem(name) for name in singles}
    means = [[stem(part.strip()) for part in name.split("+")] for name in sums]
    for name, parts in zip(sums, means, strict=True):
        if len(set(parts)) < len(parts):
            raise UserError(f"--models {name} names a model twice: a mean is of different ones")
        for part in parts:
            if part not in stems:
                raise UserError(
                    f"--models {name} is the mean of models that --models names as well, and"
                    f" '{part}' is none of them: give --models {','.join([*parts, name])}"
                )
        if means.count(parts) > 1:
            raise UserError(f"--models names {name} twice: name it once")
    return singles, means


@dataclass(frozen=True, eq=False)
class Mean:
    """The outputs of a mean of taggers, and how they come from theirs.

    `outputs` has for each tagger which of the mean's outputs it gives, int (n,), and the columns of
    its own that those are.
    """

    tags: list[str]
    categories: list[str]
    outputs: list[tuple[np.ndarray, scores.Columns]]

    @classmethod
    def of(cls, taggers: Sequence[Labels]) -> "Mean":
        """All tags that any of them knows, and the ratings where all rate alike.

        Where a part has several outputs with different thresholds for one tag, the first one's
        counts.
        """
        category_of = {
            tag: category
            for tagger in reversed(taggers)
            for tag, category in zip(tagger.tags, tagger.categories, strict=True)
            if category != "rating"
        }
        tags, rated = sorted(category_of), [rating_outputs(tagger) for tagger in taggers]
        ratings = list(rated[0]) if all(each.keys() == rated[0].keys() for each in rated) else []
        outputs = []
        for tagger, columns_of in zip(taggers, rated, strict=True):
            known = vocabulary(tagger)
            inside = [place for place, tag in enumerate(tags) if tag in known]
            named = [tags[place] for place in inside]
            inside += range(len(tags), len(tags) + len(ratings))
            of_ratings = [columns_of[rating] for rating in ratings]
            columns = scores.Columns.of(tagger, named, of_ratings)
            outputs.append((np.array(inside, dtype=np.int64), columns))
        categories = [category_of[tag] for tag in tags] + ["rating"] * len(ratings)
        return cls(tags + [RATING_OF[rating] for rating in ratings], categories, outputs)

    @cached_property
    def counts(self) -> np.ndarray:
        """How many of the taggers know each tag: int (outputs,)."""
        every = np.concatenate([inside for inside, _ in self.outputs])
        found: np.ndarray = np.bincount(every, minlength=len(self.tags))
        return found

    def thresholds(self) -> np.ndarray:
        """The mean of the thresholds of those that know a tag: float (outputs,)."""
        sums = np.zeros(len(self.tags))
        for inside, columns in self.outputs:
            sums[inside] += columns.threshold
        found: np.ndarray = sums / self.counts
        return found

    def mean(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """The mean's scores float32 (n, outputs), from those of each tagger."""
        sums = np.zeros((len(blocks[0]), len(self.tags)), np.float32)
        for block, (inside, columns) in zip(blocks, self.outputs, strict=True):
            sums[:, inside] += columns.scores(block)
        sums /= self.counts.astype(np.float32)
        # A mean of scores that are 1 may end above it by a rounding.
        return sums.clip(0, 1, out=sums)


@dataclass(frozen=True)
class Scored:
    """A model with its scores, or the mean of several: what results are worked out from."""

    parts: tuple[Cache | Given, ...]

    @property
    def name(self) -> str:
        """The name in files: `a`, or `a+b`."""
        return "+".join(part.tagger.name for part in self.parts)

    @property
    def label(self) -> str:
        """The name that people read: `A`, or `A + B`."""
        return " + ".join(part.tagger.label for part in self.parts)

    @property
    def mean_of(self) -> list[str]:
        """The names of the models that it is the mean of; empty of a model."""
        return [part.tagger.name for part in self.parts] if len(self.parts) > 1 else []

    @property
    def precision(self) -> str:
        """Of the sums that the scores come from; of a mean with two, both."""
        return " + ".join(dict.fromkeys(part.precision for part in self.parts))

    @property
    def store(self) -> str:
        """What the scores are kept in: float32 or float16; of a mean with both, both."""
        return " + ".join(dict.fromkeys(store(part.path) for part in self.parts))

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides its scores; of a mean, of its parts' hashes."""
        every = [part.fingerprint for part in self.parts]
        return every[0] if len(every) == 1 else history.sha256(every)

    @property
    def outputs_sha256(self) -> str:
        """A hash of what its outputs are; of a mean, of its parts' hashes."""
        every = [history.outputs_sha256(part.tagger) for part in self.parts]
        return every[0] if len(every) == 1 else history.sha256(every)

    def vocabulary(self) -> set[str]:
        """The tags that it knows, ratings left out."""
        return vocabulary(self.labels)

    @cached_property
    def labels(self) -> Labels:
        """What its outputs are: those of the model, or of a mean what any part knows."""
        if len(self.parts) == 1:
            return self.parts[0].tagger
        return Mean.of([part.tagger for part in self.parts])

    def scores(
        self,
        folder: Path,
        post_ids: np.ndarray,
        tags: Sequence[str],
        also: Callable[[slice, np.ndarray], None],
    ) -> tuple[Tiles, np.ndarray | Decided]:
        """Scores float32 (posts, tags), in a scratch file in `folder`, and what decides.

        Every tag is one that it knows. `also` is given each block of all its outputs: which posts,
        and their scores.
        """
        found = Tiles.make(folder, len(post_ids), len(tags), np.float32)
        columns = scores.Columns.of(self.labels, tags)
        predicted = np.empty((len(post_ids), len(columns.apart)), np.bool_)
        for some, block in self._blocks(post_ids):
            found.write(some.start, columns.scores(block))
            predicted[some] = columns.predicted(block)
            also(some, block)
        return found, columns.decide(predicted)

    def _blocks(self, post_ids: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """(places, scores) of so many posts at a time: which of `post_ids`, and float32 (n,
        outputs)."""
        labels, tags = self.labels, [part.tagger.tags for part in self.parts]
        rows = rows_at_once(max(map(len, [labels.tags, *tags])))
        read = [scores.read(part.path, post_ids, rows) for part in self.parts]
        if not isinstance(labels, Mean):
            yield from read[0]
            return
        for each in zip(*read, strict=True):
            yield each[0][0], labels.mean([block for _, block in each])

    def may_have_seen(self, truth: GroundTruth) -> np.ndarray | None:
        """Whether a part may have been trained on each post or its family, bool (posts,); None
        where that is not known of one of them."""
        seen = [may_have_seen(part.tagger, truth) for part in self.parts]
        known = [each for each in seen if each is not None]
        return np.any(known, axis=0) if len(known) == len(seen) else None

    def about(self) -> About:
        """What the results say of it."""
        if len(self.parts) == 1:
            return self.parts[0].tagger.about()
        newest = [part.tagger.last_post_id for part in self.parts]
        known = [last for last in newest if last is not None]
        return {
            "name": self.name,
            "label": self.label,
            "source": f"the mean of {' and '.join(self.mean_of)}",
            "revision": None,
            "threshold": "the mean of its models' thresholds",
            "last_post_id": max(known) if len(known) == len(newest) else None,
            "held_out": None,
            "validated_on": None,
            "vocabulary": len(self.vocabulary()),
        }

    def origin(self) -> Origin:
        """What the scores come from: of a mean, that of all parts, files named `part/file`."""
        if len(self.parts) == 1:
            return self.parts[0].tagger.origin()
        origins = {part.tagger.name: part.tagger.origin() for part in self.parts}
        sizes = [each["parameters"] for each in origins.values()]
        known = [size for size in sizes if size is not None]
        return {
            "weights": _prefixed({name: each["weights"] for name, each in origins.items()}),
            "tags_file": _prefixed({name: each["tags_file"] for name, each in origins.items()}),
            "card": "",
            "parameters": sum(known) if len(known) == len(sizes) else None,
            "file_size": sum(each["file_size"] for each in origins.values()),
        }

    def speed(self) -> list[Speed]:
        """How fast the scores were made; empty of a mean, which no network made."""
        return self.parts[0].speed() if len(self.parts) == 1 else []

    def images(self) -> list[dict[str, Any]]:
        """The image settings of each part, as the card's [image] says them; none of a part that is
        a predictions file."""
        settings = [part.tagger.image for part in self.parts if isinstance(part, Cache)]
        return [{**vars(each), "first": each.first and each.first._asdict()} for each in settings]


def _prefixed(files: dict[str, dict[str, str]]) -> dict[str, str]:
    return {
        f"{part}/{name}": sha256 for part, named in files.items() for name, sha256 in named.items()
    }


def scored(caches: Sequence[Cache | Given], means: Sequence[Sequence[str]]) -> list[Scored]:
    """The models of a run, and after them the means of those whose names `split` gave."""
    by_name = {cache.tagger.name: cache for cache in caches}
    parts = [[cache] for cache in caches] + [[by_name[name] for name in each] for each in means]
    return [Scored(tuple(each)) for each in parts]
