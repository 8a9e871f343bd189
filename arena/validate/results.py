"""The results of a run: worked out one tagger at a time, and written as files."""

import itertools
import json
from collections.abc import Sequence
from typing import Any, TypedDict, cast

from arena import files, jsonl
from arena.cli import UserError, progress, warn
from arena.data_folder import DataFolder
from arena.metrics import (
    Evaluation,
    TestSet,
    bootstrap,
    by_age,
    compare,
    compare_tags,
    evaluate,
    rare,
)
from arena.metrics.figures import Figure
from arena.metrics.formulas import chance_average_precision
from arena.posts import CATEGORIES, RATINGS
from arena.report import page, text
from arena.report.model_index import model_index as yaml_of_card
from arena.tagger import About
from arena.validate import distributed, earlier, provenance, speed
from arena.validate.ground_truth import GroundTruth
from arena.validate.means import Scored
from arena.validate.speed import Run

import numpy as np
import torch

VERSION = 2  # Of metrics.json.
ENOUGH_POSTS = 100  # Fewer may look like chance by chance.
SEED = 0  # Of the bootstrap: a rerun prints the same intervals.


class Section(TypedDict, total=False):
    """Figures at one choice of thresholds: `precision`, `recall`, `f1` and `mcc` of each mean."""

    threshold: float | None  # The one threshold; None where it differs by tag or category.
    macro: dict[str, Figure]  # The mean over tags, so that every tag counts the same.
    micro: dict[str, Figure]  # All (post, tag) pairs counted together.


class CrossFit(TypedDict):
    """Figures at thresholds fitted on one half of the posts and scored on the other half. What is
    fitted is macro F1 over the tags that share a threshold."""

    one: Section  # One threshold for all tags.
    category: Section  # One for each category of tags.
    tag: Section  # One for each tag; Tuned says for which tags it is their category's.


class Overall(TypedDict):
    """A model's figures over all posts and tags; of a pair, the first model's minus the other's."""

    own: Section  # At the model's own threshold: the headline.
    equal: Section  # At the one threshold where micro precision is nearest to micro recall.
    best: Section  # At the one threshold with the highest macro F1 on these posts: optimistic.
    per_tag_best: Section  # At each tag's best threshold on these posts: an upper bound.
    cross_fit: CrossFit
    ap: dict[str, Figure]  # Average precision, `macro` and `micro`. Needs no threshold.
    # The largest recall at which precision is at least "0.90", "0.80", and the highest precision at
    # which recall is at least "0.50": micro, so at one threshold for all tags. The latter has an
    # interval in a pair only, as `min_count`.
    recall_at_precision: dict[str, Figure]
    precision_at_recall: dict[str, Figure]
    # Macro `f1` at the own threshold and macro `ap` over the tags on at least "10", "30", "100",
    # "300" of the posts (`min_counts` says how many tags), where there are any. Differences have an
    # interval, a model's own figures have none.
    min_count: dict[str, dict[str, Figure]]
    # Means over posts, at the own threshold: `tags` given to a post, `false_tags` among them, and
    # the `f1` of the post's tags, 0 where it has none and none is given.
    per_image: dict[str, Figure]
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


class Slice(TypedDict):
    """A tenth of the posts, by id: figures at the own threshold. Macro figures, over the tags of
    the slice, compare models on it, not slices."""

    first: int  # Its lowest post id,
    last: int  # and its highest.
    first_day: str  # The days on which these were posted, 2026-01-31; empty where not known.
    last_day: str
    posts: int
    maybe_seen: int | None  # Posts of it that the model may have been trained on.
    tags: int  # Tags on any of its posts.
    macro: dict[str, Figure]
    micro: dict[str, Figure]  # With intervals for precision, recall and F1.


class Threshold(TypedDict):
    """A threshold fitted on all the posts, for all tags or those of a category."""

    threshold: float
    f1: float  # Macro F1 of these tags on the same posts: optimistic.
    cross_fit_f1: float  # Theirs where a threshold of one half of the posts meets the other half.
    positives: int  # How many (post, tag) pairs of these tags there are.


