#!/usr/bin/env python3
"""Run taggers over the same unseen posts and score them on the tags they share.

    python validate.py
    python validate.py --models wd-v1-4-vit-tagger-v2,joytag,wd-vit-tagger-v3 --unseen-only
    torchrun --nproc-per-node=2 validate.py

Reads posts.jsonl, metadata/ and resized/. Writes <model>_predictions.pt, ground_truth.pt,
validation_post_ids.txt, detailed_metrics.txt, per_tag.csv, metrics.json and report.html, and prints
the results table. Predictions are kept: a rerun works out only the scores it lacks.
"""

import argparse
import itertools
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from arena import files, posts
from arena.cli import Options, UserError, at_least, progress, run, say, warn
from arena.metrics import bootstrap, figures
from arena.report import text
from arena.validate import distributed, ground_truth, predictions
from arena.validate.ground_truth import GroundTruth
from danbooru_metadata import TagMappings
from models import card as cards
from models.card import ModelCard

import numpy as np
import torch

SEED = 0  # Of the bootstrap: a rerun prints the same intervals.
CPU_BATCH = 4  # On a CPU larger batches gain nothing, and a kill would lose more.


@dataclass(frozen=True)
class Vocabulary:
    """A model's outputs in order: canonical tag and category of each."""

    tags: list[str]
    categories: list[str]


def main() -> None:
    """Choose posts, fill the prediction cache, score every model, write the results."""
    args = arguments()
    if args.list_models:
        say(*model_table(args.data.root))
        return
    device = pick_device(args.device)
    chosen = chosen_models(args.models)
    lead = distributed.rank() == 0
    with distributed.group(), files.lock(args.data, "validate") if lead else nullcontext():
        mappings = ground_truth.mappings(args.data.root)
        vocabularies = [vocabulary(model, args.data.root, mappings) for model in chosen]
        ground = choose_posts(args, chosen, mappings)
        tags = common_tags(ground, vocabularies, args.min_count)
        infer(args, device, chosen, vocabularies, ground)
        if lead:
            results = score(args, chosen, vocabularies, ground, tags)
            write(args.data.root, results)
            tell(args, results)


def arguments() -> argparse.Namespace:
    """The command line."""
    options = Options(__doc__)
    options.add_argument(
        "--models",
        default="wd-v1-4-vit-tagger-v2,joytag",
        metavar="A,B",
        help="names of TOML files in models/, or paths to such files (default: %(default)s)",
    )
    options.add_argument(
        "--list-models", action="store_true", help="print what is known of each model, and stop"
    )
    options.add_argument(
        "--posts",
        type=at_least(1),
        default=32768,
        metavar="N",
        help="how many posts, lowest ids first (default: %(default)s)",
    )
    options.add_argument(
        "--post-ids", type=Path, metavar="FILE", help="exactly these posts, one id a line"
    )
    options.add_argument(
        "--unseen-only",
        action="store_true",
        help="leave out posts that a chosen model may have been trained on (default: keep them)",
    )
    options.add_argument(
        "--min-count",
        type=at_least(1),
        default=10,
        metavar="N",
        help="leave out tags on fewer posts (default: %(default)s)",
    )
    options.add_argument(
        "--batch-size",
        type=at_least(1),
        metavar="N",
        help=f"images a batch (default: 128 on a GPU, {CPU_BATCH} on a CPU)",
    )
    options.add_argument(
        "--workers",
        type=at_least(1),
        default=max(1, len(os.sched_getaffinity(0)) // distributed.local_size()),
        metavar="N",
        help="threads that decode images (default: one a CPU, here %(default)s)",
    )
    options.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="where the networks run; auto is cuda where there is one (default: %(default)s)",
    )
    options.add_argument(
        "--bootstrap",
        type=resample_count,
        default=200,
        metavar="N",
        help="resamples for the intervals, at least 100, or 0 for none (default: %(default)s)",
    )
    options.add_argument(
        "--ci", action="store_true", help="print 95%% intervals in the table (default: off)"
    )
    options.add_argument(
        "--fresh", action="store_true", help="forget the chosen models' predictions (default: off)"
    )
    args = options.parse_args()
    args.models = [name for name in args.models.split(",") if name]
    if not args.models:
        raise UserError("no model is chosen: give --models at least one name")
    return args


