"""The schema of metrics.json."""

from typing import Any, TypedDict

from arena.metrics import rare
from arena.metrics.figures import Figure
from arena.tagger import About
from arena.validate.audit import Audit
from arena.validate.by_post import Disagreement
from arena.validate.history import Moved
from arena.validate.speed import Run

VERSION = 2  # Of the schema.


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
    """Figures of some tags or posts at the own threshold, with `ap` under `macro`. Of a rating only
    micro precision, recall and F1 have intervals."""

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


class AllTags(TypedDict, total=False):
    """A model at its own threshold against all tags of the posts, of any vocabulary: a tag that it
    does not know counts as missed, with precision, recall and F1 0."""

    tags: int  # The posts' tags on at least `min_count` posts, over which the means are,
    known: int  # and how many of them it knows.
    macro: dict[str, Figure]  # `precision`, `recall`, `f1`: their means.
    micro: dict[str, Figure]  # All pairs of a post and a tag, however rare or unknown the tag.
    by_category: dict[str, "AllTags"]  # The same by the tag's category, without `micro`.


class Ratings(TypedDict):
    """How a model rates the posts: by the highest score. Posts without a rating are left out."""

    # g, s, q, e; or gs, q, e for a model of the site's three ratings until 2022, for which general
    # and sensitive posts are one. Not to be compared with models of four.
    names: list[str]
    posts: int  # Posts that have a rating.
    accuracy: Figure  # The share of them that it gives their rating.
    macro_f1: Figure  # The mean F1 of the ratings that the posts have.
    confusion: list[list[int]]  # By the post's rating, then by the model's: how many posts.


class ModelResults(About):
    """One model: what About says, and its figures. Lists by tag are in the order of `tag_names`."""

    mean_of: list[str]  # The models whose scores and thresholds it is the mean of; empty of one.
    weights: dict[str, str]  # The files of its network: name to SHA-256; of a mean, all parts'.
    tags_file: dict[str, str]  # The same of its tags file.
    parameters: int | None  # Numbers in its weights; None where the file does not tell.
    file_size: int  # Bytes of the files of its network.
    # The settings of its card's [image]; of a mean, each part's; none of a predictions file.
    images: list[dict[str, Any]]
    # How its scores were made, by the runs that made them, whenever that was: what Speed says, and
    # `images_per_second`, of the network alone. One for each device and batch size, that of the
    # most posts first; none of a mean, nor where the predictions do not say.
    speed: list[dict[str, Any]]
    by_age: list[Slice]  # The oldest posts first.

    precision: str  # Of the sums that its scores come from: float32, tf32, float16 or bfloat16.
    store: str  # What its scores are kept in: float32, or float16 with --store half.
    fingerprint: str  # A hash of all that decides its scores: weights, image settings, precision.
    outputs_sha256: str  # Of its outputs' tags, after aliases, and thresholds.
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
    # precision, recall, f1, ap, mcc, support; best_threshold and best_f1 on these posts;
    # tuned_threshold and tuned_f1, which differ from these for rare tags (Tuned); cross_fit_f1.
    per_tag: dict[str, list[float | None]]
    tuned: Tuned
    all_tags: AllTags
    ratings: Ratings | None  # None where it does not rate, or no post has a rating.
    score_histogram: dict[str, list[list[int]]]  # Per tag the scores in 32 bins from 0 to 1:
    # `positive` of posts with the tag, `negative` without.
    examples: dict[str, list[list[list[float]]]]  # Per tag up to five [post, score] of two kinds:
    # `false_alarms`, the highest scores without the tag; `misses`, the lowest with it.


class Shared(TypedDict, total=False):
    """Two models, each at its own threshold, on the tags that both know and that are on at least
    `min_count` posts, whatever the other models of the run know."""

    tags: int
    a: dict[str, dict[str, Figure]]  # The first model's `macro`: `precision`, `recall`, `f1`, `ap`,
    b: dict[str, dict[str, Figure]]  # the other's,
    difference: dict[str, dict[str, Figure]]  # and the first's minus the other's.
    by_category: dict[str, "Shared"]  # The same by the tag's category.


class Pair(TypedDict):
    """Two models compared on the same resamples of the posts."""

    a: str  # The first model's name,
    b: str  # and the other's.
    overall: Overall  # The differences on the common tags.
    design_effect: dict[str, float | None]  # Of the differences, as a model's.
    # The difference in macro `f1` at the own threshold, in macro F1 where precision equals recall
    # (`equal_f1`) and in macro `ap`, with the interval that holds for all pairs at once in 95% of
    # cases: what verdicts on more than two models go by.
    simultaneous: dict[str, Figure]
    by_tag: dict[str, rare.Record]  # On how many tags a is better, by `f1` and by `ap`.
    shared: Shared


class LostTags(TypedDict):
    """Tags of one category, on at least `min_count` posts, that some models know and that are not
    common because of others."""

    models: list[str]  # The names of all models that do not know them.
    category: str
    tags: int  # How many.


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
    created: str  # When, in UTC: 2026-01-31T12:00:00Z.
    command: str  # What was typed, paths of the machine left out.
    # `count`, `min_id`, `max_id`; `sha256` of validation_post_ids.txt, and `ground_truth_sha256` of
    # how many posts carry each tag.
    posts: dict[str, Any]
    site: str | None  # The address of the site of the posts; None for a stand-in.
    # `count` of common tags, `min_count` of posts that each is on; `pinned`: 1 for a list given by
    # --tags, whose tags may be on fewer, else 0; `sha256` of validation_tags.txt.
    tags: dict[str, Any]
    lost_tags: list[LostTags]  # What the common tags lost and to whom, most first.
    moved: Moved | None  # What other common tags did since the last run; None for the same ones.
    bootstrap: Bootstrap
    device: str  # Where this run's networks ran: CPU, or the GPU's name.
    run: Run  # What this run did: images a second with decoding and all models together.
    software: dict[str, str]  # Name to version.
    tag_names: list[str]  # The common tags, most common first.
    tag_categories: list[str]
    tag_counts: list[int]  # On how many of the posts each is.
    min_counts: dict[str, int]  # How many tags are on at least "10", "30", … posts.
    models: list[ModelResults]
    pairs: list[Pair]
    # The names of the models that cannot be told from the best, which comes first, by the figures
    # of `simultaneous`: by the intervals there, or all without any.
    best: dict[str, list[str]]
    # Up to 100 posts: those with the most differences between the models, the most first; of one
    # model those with a tag on which its F1 is lowest.
    disagreements: list[Disagreement]
    audit: Audit | None  # The figures corrected by people's judgements; None: there are none.