class Tuned(TypedDict):
    """Thresholds fitted on all the posts, to use the model with; `per_tag` has those of tags."""

    fewest_positives: int  # A tag on fewer posts has its category's threshold, not its own.
    one: Threshold
    category: dict[str, Threshold]


class ModelResults(About):
    """One model: what About says, and its figures. Lists by tag are in the order of `tag_names`."""

    mean_of: list[str]  # The models whose scores and thresholds it is the mean of; empty of one.
    weights: dict[str, str]  # The files of its network: name to SHA-256; of a mean, all parts'.
    tags_file: dict[str, str]  # The same of its tags file.
    parameters: int | None  # Numbers in its weights; None where the file does not tell.
    file_size: int  # Bytes of the files of its network.
    images: list[dict[str, Any]]  # The settings of its card's [image]; of a mean, each part's.
    # How its scores were made, by the runs that made them, whenever that was: what Speed says, and
    # `images_per_second`, of the network alone. One for each device and batch size, that of the
    # most posts first; none of a mean, nor where the predictions do not say.
    speed: list[dict[str, Any]]
    by_age: list[Slice]  # The oldest posts first.

    precision: str  # Of the sums that its scores come from: float32, tf32, float16 or bfloat16.
    # Posts that it may have been trained on, or on one of their family; None: it is not known.
    maybe_seen: int | None
    overall: Overall
    by_category: dict[str, Group]  # By the tag's category on the site.
    by_rating: dict[str, Group]  # By the post's rating: g, s, q, e.
    by_frequency: list[Group]  # By the number of posts that carry the tag.
    curves: dict[str, list[float]]  # `threshold`, and precision, recall, F1 there: `macro_f1` …
    calibration: list[
        dict[str, float]
    ]  # Bins: `low`, `high`, `count`, `mean_score`, `positive_rate`.
    # precision, recall, f1, ap, mcc, support; best_threshold and best_f1 on these posts;
    # tuned_threshold and tuned_f1, which differ from these for rare tags (Tuned); cross_fit_f1.
    per_tag: dict[str, list[float | None]]
    tuned: Tuned
    examples: dict[str, list[list[list[float]]]]  # Per tag up to five [post, score] of two kinds:
    # `false_alarms`, the highest scores without the tag; `misses`, the lowest with it.


class Pair(TypedDict):
    """Two models compared on the same resamples of the posts."""

    a: str  # The first model's name,
    b: str  # and the other's.
    overall: Overall  # The differences.
    by_tag: dict[str, rare.Record]  # On how many tags a is better, by `f1` and by `ap`.


class Results(TypedDict):
    """metrics.json. A figure is {"value", "low", "high"} wherever it is: its value and the ends of
    its 95% interval, null where it has none."""

    version: int  # Of this schema: VERSION.
    created: str  # When, in UTC: 2026-01-31T12:00:00Z.
    command: str  # What was typed, paths of the machine left out.
    posts: dict[str, Any]  # `count`, `min_id`, `max_id`; `sha256` of validation_post_ids.txt.
    tags: dict[str, int]  # `count` of common tags, `min_count` of posts that each is on.
    bootstrap: dict[str, float]  # `resamples`, `seed`, `confidence`.
    device: str  # Where this run's networks ran: CPU, or the GPU's name.
    run: Run  # What this run did: images a second with decoding and all models together.
    software: dict[str, str]  # Name to version.
    tag_names: list[str]  # The common tags, most common first.
    tag_categories: list[str]
    tag_counts: list[int]  # On how many of the posts each is.
    min_counts: dict[str, int]  # How many tags are on at least "10", "30", … posts.
    models: list[ModelResults]
    pairs: list[Pair]


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
        if found["version"] != VERSION:
            raise ValueError
    except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"{out} has no whole results of this version: run validate.py") from None
    return yaml_of_card(found, name)