def chosen_models(names: list[str]) -> list[ModelCard]:
    """The cards of the models named; UserError where two would have one predictions file."""
    chosen: dict[str, ModelCard] = {}
    for name in names:
        model = cards.card(name)
        other = chosen.setdefault(model.name, model)
        if other is not model:
            if other.path.resolve() == model.path.resolve():
                raise UserError(f"--models names {model.name} twice: name it once")
            raise UserError(
                f"{other.path} and {model.path} are two models of one name, {model.name}: rename"
                " one of the files"
            )
    return list(chosen.values())


def resample_count(text: str) -> int:
    """An argparse type: 0, or enough resamples for 95% intervals."""
    count = at_least(0)(text)
    if 0 < count < 100:
        raise argparse.ArgumentTypeError(f"{count} resamples are too few: give 0 or at least 100")
    return count


def model_table(data: Path) -> list[str]:
    """The lines of the Markdown table of --list-models."""
    lines = [
        "| Name | Label | Source | Threshold | Newest training post | Cached |",
        "|------|-------|--------|-----------|----------------------|--------|",
    ]
    for name in cards.names():
        model = cards.card(name)
        source = f"{model.source}@{model.revision}" if model.revision else model.source
        source = "the data folder" if source == "." else source
        threshold = json.dumps(model.threshold).strip("{}").replace('"', "")
        cached = "yes" if cards.is_cached(model, data) else "no"
        lines.append(
            f"| {name} | {model.label} | {source} | {threshold} | {model.last_post_id} | {cached} |"
        )
    return lines


def vocabulary(model: ModelCard, data: Path, mappings: TagMappings) -> Vocabulary:
    """A model's tags, through the aliases. The ratings some models score are not tags."""
    (path,) = cards.locate(model, data, model.tags)
    names, categories = cards.read_tags(path)
    if isinstance(model.threshold, dict):
        for category in sorted(set(categories) - {"rating"} - model.threshold.keys()):
            raise UserError(
                f"{model.path}: key 'threshold' has no {category}, a category of {path.name}"
            )
    return Vocabulary([mappings.get_canonical(name) for name in names], categories)


def choose_posts(
    args: argparse.Namespace, chosen: list[ModelCard], mappings: TagMappings
) -> GroundTruth:
    """The posts to score on, ids ascending: those of --post-ids, or the first --posts."""
    folder = args.data.root / "resized"
    if not folder.is_dir():
        raise UserError(f"{folder} is missing: run trainable.py --data {args.data.root}")
    usable = {
        int(path.stem)
        for path in folder.glob("*.webp")
        if path.stem.isascii() and path.stem.isdigit()
    }
    if args.post_ids:
        asked = set(posts.ids(args.post_ids))
        usable &= asked
    newest = max(model.last_post_id for model in chosen)
    if args.unseen_only:
        usable = {post_id for post_id in usable if post_id > newest}
    limit = max(1, len(usable)) if args.post_ids else args.posts
    ground = ground_truth.read(args.data.root, usable, limit, mappings)
    if args.post_ids and (lacking := len(asked - set(ground.post_ids.tolist()))):
        warn(
            f"of the {len(asked)} posts in {args.post_ids}, {lacking} are left out, without a"
            " resized image or a line in posts.jsonl, or seen by a model: run download.py --data"
            f" {args.data.root} --post-ids {args.post_ids} and trainable.py --data {args.data.root}"
        )
    if not len(ground.post_ids):
        mend = (
            f"all are at or below {newest}, which a model may have been trained on: download newer"
            " posts with download.py --start-id"
            if args.unseen_only
            else f"run download.py and trainable.py with --data {args.data.root}"
        )
        raise UserError(
            f"no post with both a resized image and a line in posts.jsonl is left: {mend}"
        )
    for model in chosen:
        if seen := int((ground.post_ids <= model.last_post_id).sum()):
            warn(
                f"{model.label} may have been trained on {seen} of the {len(ground.post_ids)} posts"
                f" (ids up to {model.last_post_id}): --unseen-only leaves them out"
            )
    return ground


