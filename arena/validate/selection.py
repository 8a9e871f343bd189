"""Which posts are scored, and what is said of them."""

from collections.abc import Sequence
from pathlib import Path

from arena import posts
from arena.cli import UserError, warn
from arena.data_folder import DataFolder
from arena.tagger import Tagger
from arena.validate import ground_truth
from arena.validate.ground_truth import GroundTruth
from danbooru_metadata import TagMappings

import numpy as np


def choose_posts(
    data: DataFolder,
    taggers: Sequence[Tagger],
    mappings: TagMappings,
    limit: int,
    listed: Path | None,
    *,
    unseen_only: bool,
) -> GroundTruth:
    """The posts to score on, ids ascending: those in the file `listed`, or else the first `limit`.

    With `unseen_only`, those that no tagger may have been trained on. Warns of what is left out and
    of what may have been seen. Raises UserError where no post is left.
    """
    usable = ground_truth.usable_posts(data)
    asked = set(posts.ids(listed)) if listed else usable
    usable &= asked
    if unseen_only:
        ids = np.array(sorted(usable), dtype=np.int64)
        seen_by_any = np.any([tagger.may_have_seen(ids) for tagger in taggers], axis=0)
        usable = set(ids[~seen_by_any].tolist())
    limit = max(1, len(usable)) if listed else limit
    truth = ground_truth.read(data, usable, limit, mappings)
    if listed and (lacking := len(asked - set(truth.post_ids.tolist()))):
        warn(
            f"of the {len(asked)} posts in {listed}, {lacking} are left out, without a"
            " resized image or a line in posts.jsonl, or seen by a model: run download.py --data"
            f" {data} --post-ids {listed} and trainable.py --data {data}"
        )
    if not len(truth.post_ids):
        remedy = f"run download.py and trainable.py with --data {data}"
        if unseen_only:
            newest = max(tagger.last_post_id or 0 for tagger in taggers)
            remedy = (
                f"a model may have been trained on all that there are: download posts above"
                f" {newest}, with download.py --start-id (it goes down from there)"
            )
        raise UserError(
            f"no post with both a resized image and a line in posts.jsonl is left: {remedy}"
        )
    for tagger in taggers:
        seen = int(tagger.may_have_seen(truth.post_ids).sum())
        if tagger.last_post_id is None:
            warn(f"it is not known which posts {tagger.label} was trained on: it may be all")
        elif seen:
            warn(
                f"{tagger.label} may have been trained on {seen} of the {len(truth.post_ids)} posts"
                f" (ids up to {tagger.last_post_id}): --unseen-only leaves them out"
            )
    return truth