def score(
    data: DataFolder,
    models: Sequence[Scored],
    ground_truth: GroundTruth,
    tags: list[str],
    min_count: int,
    resamples: int,
    device: torch.device,
    run: Run,
    out: DataFolder,
) -> Results:
    """Everything that the results show, with one tagger's scores in memory at a time.

    `tags` are the common tags, on at least `min_count` posts; without `resamples` nothing gets an
    interval. Reads each tagger's predictions. Saves the ground truth in the folder `out`, after
    results of another selection have been moved away.
    """
    ids = ground_truth.post_ids
    truth = ground_truth.matrix(tags)
    earlier.put_aside(out, ids, [model.name for model in models], tags)
    save_truth(out, truth, ids, tags)
    category_of = dict(zip(ground_truth.tags, ground_truth.categories, strict=True))
    categories = [category_of[tag] for tag in tags]
    totals = ground_truth.tags_per_post()
    support = truth.sum(axis=0)
    weights = bootstrap.resamples(len(ids), resamples, SEED)
    test = TestSet(truth, ids, categories, ground_truth.ratings, totals, weights)

    seen_by = {model.name: model.may_have_seen(ground_truth) for model in models}

    def evaluated(model: Scored) -> Evaluation:
        scores, threshold = model.scores(ids, tags)
        known = ground_truth.tags_per_post(model.vocabulary())
        found = evaluate(test, scores, threshold, known)
        if len(model.parts) == 1:
            warn_if_like_chance(model, found, truth)
        found.results["by_age"] = [
            {**each, **of_slice(seen_by[model.name], ground_truth, each["first"], each["last"])}
            for each in by_age(test, scores, threshold)
        ]
        for groups, order in (("by_category", CATEGORIES), ("by_rating", RATINGS)):
            given = found.results[groups]
            found.results[groups] = {name: given[name] for name in order if name in given}
        tuned = found.results["tuned"]["category"]
        found.results["tuned"]["category"] = {
            name: tuned[name] for name in CATEGORIES if name in tuned
        }
        return found

    evaluations = [evaluated(model) for model in progress(models, desc="scoring", unit="model")]
    entries = zip(models, evaluations, strict=True)
    pairs = itertools.combinations(zip(models, evaluations, strict=True), 2)
    return {
        "version": VERSION,
        "created": provenance.now(),
        "command": provenance.command(data),
        "posts": {
            "count": len(ids),
            "min_id": int(ids[0]),
            "max_id": int(ids[-1]),
            "sha256": earlier.posts_hash(ids),
        },
        "tags": {"count": len(tags), "min_count": min_count},
        "bootstrap": {"resamples": resamples, "seed": SEED, "confidence": bootstrap.CONFIDENCE},
        "device": distributed.device_name(device),
        "run": run,
        "software": provenance.software(),
        "tag_names": tags,
        "tag_categories": categories,
        "tag_counts": support.tolist(),
        "min_counts": {str(least): int((support >= least).sum()) for least in rare.MIN_COUNTS},
        "models": [
            cast(
                ModelResults,
                {
                    **model.about(),
                    **{name: said for name, said in model.origin().items() if name != "card"},
                    "mean_of": model.mean_of,
                    "images": model.images(),
                    "precision": model.precision,
                    "speed": speed.rated(model.speed()),
                    "maybe_seen": None if seen is None else int(seen.sum()),
                    **evaluation.results,
                },
            )
            for model, evaluation in entries
            for seen in [seen_by[model.name]]
        ],
        "pairs": [
            {
                "a": a.name,
                "b": b.name,
                "overall": cast(Overall, compare(of_a, of_b)),
                "by_tag": compare_tags(of_a, of_b),
            }
            for (a, of_a), (b, of_b) in pairs
        ],
    }


def of_slice(seen: np.ndarray | None, truth: GroundTruth, first: int, last: int) -> dict[str, Any]:
    """What Slice says beside the figures, of the posts from one id to another. `seen` (posts,)."""
    rows = np.flatnonzero((truth.post_ids >= first) & (truth.post_ids <= last))
    return {
        "first_day": truth.days[rows[0]],
        "last_day": truth.days[rows[-1]],
        "maybe_seen": None if seen is None else int(seen[rows].sum()),
    }


def warn_if_like_chance(tagger: Scored, found: Evaluation, truth: np.ndarray) -> None:
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
    files.write_text(out.thresholds, text.thresholds_csv(results))
    files.write_text(out.metrics, json.dumps(results))
    files.write_text(out.report, page.html(results))
