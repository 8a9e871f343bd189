"""The results of a run: worked out one tagger at a time, and written as files."""

import itertools
import json
import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TypedDict, cast

from arena import files
from arena.cli import progress, warn
from arena.data_folder import DataFolder
from arena.metrics import Evaluation, TestSet, bootstrap, compare, evaluate
from arena.metrics.figures import Figure
from arena.metrics.formulas import chance_average_precision
from arena.posts import CATEGORIES, RATINGS
from arena.report import page, text
from arena.tagger import About, Tagger, vocabulary
from arena.validate import distributed, history
from arena.validate.beyond import Beyond
from arena.validate.ground_truth import GroundTruth
from arena.validate.history import Moved
from arena.validate.predictions import Cache, common_scores
from arena.validate.tag_set import TagSet, lost

import numpy as np
import torch

ENOUGH_POSTS = 100  # Fewer may look like chance by chance.
SEED = 0  # Of the bootstrap: a rerun prints the same intervals.


class Section(TypedDict, total=False):
    """Figures at one choice of thresholds: `precision`, `recall`, `f1` and `mcc` of each mean."""

    threshold: float | None  # The one threshold; None where it differs by tag or category.
    macro: dict[str, Figure]  # The mean over tags, so that every tag counts the same.
    micro: dict[str, Figure]  # All (post, tag) pairs counted together.


class Overall(TypedDict):
    """A model's figures over all posts and tags; of a pair, the first model's minus the other's."""

    own: Section  # At the model's own threshold: the headline.
    equal: Section  # At the one threshold where micro precision is nearest to micro recall.
    best: Section  # At the one threshold with the highest macro F1 on these posts: optimistic.
    per_tag_best: Section  # At each tag's best threshold on these posts: an upper bound.
    cross_fit: (
        Section  # At each tag's best threshold on one half of the posts, scored on the other.
    )
    ap: dict[str, Figure]  # Average precision, `macro` and `micro`. Needs no threshold.
    coverage: Figure  # The share of the posts' tags, of any kind, that the model knows.
    calibration_error: Figure  # Mean distance of score and share of right ones; lower is better.


class Group(TypedDict, total=False):
    """Figures of some tags or posts at the own threshold, with `ap` under `macro`."""

    tags: int  # How many tags; of a rating, those on any of its posts.
    posts: int  # Of a rating: how many posts.
    low: int  # Of a frequency: the tags on at least this many posts,
    high: int  # and on at most this many.
    macro: dict[str, Figure]
    micro: dict[str, Figure]


class AllTags(TypedDict, total=False):
    """A model at its own threshold against all tags of the posts, of any vocabulary: a tag that it
    does not know counts as missed, with precision, recall and F1 0."""

    tags: int  # The posts' tags on at least `min_count` posts, over which the means are,
    known: int  # and how many of them it knows.
    macro: dict[str, Figure]  # `precision`, `recall`, `f1`: their means.
    micro: dict[str, Figure]  # All pairs of a post and a tag, however rare or unknown the tag.
    by_category: dict[str, "AllTags"]  # The same by the tag's category, without `micro`.


class Ratings(TypedDict):
    """How a model rates the posts: by the highest score. Posts without a rating are left out."""

    # g, s, q, e; or gs, q, e for a model of the site's three ratings until 2022, for which general
    # and sensitive posts are one. Not to be compared with models of four.
    names: list[str]
    posts: int  # Posts that have a rating.
    accuracy: Figure  # The share of them that it gives their rating.
    macro_f1: Figure  # The mean F1 of the ratings that the posts have.
    confusion: list[list[int]]  # By the post's rating, then by the model's: how many posts.


class ModelResults(About):
    """One model: what About says, and its figures. Lists by tag are in the order of `tag_names`."""

    precision: str  # Of the sums that its scores come from: float32, tf32, float16 or bfloat16.
    fingerprint: str  # A hash of all that decides its scores: weights, image settings, precision.
    outputs_sha256: str  # Of its outputs' tags, after aliases, and thresholds.
    maybe_seen: int | None  # Posts that it may have been trained on; None: it is not known.
    overall: Overall
    by_category: dict[str, Group]  # By the tag's category on the site.
    by_rating: dict[str, Group]  # By the post's rating: g, s, q, e.
    by_frequency: list[Group]  # By the number of posts that carry the tag.
    curves: dict[str, list[float]]  # `threshold`, and precision, recall, F1 there: `macro_f1` …
    calibration: list[
        dict[str, float]
    ]  # Bins: `low`, `high`, `count`, `mean_score`, `positive_rate`.
    per_tag: dict[str, list[float | None]]  # precision, recall, f1, ap, mcc, support, best_…
    all_tags: AllTags
    ratings: Ratings | None  # None where it does not rate, or no post has a rating.
    examples: dict[str, list[list[list[float]]]]  # Per tag up to five [post, score] of two kinds:
    # `false_alarms`, the highest scores without the tag; `misses`, the lowest with it.