def common_tags(ground: GroundTruth, vocabularies: list[Vocabulary], min_count: int) -> list[str]:
    """The tags in every vocabulary and on at least `min_count` posts; by falling count, name."""
    known = set.intersection(*({*words.tags} - ratings_of(words) for words in vocabularies))
    if not known:
        raise UserError("the chosen models have no tag in common: choose others with --models")
    counts = dict(zip(ground.tags, ground.counts().tolist(), strict=True))
    tags = [tag for tag in known if counts.get(tag, 0) >= min_count]
    if not tags:
        raise UserError(
            f"none of the models' {len(known)} common tags is on {min_count} of the"
            f" {len(ground.post_ids)} posts: download more posts or lower --min-count"
        )
    return sorted(tags, key=lambda tag: (-counts[tag], tag))


def ratings_of(words: Vocabulary) -> set[str]:
    """The names of outputs that score a post's rating, which is no tag."""
    return {
        tag
        for tag, category in zip(words.tags, words.categories, strict=True)
        if category == "rating"
    }


def infer(
    args: argparse.Namespace,
    device: torch.device,
    chosen: list[ModelCard],
    vocabularies: list[Vocabulary],
    ground: GroundTruth,
) -> None:
    """Fill every model's predictions file with the scores it lacks."""
    batch_size = args.batch_size or (CPU_BATCH if device.type == "cpu" else 128)
    # What process 0 sees holds for all: files may appear meanwhile, or differ on another machine.
    post_ids = distributed.share(ground.post_ids)
    work = [
        predictions.plan(model, words.tags, args.data.root)
        for model, words in zip(chosen, vocabularies, strict=True)
    ]
    if args.fresh and distributed.rank() == 0:
        for each in work:
            predictions.forget(each)
    find_missing(work, post_ids)
    for alone in (False, True):
        complete = not any(len(each.missing) for each in work)
        with gpu_trouble_told():
            predictions.open_networks(work, batch_size, device)
        if distributed.rank() == 0:
            for each in work:
                cached = len(post_ids) - len(each.missing)
                where = f", {each.network.runs_on}" if each.network else ""
                count = f"{len(each.missing)} posts to run, {cached} cached"
                say(f"{each.model.label}: {count}{where}")
        with gpu_trouble_told():
            predictions.run(work, args.workers, device, alone=alone)
        distributed.barrier()
        for each in work:
            each.network = None
            if distributed.rank() == 0:
                predictions.merge(each, post_ids)
        if complete:
            return
        find_missing(work, post_ids)
        changed = sorted(set().union(*(each.missing.tolist() for each in work)))
        if not changed:
            return
        first = predictions.resized(args.data.root, changed[0])
        if not alone:
            warn(
                f"{len(changed)} images are not those that were scored (such as {first}): they"
                " changed meanwhile, or another process sees other copies; process 0 scores them"
                " again"
            )
    raise UserError(
        f"{first} and {len(changed) - 1} more images change while they are scored: wait for what"
        " writes to resized/, then run the same command again"
    )


def find_missing(work: list[predictions.Work], post_ids: np.ndarray) -> None:
    """Find which posts each model lacks, as process 0 sees it."""
    for each in work:
        lead = distributed.rank() == 0
        each.missing = distributed.share(
            predictions.lacking(each, post_ids) if lead else each.missing
        )


@contextmanager
def gpu_trouble_told() -> Iterator[None]:
    """Turn what torch raises when a GPU gives out into one line."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise UserError(
            "the GPU's memory is too small: lower --batch-size or --workers, or give fewer --models"
        ) from None
    except torch.AcceleratorError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the GPU failed ({reason}): free or mend it, or give --device cpu"
        ) from None


def pick_device(wanted: str) -> torch.device:
    """The CPU, or this process's GPU, as asked and as there is."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise UserError("--device cuda: torch finds no CUDA GPU here: give --device cpu")
    if wanted == "cpu" or not there:
        return torch.device("cpu")
    if distributed.local_rank() >= torch.cuda.device_count():
        raise UserError(
            f"there are {torch.cuda.device_count()} GPUs for more processes: give torchrun"
            f" --nproc-per-node={torch.cuda.device_count()}, or --device cpu"
        )
    torch.cuda.set_device(distributed.local_rank())
    return torch.device("cuda", distributed.local_rank())


