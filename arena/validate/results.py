"""The results of a run: worked out one tagger at a time, and written as files."""

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from arena import files, jsonl
from arena.cli import UserError, progress, warn
from arena.data_folder import DataFolder
from arena.metrics import (
    Evaluation,
    TestSet,
    bootstrap,
    by_age,
    by_rating,
    compare,
    compare_tags,
    compared_design_effects,
    evaluate,
    may_be_best,
    rare,
    simultaneous,
)
from arena.metrics.blocks import Matrix, rows
from arena.metrics.formulas import chance_average_precision
from arena.metrics.mistakes import mistakes
from arena.metrics.tiles import Tiles
from arena.posts import CATEGORIES, RATINGS, site
from arena.report import page, text
from arena.report.model_index import model_index as yaml_of_card
from arena.validate import (
    audit,
    distributed,
    earlier,
    history,
    provenance,
    scores,
    speed,
    tensor_file,
)
from arena.validate.beyond import Beyond
from arena.validate.by_post import Decisions, remove_others
from arena.validate.clusters import clusters
from arena.validate.ground_truth import GroundTruth
from arena.validate.means import Scored
from arena.validate.schema import VERSION, ModelResults, Overall, Results, Shared
from arena.validate.speed import Run
from arena.validate.tag_set import TagSet, lost
from arena.validate.thumbnails import thumbnails

import numpy as np
import torch

ROWS = 1024  # Written at a time.
ENOUGH_POSTS = 100  # Fewer may look like chance by chance.
SEED = 0  # Of the bootstrap: a rerun prints the same intervals.
# Figures of which all models are compared at once.
COMPARED = {
    "f1": ("own", "macro", "f1"),
    "equal_f1": ("equal", "macro", "f1"),
    "ap": ("ap", "macro"),
}


def folder(out: DataFolder) -> DataFolder:
    """The folder of the results, which is made where there is none."""
    out.root.mkdir(parents=True, exist_ok=True)
    files.check_kinds(out)
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
    tag_set: TagSet,
    resamples: int,
    unit: str,
    device: torch.device,
    run: Run,
    out: DataFolder,
) -> tuple[Results, Decisions]:
    """Everything that the results show, one model after the other, and what each says of each post;
    their scores and the ground truth lie in scratch files in the folder `data`, which nobody else
    sees.

    Without `resamples` nothing gets an interval; `unit` is what they draw (clusters.py). Reads each
    model's predictions, and what the last run left. Saves the ground truth in the folder `out`,
    after results of another selection have been moved away.
    """
    ids, tags = ground_truth.post_ids, tag_set.common
    # Of tags that nobody knows there may be more than can be written out for every post.
    carried = ground_truth.carried(tag_set.carried)
    truth = scores.truth(data.root, carried, tag_set.carried, tags)
    last = history.last(out)
    earlier.put_aside(out, ids, [model.name for model in models], tags)
    save_truth(out, truth, ids, tags)
    category_of = dict(zip(ground_truth.tags, ground_truth.categories, strict=True))
    categories = [category_of[tag] for tag in tags]
    totals = ground_truth.tags_per_post()
    count_of = dict(zip(ground_truth.tags, ground_truth.counts().tolist(), strict=True))
    support = np.array([count_of[tag] for tag in tags])
    drawn = clusters(ground_truth, unit)
    samples = bootstrap.resamples(len(ids), resamples, SEED, drawn.of_post)
    groups = tag_set.groups[: len(tags)]
    by_post = totals, samples, drawn.of_post
    test = TestSet(truth, ids, categories, ground_truth.ratings, *by_post, groups)
    caches = [model.parts[0] for model in models if not model.mean_of]
    place_of = {cache.tagger.name: place for place, cache in enumerate(caches)}
    parts = [[place_of[part.tagger.name] for part in model.parts] for model in models]
    beyond = Beyond(data.root, parts, carried, tag_set, ground_truth.ratings, *by_post)
    seen_by = {model.name: model.may_have_seen(ground_truth) for model in models}
    wrong: list[Tiles] = []

    def evaluated(place: int, model: Scored) -> Evaluation:
        said = beyond.outputs(place, model.labels)
        held, threshold = model.scores(data.root, ids, tags, said.add)
        known = ground_truth.tags_per_post(model.vocabulary())
        found = evaluate(test, held, threshold, known)
        wrong.append(mistakes(data.root, held, truth, threshold))
        found.results["by_rating"] = by_rating(test, held, threshold)
        found.results["by_age"] = [
            {**each, **of_slice(seen_by[model.name], ground_truth, each["first"], each["last"])}
            for each in by_age(test, held, threshold)
        ]
        if not model.mean_of:
            warn_if_like_chance(model, found, support, len(ids))
        sums, more = beyond.evaluate(place, model.labels, said, found.sums)
        found = replace(found, sums=sums, influence=in_file(data, found.influence))
        found.results.update(more)
        for groups, order in (("by_category", CATEGORIES), ("by_rating", RATINGS)):
            given = found.results[groups]
            found.results[groups] = {name: given[name] for name in order if name in given}
        tuned = found.results["tuned"]["category"]
        found.results["tuned"]["category"] = {
            name: tuned[name] for name in CATEGORIES if name in tuned
        }
        return found

    shown = progress(models, desc="scoring", unit="model")
    evaluations = [evaluated(place, model) for place, model in enumerate(shown)]
    entries = zip(models, evaluations, strict=True)
    pairs = itertools.combinations(enumerate(evaluations), 2)
    names = [model.name for model in models]
    at_once = {name: simultaneous(evaluations, path) for name, path in COMPARED.items()}
    # Of a few units the spread is itself guesswork, and nobody is told from the best.
    enough = drawn.groups >= text.FEWEST
    decisions = Decisions.of(data.root, ids, truth, wrong)
    results: Results = {
        "version": VERSION,
        "created": provenance.now(),
        "command": provenance.command(data),
        "posts": {
            "count": len(ids),
            "min_id": int(ids[0]),
            "max_id": int(ids[-1]),
            "sha256": history.sha256(history.id_lines(ids)),
            "ground_truth_sha256": ground_truth.digest(),
        },
        "site": site(data),
        "tags": {
            "count": len(tags),
            "min_count": tag_set.min_count,
            "pinned": int(tag_set.pinned),
            "sha256": history.sha256(tags),
        },
        "lost_tags": [
            {"models": [names[each] for each in lacking], "category": category, "tags": count}
            for lacking, category, count in lost(tag_set)
        ],
        "moved": None,
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
                    "store": model.store,
                    "fingerprint": model.fingerprint,
                    "outputs_sha256": model.outputs_sha256,
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
                "a": names[a],
                "b": names[b],
                "overall": cast(Overall, compare(of_a, of_b)),
                "design_effect": compared_design_effects(test, of_a, of_b),
                "simultaneous": {name: found[place] for name, found in at_once.items()},
                "by_tag": compare_tags(of_a, of_b),
                "shared": cast(Shared, beyond.pair((a, of_a.sums), (b, of_b.sums))),
            }
            for place, ((a, of_a), (b, of_b)) in enumerate(pairs)
        ],
        "best": {
            name: [
                names[place]
                for place in may_be_best(
                    [evaluation.values[path] for evaluation in evaluations],
                    at_once[name],
                    enough=enough,
                )
            ]
            for name, path in COMPARED.items()
        },
        "disagreements": decisions.disagreements(),
        "audit": audit.corrected(data, caches, ground_truth, tags, drawn.of_post),
    }
    return {**results, "moved": history.moved(last, results, tags)}, decisions


