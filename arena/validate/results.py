"""The results of a run: worked out one tagger at a time, and written as files."""

import hashlib
import itertools
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import TypedDict, cast

from arena import files, jsonl
from arena.cli import UserError, progress, warn
from arena.data_folder import DataFolder
from arena.metrics import (
    Evaluation,
    TestSet,
    bootstrap,
    compare,
    compared_design_effects,
    evaluate,
    may_be_best,
    simultaneous,
)
from arena.metrics.figures import Figure
from arena.metrics.formulas import chance_average_precision
from arena.posts import CATEGORIES, RATINGS
from arena.report import page, text
from arena.report.model_index import model_index as yaml_of_card
from arena.tagger import About, Tagger, vocabulary
from arena.validate import distributed, earlier
from arena.validate.clusters import clusters
from arena.validate.ground_truth import GroundTruth, maybe_seen
from arena.validate.predictions import Cache, common_scores

import numpy as np
import torch

VERSION = 2  # Of metrics.json.
ENOUGH_POSTS = 100  # Fewer may look like chance by chance.
SEED = 0  # Of the bootstrap: a rerun prints the same intervals.
COMPARED = {"f1": ("own", "macro", "f1"), "ap": ("ap", "macro")}  # Of all models at once.


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


class ModelResults(About):
    """One model: what About says, and its figures. Lists by tag are in the order of `tag_names`."""

    precision: str  # Of the sums that its scores come from: float32, tf32, float16 or bfloat16.
    # Posts that it may have been trained on, or on one of their family; None: it is not known.
    maybe_seen: int | None
    overall: Overall
    # Of macro precision, recall, f1 and ap at the own threshold: the variance with clusters over
    # that of as many independent posts (deff); intervals are wider by its root. None: not known.
    design_effect: dict[str, float | None]
    by_category: dict[str, Group]  # By the tag's category on the site.
    by_rating: dict[str, Group]  # By the post's rating: g, s, q, e.
    by_frequency: list[Group]  # By the number of posts that carry the tag.
    curves: dict[str, list[float]]  # `threshold`, and precision, recall, F1 there: `macro_f1` …
    calibration: list[
        dict[str, float]
    ]  # Bins: `low`, `high`, `count`, `mean_score`, `positive_rate`.
    per_tag: dict[str, list[float | None]]  # precision, recall, f1, ap, mcc, support, best_…
    examples: dict[str, list[list[list[float]]]]  # Per tag up to five [post, score] of two kinds:
    # `false_alarms`, the highest scores without the tag; `misses`, the lowest with it.


class Pair(TypedDict):
    """Two models compared on the same resamples of the posts."""

    a: str  # The first model's name,
    b: str  # and the other's.
    overall: Overall  # The differences.
    design_effect: dict[str, float | None]  # Of the differences, as a model's.
    # The difference in macro `f1` at the own threshold and macro `ap`, with the interval that holds
    # for all pairs at once in 95% of cases: what verdicts on more than two models go by.
    simultaneous: dict[str, Figure]


class Bootstrap(TypedDict):
    """What the intervals rest on."""

    resamples: int
    seed: int
    confidence: float
    unit: str  # What is drawn: `artist` (and family), `family`, or `none`: each post by itself.
    clusters: int  # How many there are to draw from,
    largest: int  # and how many posts the largest has.
    chained: int  # Posts drawn by family since artists join too many of them.


class Results(TypedDict):
    """metrics.json. A figure is {"value", "low", "high"} wherever it is: its value and the ends of
    its 95% interval, null where it has none."""

    version: int  # Of this schema: VERSION.
    posts: dict[str, int]  # `count`, `min_id`, `max_id`.
    tags: dict[str, int]  # `count` of common tags, `min_count` of posts that each is on.
    bootstrap: Bootstrap
    device: str  # Where this run's networks ran: CPU, or the GPU's name.
    software: dict[str, str]  # Name to version.
    tag_names: list[str]  # The common tags, most common first.
    tag_categories: list[str]
    tag_counts: list[int]  # On how many of the posts each is.
    models: list[ModelResults]
    pairs: list[Pair]
    # The names of the models that cannot be told from the best, which comes first, by macro `f1`
    # at the own threshold and by macro `ap`: by the simultaneous intervals, or all without any.
    best: dict[str, list[str]]


def folder(out: DataFolder) -> DataFolder:
    """The folder of the results, which is made where there is none."""
    out.root.mkdir(parents=True, exist_ok=True)
    return out


