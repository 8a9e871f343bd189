#!/usr/bin/env python3
"""Run taggers over the same recent posts and score them on the tags they share.

    python validate.py
    torchrun --nproc-per-node=2 validate.py

Newer models may have been trained on the posts that download.py takes by itself. Ones that they
cannot have been trained on:

    python download.py --unseen-by joytag,wd-vit-tagger-v3 && python trainable.py
    python validate.py --models joytag,wd-vit-tagger-v3 --unseen-only

Reads posts.jsonl, metadata/ and resized/. Writes <model>_predictions.pt, ground_truth.pt,
validation_post_ids.txt, detailed_metrics.txt, per_tag.csv, metrics.json and report.html, and prints
the results table. Predictions are kept: a rerun runs a network only over posts that it lacks.
--audit 400 also writes audit.html, the page on which people judge tags, and audit.json; what they
save there as judgements.jsonl corrects the figures.
"""

import argparse
import json
import os
from contextlib import nullcontext

import models
from arena import files
from arena.cli import Options, at_least, names, run, say
from arena.report import audit as corrected
from arena.report import text
from arena.validate import audit, check, distributed, ground_truth, inference, predictions, results
from arena.validate.selection import choose_posts

import torch


def main() -> None:
    """Choose taggers, posts and tags, fill the predictions, build the results, write and tell."""
    args = arguments()
    if args.list_models:
        known = models.known(args.data)
        as_json = args.list_models == "json"
        say(*json.dumps(known, indent=2).split("\n") if as_json else text.model_table(known))
        return
    if args.show_card:
        say(*models.text(args.show_card).splitlines())
        return
    device = distributed.pick_device(args.device)
    lead = distributed.rank() == 0
    if args.check:
        check_card(args, device)
        return
    with distributed.group(), files.lock(args.data, "validate") if lead else nullcontext():
        mappings = ground_truth.mappings(args.data)
        taggers = models.taggers(args.models, args.data, mappings)
        chosen = args.posts, args.post_ids, args.models
        truth = choose_posts(args.data, taggers, mappings, *chosen, unseen_only=args.unseen_only)
        tags = ground_truth.common_tags(truth, taggers, args.min_count)
        # What process 0 sees holds for all: files may appear meanwhile.
        post_ids = distributed.share(truth.post_ids)
        caches = predictions.caches(
            taggers, args.data, device, args.precision, post_ids, fresh=args.fresh
        )
        inference.fill(caches, post_ids, args.batch_size, args.workers, device)
        if lead:
            found = results.score(caches, truth, tags, args.min_count, args.bootstrap, device)
            results.write(args.data, found)
            say("", *text.markdown_table(found, ci=args.ci).split("\n"))
            for sentences in filter(None, (text.verdicts(found), corrected.lines(found))):
                say("", *sentences)
            if args.audit:
                say("", *audit.draw(caches, truth, tags, args.audit))
            every = args.data.detailed_metrics
            say("", f"See {args.data.report}; every tag is in {every}")


def check_card(args: argparse.Namespace, device: torch.device) -> None:
    """Say how a tagger does when its images are made otherwise than its card says."""
    mappings = ground_truth.mappings(args.data)
    tagger = models.tagger(args.check, args.data, mappings)
    size = args.batch_size or inference.default_batch(device)
    found = check.check(args.data, tagger, mappings, device, size, args.workers)
    say(*check.told(tagger, found))


def arguments() -> argparse.Namespace:
    """The command line."""
    options = Options(__doc__)
    add, number = options.value, options.number
    add(
        "--models",
        "A,B",
        "names in models/, paths of TOML files, folders, or org/name[@revision] on the hub",
        "wd-v1-4-vit-tagger-v2,joytag",
        type=names,
    )
    options.add_argument(
        "--list-models",
        nargs="?",
        const="table",
        choices=["table", "json"],
        help="print what is known of each model, and stop; json is for programs (default: off)",
    )
    add("--audit", "N", "ask people about N tags of posts; alone: 400", type=at_least(1), alone=400)
    add("--show-card", "NAME", "print the TOML that a model is run by, and stop")
    number("--posts", 1, 32768, "how many posts, lowest ids first")
    add("--check", "NAME", "compare a model's image settings with others on 300 posts, and stop")
    options.path("--post-ids", "FILE", "exactly these posts, one id a line")
    options.flag("--unseen-only", "leave out posts that a chosen model may have been trained on")
    number("--min-count", 1, 10, "leave out tags on fewer posts")
    batches = (
        f"images a batch (default: {inference.GPU_BATCH} on a GPU, {inference.CPU_BATCH} on a CPU)"
    )
    number("--batch-size", 1, None, batches)
    cores = max(1, len(os.sched_getaffinity(0)) // distributed.local_size())
    number("--workers", 1, cores, "threads that decode images", shown="one a CPU, here %(default)s")
    options.choice(
        "--device",
        ["auto", "cpu", "cuda"],
        "where the networks run; auto is cuda where there is one",
    )
    options.choice(
        "--precision",
        ["auto", "float32", "half"],
        "of the networks' sums; auto is half on a GPU and float32 on a CPU",
    )
    add(
        "--bootstrap",
        "N",
        "resamples for the intervals, at least 100, or 0 for none",
        200,
        type=resample_count,
    )
    options.flag("--ci", "print 95%% intervals in the table")
    options.flag("--fresh", "forget the chosen models' predictions")
    return options.parse_args()


def resample_count(text: str) -> int:
    """An argparse type: 0, or enough resamples for 95% intervals."""
    count = at_least(0)(text)
    if 0 < count < 100:
        raise argparse.ArgumentTypeError(f"{count} resamples are too few: give 0 or at least 100")
    return count


if __name__ == "__main__":
    run(main)