def in_file(data: DataFolder, matrix: Matrix | None) -> Tiles | None:
    """A matrix (posts, columns) in a scratch file, as those of all models may not fit memory."""
    if matrix is None:
        return None
    posts, columns = matrix.shape
    found = Tiles.make(data.root, posts, columns, np.float64)
    for start in range(0, len(matrix), ROWS):
        found.write(start, rows(matrix, slice(start, min(start + ROWS, len(matrix)))))
    return found


def of_slice(seen: np.ndarray | None, truth: GroundTruth, first: int, last: int) -> dict[str, Any]:
    """What Slice says beside the figures, of the posts from one id to another. `seen` (posts,)."""
    rows = np.flatnonzero((truth.post_ids >= first) & (truth.post_ids <= last))
    return {
        "first_day": truth.day(rows[0]),
        "last_day": truth.day(rows[-1]),
        "maybe_seen": None if seen is None else int(seen[rows].sum()),
    }


def warn_if_like_chance(tagger: Scored, found: Evaluation, support: np.ndarray, posts: int) -> None:
    """Warn of a tagger that ranks posts hardly better than scores that know nothing would.

    `support` (tags,) is on how many of so many posts each tag is.
    """
    chance = float(chance_average_precision(support, posts).mean())
    reached = found.results["overall"]["ap"]["macro"]["value"]
    if posts >= ENOUGH_POSTS and reached < 2 * chance < 0.5:
        further = (
            f", and run validate.py --check {tagger.name}, which tries other settings of [image]"
        )
        warn(
            f"{tagger.name}: its average precision, {reached:.3f}, is near that of random scores,"
            f" {chance:.3f}: see whether its tags are in the order of its outputs"
            + (further if tagger.images() else "")
        )


def save_truth(out: DataFolder, truth: Tiles, post_ids: np.ndarray, tags: list[str]) -> None:
    """Write ground_truth.pt, validation_post_ids.txt and validation_tags.txt."""
    blocks = (
        truth.rows(slice(start, min(start + ROWS, len(truth))))
        for start in range(0, len(truth), ROWS)
    )
    streamed = tensor_file.Streamed(truth.shape, truth.dtype, blocks)
    contents = {"ground_truth": streamed, "post_ids": post_ids, "tags": tags}
    tensor_file.save(out.ground_truth, contents)
    with files.atomic(out.validation_post_ids) as file:
        for some in history.texts(history.id_lines(post_ids)):
            file.write(some)
    files.write_text(out.validation_tags, "".join(f"{tag}\n" for tag in tags))


def write(
    data: DataFolder, out: DataFolder, results: Results, decisions: Decisions, *, images: bool
) -> None:
    """Write the result files, and a line of history; the report with thumbnails of the posts that
    it shows if `images`."""
    files.write_text(out.detailed_metrics, text.detailed_metrics(results))
    files.write_text(out.per_tag, text.per_tag_csv(results))
    files.write_text(out.thresholds, text.thresholds_csv(results))
    files.write_text(out.metrics, json.dumps(results))
    small = thumbnails(data, out.report, results) if images else None
    # From outside of the data folder the path would tell where on a machine it is.
    root, page_at = data.root.resolve(), out.root.resolve()
    inside = page_at.is_relative_to(root)
    resized = os.path.relpath(root / data.resized.name, page_at) if inside else data.resized.name
    runs = [*history.runs(out), history.earlier_run(history.entry(results))]
    of_posts = decisions.write(out)
    files.write_text(out.report, page.html(results, of_posts, small, resized, runs))
    # The last page has needed them until now.
    remove_others(out, of_posts)
    history.append(out, results)
