"""What a run works out beyond the common tags: each model against all tags of the posts, each pair
on the tags that both know, and the posts' ratings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from arena.metrics import bootstrap, ratings, vocabularies
from arena.metrics.bootstrap import Samples
from arena.metrics.tag_groups import Sums
from arena.metrics.tiles import Tiles
from arena.posts import CATEGORIES
from arena.tagger import Labels
from arena.validate import outputs, scores
from arena.validate.outputs import Outputs
from arena.validate.post_tags import PostTags
from arena.validate.tag_set import TagSet

import numpy as np


@dataclass(frozen=True)
class Beyond:
    """What all models are scored on beyond the common tags: which of `tags.carried` each post
    carries, its rating and, `totals` int (posts,), how many tags it carries in all; `samples` of
    the posts draw `clusters` (posts,).

    `models` says which taggers, by their places, each model is made of: one, or those whose mean it
    is. Scratch files lie in `folder`.
    """

    folder: Path
    models: Sequence[Sequence[int]]
    carried: PostTags
    tags: TagSet
    ratings: np.ndarray
    totals: np.ndarray
    samples: Samples
    clusters: np.ndarray

    def outputs(self, place: int, labels: Labels) -> Outputs:
        """What is to be given the scores of a model; `place` is its place in the run."""
        names = self._names(self._known(place))
        shared = self._names(self._shared(place))
        return Outputs(self.folder, labels, self.carried, self.tags.carried, names, shared)

    def evaluate(
        self, place: int, labels: Labels, given: Outputs, common: Sums
    ) -> tuple[Sums, dict[str, Any]]:
        """A model's sums over all tags that it knows, `common` being those over the common ones,
        and what the results say of it: `all_tags` and `ratings`. `given` has had all its scores.
        """
        known, shared, model = self._known(place), self._shared(place), self.models[place]
        groups = self.tags.groups[len(self.tags.common) :][known]
        # 0 for tags that no other model knows, as no pair is compared on them.
        ap = np.zeros((len(known), self.samples.count))
        ap[np.isin(known, shared)] = bootstrap.average_precisions(
            given.scores, self._truth(shared), self.samples
        )
        truth = self._truth(known)
        counted = groups, given.further, truth, self.samples, self.clusters
        further = vocabularies.count(*counted, ap)
        sums = common.plus(further)
        frequent = self.tags.frequent
        all_tags = vocabularies.all_tags(sums, self.tags.wanted(model), sum(frequent.values()))
        all_tags["micro"] = vocabularies.micro(
            given.right, given.predicted, self.totals, self.samples
        )
        all_tags["by_category"] = {
            category: vocabularies.all_tags(
                sums, self.tags.wanted(model, category=category), frequent[category]
            )
            for category in CATEGORIES
            if category in frequent
        }
        return sums, {"all_tags": all_tags, "ratings": self._ratings(labels, given.ratings)}

    def pair(self, first: tuple[int, Sums], second: tuple[int, Sums]) -> dict[str, Any]:
        """Two models, by place and sums, on the tags that both know: over all, and by category."""
        (a, of_a), (b, of_b) = ((self.models[place], sums) for place, sums in (first, second))
        found = vocabularies.shared(of_a, of_b, self.tags.wanted(a, b))
        by_category = {}
        for category in CATEGORIES:
            wanted = self.tags.wanted(a, b, category=category)
            if len(wanted):
                by_category[category] = vocabularies.shared(of_a, of_b, wanted)
        return {**found, "by_category": by_category}

    def _known(self, place: int) -> np.ndarray:
        """Which of the further tags a model knows: their numbers."""
        return np.flatnonzero(self._knows[place])

    @cached_property
    def _knows(self) -> np.ndarray:
        """Which model knows which of the further tags: bool (models, tags)."""
        groups = self.tags.groups[len(self.tags.common) :]
        of_kinds = [[kind.known_to(model) for kind in self.tags.kinds] for model in self.models]
        found: np.ndarray = np.array(of_kinds, dtype=bool)[:, groups]
        return found

    def _shared(self, place: int) -> np.ndarray:
        """Which of the further tags a model and another one know: their numbers."""
        return np.flatnonzero(self._knows[place] & (self._knows.sum(axis=0) > 1))

    def _names(self, numbers: np.ndarray) -> list[str]:
        return [self.tags.further[number] for number in numbers]

    def _truth(self, numbers: np.ndarray) -> Tiles:
        """Which post carries the further tags of these numbers: bool (posts, tags)."""
        return scores.truth(self.folder, self.carried, self.tags.carried, self._names(numbers))

    def _ratings(self, labels: Labels, of_ratings: np.ndarray) -> dict[str, Any] | None:
        """How it rates the posts, None where it does not or none of the posts has a rating."""
        names = list(outputs.rating_outputs(labels))
        truth = np.full(len(of_ratings), -1, np.int8)
        for number, name in enumerate(names):
            for letter in name:
                truth[self.ratings == letter] = number
        if not names or (truth < 0).all():
            return None
        return {"names": names, **ratings.evaluate(of_ratings, truth, self.samples)}
