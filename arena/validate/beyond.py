"""What a run works out beyond the common tags: each tagger against all tags of the posts, each pair
on the tags that both know, and the posts' ratings."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from arena.metrics import bootstrap, ratings, vocabularies
from arena.metrics.tag_groups import Sums
from arena.posts import CATEGORIES
from arena.tagger import Tagger
from arena.validate import outputs
from arena.validate.given import Given
from arena.validate.ground_truth import GroundTruth
from arena.validate.predictions import Cache
from arena.validate.tag_set import TagSet

import numpy as np

TAGS_AT_ONCE = 1024  # Whose scores are in memory together.


@dataclass(frozen=True)
class Beyond:
    """What all taggers are scored on beyond the common tags; `weights` uint8 (posts, resamples) of
    `clusters` (posts,)."""

    ground_truth: GroundTruth
    tags: TagSet
    weights: np.ndarray
    clusters: np.ndarray

    @cached_property
    def samples(self) -> np.ndarray:
        """All posts, then the resamples: uint8 (posts, samples)."""
        return np.column_stack([np.ones(len(self.weights), np.uint8), self.weights])

    @cached_property
    def _truth(self) -> np.ndarray:
        return self.ground_truth.matrix(self.tags.further)

    @cached_property
    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        # Of tags that nobody knows there may be more than can be written out for every post.
        return self.ground_truth.pairs(self.tags.carried)

    @cached_property
    def _totals(self) -> np.ndarray:
        return self.ground_truth.tags_per_post()

    def evaluate(
        self, place: int, cache: Cache | Given, common: Sums
    ) -> tuple[Sums, dict[str, Any]]:
        """A tagger's sums over all tags that it knows, `common` being those over the common ones,
        and what the results say of it: `all_tags` and `ratings`.

        `place` is the tagger's in the run and `cache` has its scores.
        """
        given = outputs.read(
            cache.path,
            cache.tagger,
            self.ground_truth.post_ids,
            self._pairs,
            self.tags.carried,
            self.tags.further,
        )
        known = self._known(place)
        groups = self.tags.groups[len(self.tags.common) :][known]
        ap = self._average_precisions(cache, known)
        further = vocabularies.count(
            groups,
            given.further[:, known],
            self._truth[:, known],
            self.samples,
            self.clusters,
            ap,
        )
        sums = common.plus(further)
        frequent = self.tags.frequent
        all_tags = vocabularies.all_tags(sums, self.tags.wanted(place), sum(frequent.values()))
        all_tags["micro"] = vocabularies.micro(
            given.right, given.predicted, self._totals, self.samples
        )
        all_tags["by_category"] = {
            category: vocabularies.all_tags(
                sums, self.tags.wanted(place, category=category), frequent[category]
            )
            for category in CATEGORIES
            if category in frequent
        }
        return sums, {"all_tags": all_tags, "ratings": self._ratings(cache.tagger, given.ratings)}

    def pair(self, first: tuple[int, Sums], second: tuple[int, Sums]) -> dict[str, Any]:
        """Two taggers, by place and sums, on the tags that both know: over all, and by category."""
        (a, of_a), (b, of_b) = first, second
        found = vocabularies.shared(of_a, of_b, self.tags.wanted(a, b))
        by_category = {}
        for category in CATEGORIES:
            wanted = self.tags.wanted(a, b, category=category)
            if len(wanted):
                by_category[category] = vocabularies.shared(of_a, of_b, wanted)
        return {**found, "by_category": by_category}

    def _known(self, place: int) -> np.ndarray:
        """Which of the further tags a tagger knows: their numbers."""
        groups = self.tags.groups[len(self.tags.common) :]
        knows = [self.tags.kinds[group].known[place] for group in groups]
        return np.flatnonzero(np.array(knows, dtype=bool))

    def _average_precisions(self, cache: Cache | Given, known: np.ndarray) -> np.ndarray:
        """AP of the `known` further tags in every sample, (tags, samples): 0 for those that no
        other tagger knows, as no pair is compared on them."""
        found = np.zeros((len(known), self.samples.shape[1]))
        groups = self.tags.groups[len(self.tags.common) :][known]
        shared = [sum(self.tags.kinds[group].known) > 1 for group in groups]
        where = np.flatnonzero(np.array(shared, dtype=bool))
        for first in range(0, len(where), TAGS_AT_ONCE):
            some = where[first : first + TAGS_AT_ONCE]
            names = [self.tags.further[tag] for tag in known[some]]
            post_ids = self.ground_truth.post_ids
            scores, _ = cache.scores(post_ids, names)
            truth = self._truth[:, known[some]]
            found[some] = bootstrap.average_precisions(scores, truth, self.samples)
        return found

    def _ratings(self, tagger: Tagger, scores: np.ndarray) -> dict[str, Any] | None:
        """How it rates the posts, None where it does not or none of the posts has a rating."""
        names = list(outputs.rating_outputs(tagger))
        place = {letter: number for number, name in enumerate(names) for letter in name}
        truth = np.array([place.get(rating, -1) for rating in self.ground_truth.ratings])
        if not names or (truth < 0).all():
            return None
        return {"names": names, **ratings.evaluate(scores, truth, self.samples)}