def model_index(out: DataFolder, name: str) -> str:
    """The YAML of a model card's model-index for a model's figures in the results.

    Raises UserError where there are no results, or none of that model.
    """
    try:
        found = jsonl.loads(out.metrics.read_bytes())
        posts_hash = hashlib.sha256(out.validation_post_ids.read_bytes()).hexdigest()
        if found["version"] != VERSION:
            raise ValueError
    except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"{out} has no whole results of this version: run validate.py") from None
    return yaml_of_card(found, name, posts_hash)


def score(
    caches: Sequence[Cache],
    ground_truth: GroundTruth,
    tags: list[str],
    min_count: int,
    resamples: int,
    unit: str,
    device: torch.device,
    out: DataFolder,
) -> Results:
    """Everything that the results show, with one tagger's scores in memory at a time.

    `tags` are the common tags, on at least `min_count` posts; without `resamples` nothing gets an
    interval; `unit` is what they draw (clusters.py). Reads each tagger's predictions. Saves the
    ground truth in the folder `out`, after results of another selection have been moved away.
    """
    data, taggers = caches[0].data, [cache.tagger for cache in caches]
    ids = ground_truth.post_ids
    truth = ground_truth.matrix(tags)
    earlier.put_aside(out, ids, [tagger.name for tagger in taggers], tags)
    save_truth(out, truth, ids, tags)
    category_of = dict(zip(ground_truth.tags, ground_truth.categories, strict=True))
    categories = [category_of[tag] for tag in tags]
    totals = ground_truth.tags_per_post()
    drawn = clusters(ground_truth, unit)
    weights = bootstrap.resamples(len(ids), resamples, SEED, drawn.of_post)
    test = TestSet(truth, ids, categories, ground_truth.ratings, totals, weights, drawn.of_post)

    def evaluated(tagger: Tagger) -> Evaluation:
        scores, threshold = common_scores(
            data.predictions(tagger.name), ids, tags, tagger.thresholds()
        )
        known = ground_truth.tags_per_post(vocabulary(tagger))
        found = evaluate(test, scores, threshold, known)
        warn_if_like_chance(tagger, found, truth)
        for groups, order in (("by_category", CATEGORIES), ("by_rating", RATINGS)):
            given = found.results[groups]
            found.results[groups] = {name: given[name] for name in order if name in given}
        return found

    evaluations = [evaluated(tagger) for tagger in progress(taggers, desc="scoring", unit="model")]
    entries = zip(caches, evaluations, strict=True)
    pairs = itertools.combinations(zip(taggers, evaluations, strict=True), 2)
    at_once = {name: simultaneous(evaluations, path) for name, path in COMPARED.items()}
    # Of a few units the spread is itself guesswork, and nobody is told from the best.
    enough = drawn.groups >= text.FEWEST
    return {
        "version": VERSION,
        "posts": {"count": len(ids), "min_id": int(ids[0]), "max_id": int(ids[-1])},
        "tags": {"count": len(tags), "min_count": min_count},
        "bootstrap": {
            "resamples": resamples,
            "seed": SEED,
            "confidence": bootstrap.CONFIDENCE,
            "unit": unit,
            "clusters": drawn.groups,
            "largest": drawn.largest,
            "chained": drawn.chained,
        },
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
                    "maybe_seen": maybe_seen(cache.tagger, ground_truth),
                    **evaluation.results,
                },
            )
            for cache, evaluation in entries
        ],
        "pairs": [
            {
                "a": a.name,
                "b": b.name,
                "overall": cast(Overall, compare(of_a, of_b)),
                "design_effect": compared_design_effects(test, of_a, of_b),
                "simultaneous": {name: found[place] for name, found in at_once.items()},
            }
            for place, ((a, of_a), (b, of_b)) in enumerate(pairs)
        ],
        "best": {
            name: [
                taggers[place].name
                for place in may_be_best(
                    [evaluation.values[path] for evaluation in evaluations],
                    at_once[name],
                    enough=enough,
                )
            ]
            for name, path in COMPARED.items()
        },
    }


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


def save_truth(out: DataFolder, truth: np.ndarray, post_ids: np.ndarray, tags: list[str]) -> None:
    """Write ground_truth.pt and validation_post_ids.txt."""
    files.save_tensors(
        out.ground_truth,
        {
            "ground_truth": torch.from_numpy(truth),
            "post_ids": torch.from_numpy(post_ids),
            "tags": tags,
        },
    )
    files.write_text(out.validation_post_ids, "".join(f"{post_id}\n" for post_id in post_ids))


def write(out: DataFolder, results: Results) -> None:
    """Write the result files."""
    files.write_text(out.detailed_metrics, text.detailed_metrics(results))
    files.write_text(out.per_tag, text.per_tag_csv(results))
    files.write_text(out.metrics, json.dumps(results))
    files.write_text(out.report, page.html(results))
