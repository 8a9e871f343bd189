"""Which tags models are scored on: the common ones, those of a list, and what is beyond them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from arena.cli import UserError, warn
from arena.tagger import Tagger, vocabulary
from arena.validate.ground_truth import GroundTruth
from danbooru_metadata import TagMappings

import numpy as np

USUAL_TAGS = 20  # The most common tags of the posts, most of which every tagger knows.
SHOWN = 3  # Tags that an error names.


class Kind(NamedTuple):
    """What the tags of one group have in common: which of the taggers know them, in order; their
    category; and whether they are on at least --min-count posts."""

    known: tuple[bool, ...]
    category: str
    frequent: bool

    def known_to(self, model: Sequence[int]) -> bool:
        """Whether any of these taggers, by their places, knows them."""
        return any(self.known[tagger] for tagger in model)


@dataclass(frozen=True)
class TagSet:
    """The tags of a run.

    `common` are those that the headline figures are over, most common first: every tagger knows
    them. `further` are all others that any tagger knows, on at least `min_count` posts, and
    `carried` all that any tagger knows and any post carries. `groups` int (common and further
    tags,) is the number in `kinds` of each one's kind. `frequent` counts by category the posts'
    tags on at least `min_count` posts, known to a tagger or not. `pinned`: `common` is a list that
    the user gave.
    """

    common: list[str]
    further: list[str]
    carried: list[str]
    groups: np.ndarray
    kinds: list[Kind]
    frequent: dict[str, int]
    min_count: int
    pinned: bool

    def wanted(self, *models: Sequence[int], category: str | None = None) -> np.ndarray:
        """The groups of frequent tags, of one category or of all, that all these models know: each
        is given by the places of the taggers that it is made of."""
        return np.array(
            [
                number
                for number, kind in enumerate(self.kinds)
                if kind.frequent
                and all(kind.known_to(model) for model in models)
                and category in (None, kind.category)
            ],
            dtype=int,
        )


def choose_tags(
    truth: GroundTruth,
    taggers: Sequence[Tagger],
    mappings: TagMappings,
    min_count: int,
    listed: Path | None,
) -> TagSet:
    """The tags to score on: those of the file `listed`, or else those that every tagger knows and
    at least `min_count` posts carry. Of tags on equally many posts the first by name comes first.

    Raises UserError for none, and for a listed tag that a tagger lacks or no post carries.
    """
    counts = dict(zip(truth.tags, truth.counts().tolist(), strict=True))
    category_of = dict(zip(truth.tags, truth.categories, strict=True))
    known = [vocabulary(tagger) for tagger in taggers]
    if not listed and not set.intersection(*known):
        raise UserError("the chosen models have no tag in common: choose others with --models")
    for tagger in taggers:
        _check_vocabulary(tagger, counts)
    if listed:
        chosen = _pinned(listed, taggers, known, mappings, counts)
    else:
        chosen = _common(set.intersection(*known), counts, min_count, len(truth.post_ids))
    frequent = {tag for tag, count in counts.items() if count >= min_count}
    common = sorted(chosen, key=lambda tag: (-counts[tag], tag))
    further = sorted((frequent & set().union(*known)) - chosen)
    number_of: dict[Kind, int] = {}
    groups = []
    for tag in [*common, *further]:
        kind = Kind(tuple(tag in tags for tags in known), category_of[tag], tag in frequent)
        groups.append(number_of.setdefault(kind, len(number_of)))
    return TagSet(
        common,
        further,
        sorted(tag for tag in set().union(*known) if counts.get(tag)),
        np.array(groups),
        list(number_of),
        dict(Counter(category_of[tag] for tag in frequent)),
        min_count,
        listed is not None,
    )


def _common(both: set[str], counts: Mapping[str, int], min_count: int, posts: int) -> set[str]:
    """Those of the tags that all know which are on at least `min_count` posts, or UserError."""
    tags = {tag for tag in both if counts.get(tag, 0) >= min_count}
    if not tags:
        raise UserError(
            f"none of the models' {len(both)} common tags is on {min_count} of the {posts} posts:"
            " lower --min-count, raise --posts, or download more"
        )
    return tags


def _pinned(
    path: Path,
    taggers: Sequence[Tagger],
    known: Sequence[set[str]],
    mappings: TagMappings,
    counts: Mapping[str, int],
) -> set[str]:
    """The tags of a list, each of which every tagger knows and a post carries. Or UserError."""
    names = read(path)
    canonical = {mappings.get_canonical(name): name for name in reversed(names)}
    for tagger, tags in zip(taggers, known, strict=True):
        if lacking := [name for tag, name in canonical.items() if tag not in tags]:
            raise UserError(
                f"{tagger.name} does not know {_some(lacking)} of the {len(canonical)} tags in"
                f" {path}: take them out, or leave out {tagger.name}"
            )
    if unused := [name for tag, name in canonical.items() if not counts.get(tag)]:
        raise UserError(
            f"{_some(unused)} of the {len(canonical)} tags in {path} are on none of the posts: take"
            " them out, or take other posts"
        )
    return set(canonical)


def read(path: Path) -> list[str]:
    """The tags of a file with one a line. Raises UserError that says what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"there is no file {path}: give one with a tag a line") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8 with one tag a line") from None
    tags = [tag for line in text.splitlines() if (tag := line.strip())]
    if not tags:
        raise UserError(f"{path} has no tag in it: give a file with one a line")
    return tags


def _some(tags: Sequence[str]) -> str:
    """How many tags, and the first few."""
    shown = ", ".join(f"'{tag[:40]}'" for tag in sorted(tags)[:SHOWN])
    return f"{len(tags)} ({shown}{', …' if len(tags) > SHOWN else ''})"


def _check_vocabulary(tagger: Tagger, counts: dict[str, int]) -> None:
    """Raise UserError for a tagger that knows no tag of the posts, and warn where it is like that.

    Most of a vocabulary may be on none of a few posts; but then the posts' usual tags are in it.
    """
    known = sorted(vocabulary(tagger))
    absent = [tag for tag in known if not counts.get(tag)]
    usual = sorted(counts, key=lambda tag: -counts[tag])[:USUAL_TAGS]
    unknown = [tag for tag in usual if tag not in known]
    examples = ", ".join(f"'{tag}'" for tag in absent[:3])
    if len(absent) == len(known):
        raise UserError(
            f"none of {tagger.name}'s {len(known)} tags (such as {examples}) is on any of the"
            f" posts: {tagger.remedy('tags')}"
        )
    if 2 * len(absent) > len(known) and 2 * len(unknown) > len(usual):
        missed = ", ".join(f"'{tag}'" for tag in unknown[:3])
        warn(
            f"{tagger.name}: {len(absent)} of its {len(known)} tags are on none of the posts (such"
            f" as {examples}), and it lacks usual ones ({missed}): {tagger.remedy('tags')}"
        )


class Lost(NamedTuple):
    """Frequent tags that are not common as some taggers, by their place, lack them."""

    taggers: tuple[int, ...]
    category: str
    tags: int


def lost(tags: TagSet) -> list[Lost]:
    """What the common set lost and to whom, most tags first."""
    counts: Counter[tuple[tuple[int, ...], str]] = Counter()
    for group in tags.groups[len(tags.common) :]:
        kind = tags.kinds[group]
        lacking = tuple(place for place, knows in enumerate(kind.known) if not knows)
        if lacking:  # A tag that all know is out as the user's list has it not.
            counts[lacking, kind.category] += 1
    return [Lost(*key, count) for key, count in counts.most_common()]