class Shared(TypedDict, total=False):
    """Two models, each at its own threshold, on the tags that both know and that are on at least
    `min_count` posts, whatever the other models of the run know."""

    tags: int
    a: dict[str, dict[str, Figure]]  # The first model's `macro`: `precision`, `recall`, `f1`, `ap`,
    b: dict[str, dict[str, Figure]]  # the other's,
    difference: dict[str, dict[str, Figure]]  # and the first's minus the other's.
    by_category: dict[str, "Shared"]  # The same by the tag's category.


class Pair(TypedDict):
    """Two models compared on the same resamples of the posts."""

    a: str  # The first model's name,
    b: str  # and the other's.
    overall: Overall  # The differences on the common tags.
    shared: Shared


class LostTags(TypedDict):
    """Tags of one category, on at least `min_count` posts, that some models know and that are not
    common because of others."""

    models: list[str]  # The names of all models that do not know them.
    category: str
    tags: int  # How many.


class Results(TypedDict):
    """metrics.json. A figure is {"value", "low", "high"} wherever it is: its value and the ends of
    its 95% interval, null where it has none."""

    version: int  # Of this schema: 2.
    posts: dict[str, int]  # `count`, `min_id`, `max_id`.
    # `count` of common tags, `min_count` of posts that each is on; `pinned`: 1 for a list given by
    # --tags, whose tags may be on fewer, else 0.
    tags: dict[str, int]
    lost_tags: list[LostTags]  # What the common tags lost and to whom, most first.
    # `posts`, `ground_truth`, `tags`: SHA-256 of validation_post_ids.txt, of how many posts carry
    # each tag, and of validation_tags.txt.
    sha256: dict[str, str]
    moved: Moved | None  # What other common tags did since the last run; None for the same ones.
    bootstrap: dict[str, float]  # `resamples`, `seed`, `confidence`.
    device: str  # Where this run's networks ran: CPU, or the GPU's name.
    software: dict[str, str]  # Name to version.
    tag_names: list[str]  # The common tags, most common first.
    tag_categories: list[str]
    tag_counts: list[int]  # On how many of the posts each is.
    models: list[ModelResults]
    pairs: list[Pair]


