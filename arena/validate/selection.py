"""Which posts are scored, and what is said of them."""

import functools
import operator
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from arena import families, posts
from arena.cli import UserError, warn
from arena.data_folder import DataFolder
from arena.post_ids import PostIds
from arena.tagger import Tagger
from arena.validate import ground_truth
from arena.validate.given import Predicted
from arena.validate.ground_truth import GroundTruth
from danbooru_metadata import TagMappings

import numpy as np

MOST_POSTS = 15_000_000  # Of which a resample may have some more: see arena.metrics.figures.


def choose_posts(
    data: DataFolder,
    taggers: Sequence[Tagger],
    mappings: TagMappings,
    limit: int,
    listed: Path | None,
    names: Sequence[str],
    *,
    unseen_only: bool,
) -> GroundTruth:
    """The posts to score on, ids ascending: those in the file `listed`, or else the first `limit`.

    With `unseen_only`, those that no tagger may have been trained on, nor on any of their family.
    A post needs scores in each predictions file that stands for a tagger, and a resized image
    unless all are such files. Warns of what is left out, of what may have been seen and of what
    chose a checkpoint. Raises UserError where no post is left; `names` are what the user calls the
    taggers.
    """
    files = [tagger for tagger in taggers if isinstance(tagger, Predicted)]
    asked = PostIds(posts.ids(listed)) if listed else None
    if len(files) < len(taggers):
        usable = ground_truth.usable_posts(data)
        if asked is not None:
            usable &= asked
    elif asked is not None:
        usable = asked
    else:
        usable = functools.reduce(operator.or_, (file.posts for file in files))
    found = len(usable)
    links = families.links(data.posts)
    if unseen_only:
        ids = np.fromiter(usable, np.int64, len(usable))
        seen_by_any = np.any(
            [families.may_have_seen(ids, links, tagger.may_have_seen) for tagger in taggers], axis=0
        )
        usable = PostIds(map(int, ids[~seen_by_any]))
    wanted = usable
    usable = _scored_in_all(files, wanted)
    limit = max(1, len(usable)) if listed else limit
    categories = {
        tag: category
        for tagger in reversed(taggers)
        for tag, category in zip(tagger.tags, tagger.categories, strict=True)
        if category in posts.CATEGORIES
    }
    if min(len(usable), limit) > MOST_POSTS:
        raise UserError(
            f"{min(len(usable), limit)} posts are more than the {MOST_POSTS} that can be scored at"
            " once: give --posts, or a shorter list to --post-ids"
        )
    truth = replace(ground_truth.read(data, usable, limit, mappings, categories), links=links)
    _tell_not_scored(files, wanted, _last(truth, limit, usable))
    told = wanted - usable
    lack = "a resized image or " if len(files) < len(taggers) else ""
    folder = f"--data {data}"
    if asked is not None and (lacking := len(asked - told - PostIds(map(int, truth.post_ids)))):
        warn(
            f"of the {len(asked)} posts in {listed}, {lacking} are left out, without {lack}a line"
            f" in posts.jsonl, or seen by a model: run download.py {folder} --post-ids {listed}"
            f" and trainable.py {folder}"
        )
    if not len(truth.post_ids):
        remedy = f"run download.py and trainable.py with --data {data}"
        if found and not usable:
            remedy = _fetch_unseen(data, taggers, names, found)
        both = "both a resized image and " if len(files) < len(taggers) else ""
        raise UserError(f"no post with {both}a line in posts.jsonl is left: {remedy}")
    if truth.post_ids[0] > posts.OWN:  # All of them, as they ascend: no model's data has them.
        return truth
    for tagger in taggers:
        _tell_seen(tagger, truth)
        _tell_validated_on(tagger, truth.post_ids)
    return truth


def _scored_in_all(files: Sequence[Predicted], wanted: PostIds) -> PostIds:
    """Those of the wanted posts that every predictions file has scores of. Raises UserError where
    there are none, though there are wanted ones."""
    usable = functools.reduce(operator.and_, (file.posts for file in files), wanted)
    if wanted and not usable:
        least = min(files, key=lambda file: len(wanted & file.posts))
        raise UserError(
            f"none of the {len(wanted)} posts has scores in every predictions file: leave out"
            f" {least.path}, which has {len(wanted & least.posts)} of them, or take its posts"
        )
    return usable


def _last(truth: GroundTruth, limit: int, usable: PostIds) -> int | None:
    """The id of the last post where the limit, not the posts there are, makes it the last."""
    return int(truth.post_ids[-1]) if len(truth.post_ids) == limit < len(usable) else None


def _tell_not_scored(files: Sequence[Predicted], wanted: PostIds, last: int | None) -> None:
    """Warn of wanted posts, up to the id `last`, that are left out as a predictions file lacks
    them."""
    for file in files:
        if lacking := sum(last is None or post_id <= last for post_id in wanted - file.posts):
            warn(f"{lacking} posts are left out for all models: {file.path} has no scores of them")


def _fetch_unseen(
    data: DataFolder, taggers: Sequence[Tagger], names: Sequence[str], count: int
) -> str:
    """What to do where all `count` posts may have been seen."""
    if any(isinstance(tagger, Predicted) for tagger in taggers):
        return (
            f"a model may have been trained on each of the {count}, and a predictions file has"
            " scores of no others: leave out --unseen-only"
        )
    limiting = [
        name for name, tagger in zip(names, taggers, strict=True) if tagger.last_post_id is not None
    ]
    folder = shlex.quote(str(data))
    return (
        f"a model may have been trained on each of the {count}: run download.py --unseen-by"
        f" {shlex.quote(','.join(limiting))} --data {folder}, then trainable.py --data {folder}"
    )


def _tell_seen(tagger: Tagger, truth: GroundTruth) -> None:
    """Warn of posts that a tagger may have been trained on, itself or by their family."""
    found = ground_truth.may_have_seen(tagger, truth)
    if found is None:
        warn(f"it is not known which posts {tagger.label} was trained on: it may be all")
    elif seen := int(found.sum()):
        related = seen - int(tagger.may_have_seen(truth.post_ids).sum())
        family = (
            f"; {related} of them only because of a parent, child or sibling" if related else ""
        )
        warn(
            f"{tagger.label} may have been trained on {seen} of the {len(truth.post_ids)} posts"
            f" (ids up to {tagger.last_post_id}{family}): --unseen-only leaves them out"
        )


def _tell_validated_on(tagger: Tagger, post_ids: np.ndarray) -> None:
    """Warn of posts that a tagger was not trained on but that chose its checkpoint or threshold."""
    about = tagger.about()
    if about["validated_on"] is None:
        return
    first, last = about["validated_on"]
    newest = np.inf if tagger.last_post_id is None else tagger.last_post_id
    rest = post_ids % 1000
    count = int(((post_ids <= newest) & (first <= rest) & (rest <= last)).sum())
    if count:
        warn(
            f"{count} of the {len(post_ids)} posts (id % 1000 from {first} to {last}) may have"
            f" chosen {tagger.label}'s checkpoint or threshold, though it was not trained on them:"
            " that favours it slightly, and they are not left out"
        )