def score(
    args: argparse.Namespace,
    chosen: list[ModelCard],
    vocabularies: list[Vocabulary],
    ground: GroundTruth,
    tags: list[str],
) -> dict[str, Any]:
    """Everything the results show, one model in memory at a time; the README has the schema."""
    ids = ground.post_ids
    matrix = ground.matrix(tags)
    save_truth(args.data.root, matrix, ids, tags)
    category_of = dict(zip(ground.tags, ground.categories, strict=True))
    categories = [category_of[tag] for tag in tags]
    weights = bootstrap.resamples(len(ids), args.bootstrap, SEED) if args.bootstrap else None

    def entry(model: ModelCard, words: Vocabulary) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        common = predictions.common_scores(
            predictions.path_of(args.data.root, model), ids, tags, thresholds(model, words)
        )
        known, total = ground.covered(set(words.tags) - ratings_of(words))
        numbers, resampled = figures.evaluate(
            common.scores,
            matrix,
            common.thresholds,
            categories=categories,
            ratings=ground.ratings,
            known=known,
            total=total,
            post_ids=ids,
            weights=weights,
            decided=common.decided,
        )
        about = {
            "name": model.name,
            "label": model.label,
            "source": model.source,
            "revision": model.revision,
            "threshold": model.threshold,
            "last_post_id": model.last_post_id,
            "maybe_seen": int((ids <= model.last_post_id).sum()),
            "vocabulary": len(words.tags),
        }
        return about | numbers, resampled

    pairs = list(zip(chosen, vocabularies, strict=True))
    scored = [entry(*pair) for pair in progress(pairs, desc="scoring", unit="model")]
    return {
        "version": 1,
        "posts": {"count": len(ids), "min_id": int(ids[0]), "max_id": int(ids[-1])},
        "tags": {"count": len(tags), "min_count": args.min_count},
        "bootstrap": {"resamples": args.bootstrap, "seed": SEED, "confidence": 0.95},
        "software": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "torch", "onnxruntime-gpu")},
        },
        "tag_names": tags,
        "tag_categories": categories,
        "tag_counts": matrix.sum(axis=0).tolist(),
        "models": [about for about, _ in scored],
        "pairs": [
            figures.compare(a["name"], a, table_a, b["name"], b, table_b)
            for (a, table_a), (b, table_b) in itertools.combinations(scored, 2)
        ],
    }


def thresholds(model: ModelCard, words: Vocabulary) -> np.ndarray:
    """The threshold of each of the model's outputs: its one number, or by the output's category.

    An output for the rating, which is no tag, is never predicted.
    """
    if not isinstance(model.threshold, dict):
        return np.full(len(words.tags), float(model.threshold))
    by_category = {"rating": np.inf, **model.threshold}
    return np.array([by_category[category] for category in words.categories])


def save_truth(data: Path, matrix: np.ndarray, post_ids: np.ndarray, tags: list[str]) -> None:
    """ground_truth.pt and validation_post_ids.txt."""
    files.save_tensors(
        data / "ground_truth.pt",
        {
            "ground_truth": torch.from_numpy(matrix),
            "post_ids": torch.from_numpy(post_ids),
            "tags": tags,
        },
    )
    lines = "".join(f"{post_id}\n" for post_id in post_ids)
    files.write_text(data / "validation_post_ids.txt", lines)


def write(data: Path, results: dict[str, Any]) -> None:
    """The result files."""
    files.write_text(data / "detailed_metrics.txt", text.detailed_metrics(results))
    files.write_text(data / "per_tag.csv", text.per_tag_csv(results))
    files.write_text(data / "metrics.json", json.dumps(results))
    files.write_text(data / "report.html", text.html(results))


def tell(args: argparse.Namespace, results: dict[str, Any]) -> None:
    """The results table, what it means, and where the files are."""
    say("", *text.markdown_table(results, ci=args.ci).split("\n"))
    if sentences := text.verdicts(results):
        say("", *sentences)
    say("", f"See {args.data.report}; every tag is in {args.data.detailed_metrics}")


if __name__ == "__main__":
    run(main)