def score(
    caches: Sequence[Cache],
    ground_truth: GroundTruth,
    tag_set: TagSet,
    resamples: int,
    device: torch.device,
) -> Results:
    """Everything that the results show, with one tagger's scores in memory at a time.

    Without `resamples` nothing gets an interval. Reads each tagger's predictions, and what the last
    run left. Saves the ground truth.
    """
    data, taggers = caches[0].data, [cache.tagger for cache in caches]
    ids, tags = ground_truth.post_ids, tag_set.common
    truth = ground_truth.matrix(tags)
    last = history.last(data)
    save_truth(data, truth, ids, tags)
    category_of = dict(zip(ground_truth.tags, ground_truth.categories, strict=True))
    categories = [category_of[tag] for tag in tags]
    totals = ground_truth.tags_per_post()
    weights = bootstrap.resamples(len(ids), resamples, SEED)
    groups = tag_set.groups[: len(tags)]
    test = TestSet(truth, ids, categories, ground_truth.ratings, totals, weights, groups)
    beyond = Beyond(ground_truth, tag_set, weights)

    def evaluated(place: int, tagger: Tagger) -> Evaluation:
        path = data.predictions(tagger.name)
        scores, threshold = common_scores(path, ids, tags, tagger.thresholds())
        known = ground_truth.tags_per_post(vocabulary(tagger))
        found = evaluate(test, scores, threshold, known)
        del scores  # Before more is read.
        sums, more = beyond.evaluate(place, tagger, path, found.sums)
        found = replace(found, sums=sums, results={**found.results, **more})
        warn_if_like_chance(tagger, found, truth)
        for groups, order in (("by_category", CATEGORIES), ("by_rating", RATINGS)):
            given = found.results[groups]
            found.results[groups] = {name: given[name] for name in order if name in given}
        return found

    shown = progress(taggers, desc="scoring", unit="model")
    evaluations = [evaluated(place, tagger) for place, tagger in enumerate(shown)]
    entries = zip(caches, evaluations, strict=True)
    pairs = itertools.combinations(enumerate(evaluations), 2)
    names = [tagger.name for tagger in taggers]
    results: Results = {
        "version": 2,
        "posts": {"count": len(ids), "min_id": int(ids[0]), "max_id": int(ids[-1])},
        "tags": {
            "count": len(tags),
            "min_count": tag_set.min_count,
            "pinned": int(tag_set.pinned),
        },
        "lost_tags": [
            {"models": [names[each] for each in lacking], "category": category, "tags": count}
            for lacking, category, count in lost(tag_set)
        ],
        "sha256": {
            "posts": history.sha256(map(str, ids.tolist())),
            "ground_truth": ground_truth.digest(),
            "tags": history.sha256(tags),
        },
        "moved": None,
        "bootstrap": {"resamples": resamples, "seed": SEED, "confidence": bootstrap.CONFIDENCE},
        "device": distributed.device_name(device),
        "software": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "torch", "onnxruntime-gpu")},
        },
        "tag_names": tags,
        "tag_categories": categories,
        "tag_counts": truth.sum(axis=0).tolist(),
        "models": [
            cast(
                ModelResults,
                {
                    **cache.tagger.about(),
                    "precision": cache.precision,
                    "fingerprint": cache.fingerprint,
                    "outputs_sha256": history.outputs_sha256(cache.tagger),
                    "maybe_seen": maybe_seen(cache.tagger, ids),
                    **evaluation.results,
                },
            )
            for cache, evaluation in entries
        ],
        "pairs": [
            {
                "a": names[a],
                "b": names[b],
                "overall": cast(Overall, compare(of_a, of_b)),
                "shared": cast(Shared, beyond.pair((a, of_a.sums), (b, of_b.sums))),
            }
            for (a, of_a), (b, of_b) in pairs
        ],
    }
    return {**results, "moved": history.moved(last, results, tags)}


def maybe_seen(tagger: Tagger, post_ids: np.ndarray) -> int | None:
    """How many of the posts it may have been trained on, None where that is not known."""
    if tagger.last_post_id is None:
        return None
    return int(tagger.may_have_seen(post_ids).sum())


def warn_if_like_chance(tagger: Tagger, found: Evaluation, truth: np.ndarray) -> None:
    """Warn of a tagger that ranks posts hardly better than scores that know nothing would."""
    posts = len(truth)
    chance = float(chance_average_precision(truth.sum(axis=0), posts).mean())
    reached = found.results["overall"]["ap"]["macro"]["value"]
    if posts >= ENOUGH_POSTS and reached < 2 * chance < 0.5:
        warn(
            f"{tagger.name}: its average precision, {reached:.3f}, is near that of random scores,"
            f" {chance:.3f}: see whether its tags are in the order of its outputs, and run"
            f" validate.py --check {tagger.name}, which tries other settings of [image]"
        )


def save_truth(data: DataFolder, truth: np.ndarray, post_ids: np.ndarray, tags: list[str]) -> None:
    """Write ground_truth.pt, validation_post_ids.txt and validation_tags.txt."""
    files.save_tensors(
        data.ground_truth,
        {
            "ground_truth": torch.from_numpy(truth),
            "post_ids": torch.from_numpy(post_ids),
            "tags": tags,
        },
    )
    files.write_text(data.validation_post_ids, "".join(f"{post_id}\n" for post_id in post_ids))
    files.write_text(data.validation_tags, "".join(f"{tag}\n" for tag in tags))


def write(data: DataFolder, results: Results) -> None:
    """Write the result files, and a line of history."""
    files.write_text(data.detailed_metrics, text.detailed_metrics(results))
    files.write_text(data.per_tag, text.per_tag_csv(results))
    files.write_text(data.metrics, json.dumps(results))
    files.write_text(data.report, page.html(results))
    history.append(data, results)
