#!/usr/bin/env python3
"""Run taggers over the same recent posts and score them on the tags they share.

    python validate.py
    torchrun --nproc-per-node=2 validate.py

Newer models may have been trained on the posts that download.py takes by itself. Ones that they
cannot have been trained on:

    python download.py --unseen-by joytag,wd-vit-tagger-v3 && python trainable.py
    python validate.py --models joytag,wd-vit-tagger-v3 --unseen-only

Reads posts.jsonl, metadata/ and resized/. Writes <model>_predictions.pt, ground_truth.pt,
validation_post_ids.txt, detailed_metrics.txt, per_tag.csv, thresholds.csv, metrics.json,
report.html and report_posts/, and prints the results table. A rerun runs a network only over posts
that it lacks. --audit 400 also writes audit.html, the page on which people judge tags, and
audit.json; what they save there as judgements.jsonl corrects the figures.
"""

import argparse
import json

import models
from arena.cli import run, say
from arena.report import audit as corrected
from arena.report import text
from arena.validate import (
    audit,
    check,
    chosen,
    distributed,
    exchange,
    ground_truth,
    history,
    inference,
    means,
    results,
)
from arena.validate.options import arguments
from arena.validate.selection import choose_posts
from arena.validate.tag_set import choose_tags


def main() -> None:
    """Choose taggers, posts and tags, fill the predictions, build the results, write and tell."""
    args = arguments(__doc__)
    if (answer := answered(args)) is not None:
        say(*answer)
        return
    lead = distributed.rank() == 0
    with distributed.group(), exchange.folder(args.data) as keepers:
        device = distributed.pick_device(args.device)
        mappings = distributed.from_lead(lambda: ground_truth.mappings(args.data))
        if lead:
            # First, as hours later would be late to fail.
            out = results.folder(args.out) if args.out else args.data
            singles, sums = means.split(chosen.expanded(args.models))
            taggers = chosen.taggers(singles, args.data, mappings, models.tagger)
            asked = args.data, taggers, mappings, args.posts, args.post_ids
            truth = choose_posts(*asked, unseen_only=args.unseen_only, names=singles)
            tags = choose_tags(truth, taggers, mappings, args.min_count, args.tags)
        # Of all that was chosen, the others need only what is run, and over which posts.
        post_ids, named = distributed.from_lead(
            lambda: (truth.post_ids, chosen.run_over(args.models, singles, taggers))
        )
        if not lead:
            taggers = chosen.same(named, args.models, args.data, mappings, models.tagger)
        of_run = taggers, args.data, device, args.precision, post_ids
        fresh = args.fresh and distributed.rank() in keepers
        caches = chosen.caches(*of_run, fresh=fresh, half=args.store == "half")
        ran = inference.fill(caches, post_ids, args.batch_size, args.workers, device, keepers)
        if lead:
            scored = means.scored(caches, sums)
            given = args.bootstrap, args.cluster, device, ran, out
            found, decisions = results.score(args.data, scored, truth, tags, *given)
            results.write(args.data, out, found, decisions, images=args.thumbnails)
            say("", *text.summary(found, ci=args.ci))
            if sentences := corrected.lines(found):
                say("", *sentences)
            if args.audit:
                say("", *audit.draw(args.data, caches, truth, tags.common, args.audit))
            say("", f"See {out.report}; every tag is in {out.detailed_metrics}")


def answered(args: argparse.Namespace) -> list[str] | None:
    """The lines that answer an option which only asks; None where a run is wanted."""
    if args.list_models:
        known = models.known(args.data)
        as_json = args.list_models == "json"
        return json.dumps(known, indent=2).split("\n") if as_json else text.model_table(known)
    if args.show_card:
        return models.text(args.show_card).splitlines()
    if args.model_index:
        return results.model_index(args.out or args.data, args.model_index).splitlines()
    if args.history:
        return text.history_table(history.runs(args.out or args.data), ci=args.ci)
    return check_card(args) if args.check else None


def check_card(args: argparse.Namespace) -> list[str]:
    """How a tagger does when its images are made otherwise than its card says."""
    device = distributed.pick_device(args.device)
    mappings = ground_truth.mappings(args.data)
    tagger = models.tagger(args.check, args.data, mappings)
    size = args.batch_size or inference.default_batch(device)
    found = check.check(args.data, tagger, mappings, device, size, args.workers)
    return check.told(tagger, found)


if __name__ == "__main__":
    run(main)
