"""The results of a run: worked out one tagger at a time, and written as files."""

import itertools
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from arena import files
from arena.cli import progress
from arena.data_folder import DataFolder
from arena.metrics import Evaluation, TestSet, bootstrap, compare, evaluate
from arena.posts import CATEGORIES, RATINGS
from arena.report import page, text
from arena.tagger import Tagger, vocabulary
from arena.validate.ground_truth import GroundTruth
from arena.validate.predictions import common_scores

import numpy as np
import torch

SEED = 0  # Of the bootstrap: a rerun prints the same intervals.


def score(
    data: DataFolder,
    taggers: Sequence[Tagger],
    ground_truth: GroundTruth,
    tags: list[str],
    *,
    min_count: int,
    resamples: int,
) -> dict[str, Any]:
    """Everything that the results show, with one tagger's scores in memory at a time.

    `tags` are the common tags, on at least `min_count` posts; without `resamples` nothing gets an
    interval. Reads each tagger's predictions. Saves the ground truth.
    """
    ids = ground_truth.post_ids
    truth = ground_truth.matrix(tags)
    save_truth(data, truth, ids, tags)
    category_of = dict(zip(ground_truth.tags, ground_truth.categories, strict=True))
    categories = [category_of[tag] for tag in tags]
    totals = np.diff(ground_truth.starts)
    weights = bootstrap.resamples(len(ids), resamples, SEED)
    test = TestSet(truth, ids, categories, ground_truth.ratings, totals, weights)

    def evaluated(tagger: Tagger) -> Evaluation:
        scores, threshold = common_scores(
            data.predictions(tagger.name), ids, tags, tagger.thresholds()
        )
        known, _ = ground_truth.covered(vocabulary(tagger))
        found = evaluate(test, scores, threshold, known)
        for groups, order in (("by_category", CATEGORIES), ("by_rating", RATINGS)):
            given = found.results[groups]
            found.results[groups] = {name: given[name] for name in order if name in given}
        return found

    evaluations = [evaluated(tagger) for tagger in progress(taggers, desc="scoring", unit="model")]
    entries = zip(taggers, evaluations, strict=True)
    pairs = itertools.combinations(zip(taggers, evaluations, strict=True), 2)
    return {
        "version": 2,
        "posts": {"count": len(ids), "min_id": int(ids[0]), "max_id": int(ids[-1])},
        "tags": {"count": len(tags), "min_count": min_count},
        "bootstrap": {"resamples": resamples, "seed": SEED, "confidence": bootstrap.CONFIDENCE},
        "software": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "torch", "onnxruntime-gpu")},
        },
        "tag_names": tags,
        "tag_categories": categories,
        "tag_counts": truth.sum(axis=0).tolist(),
        "models": [
            {
                **tagger.about(),
                "maybe_seen": int(tagger.may_have_seen(ids).sum()),
                **evaluation.results,
            }
            for tagger, evaluation in entries
        ],
        "pairs": [
            {"a": a.name, "b": b.name, "overall": compare(of_a, of_b)}
            for (a, of_a), (b, of_b) in pairs
        ],
    }


def save_truth(data: DataFolder, truth: np.ndarray, post_ids: np.ndarray, tags: list[str]) -> None:
    """Write ground_truth.pt and validation_post_ids.txt."""
    files.save_tensors(
        data.ground_truth,
        {
            "ground_truth": torch.from_numpy(truth),
            "post_ids": torch.from_numpy(post_ids),
            "tags": tags,
        },
    )
    files.write_text(data.validation_post_ids, "".join(f"{post_id}\n" for post_id in post_ids))


def write(data: DataFolder, results: dict[str, Any]) -> None:
    """Write the result files."""
    files.write_text(data.detailed_metrics, text.detailed_metrics(results))
    files.write_text(data.per_tag, text.per_tag_csv(results))
    files.write_text(data.metrics, json.dumps(results))
    files.write_text(data.report, page.html(results))
