"""The audit: which pairs people are asked to judge, what they said, the figures corrected by it.

audit.json keeps what was drawn, how likely each pair was, and by which designs; the judgements come
from people and are read with suspicion. A judgement belongs to a post and a tag, not to a run, so
that later runs with other models go on using it (arena/metrics/sampling.py says why they may).
"""

import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, cast

from arena import files, jsonl
from arena.cli import UserError, warn
from arena.data_folder import DataFolder
from arena.metrics import audit, sampling
from arena.metrics.figures import Figure
from arena.metrics.sampling import Pool
from arena.posts import CATEGORIES
from arena.report import audit as page
from arena.validate import scores
from arena.validate.given import Given
from arena.validate.ground_truth import GroundTruth
from arena.validate.predictions import Cache, rows_at_once

import numpy as np

SEED = 0  # Of the pairs' permanent random numbers: never another, or earlier pairs are not reused.
VERSION = 1  # Of audit.json.
EXAMPLES = 4  # Posts with the tag, of which the page shows three: not the one that is judged.
ANSWERS = {"yes": 1.0, "no": 0.0, "unsure": None}
MAX_LINE = 10_000  # Bytes of a judgement; a tag is under 200.
MAX_NAME = 100  # Letters of what names a judge.
FEWEST = 10  # Judged pairs under which nothing is estimated.

PairKey = tuple[int, str]  # A post's ID and a tag.


class Design(TypedDict):
    """One run of --audit."""

    date: str
    models: dict[str, str]  # Name to a hash of all that decides which pairs it predicts.
    post_ids: list[int]  # The population: these posts,
    tags: list[str]  # and these tags.
    asked: int  # How many pairs were new then.
    strata: list[dict[str, Any]]  # sampling.Stratum, `model` by its name, `categories` by theirs.


class DrawnPair(TypedDict):
    """A pair that a design drew."""

    post: int
    tag: str
    probability: float  # That any of the designs draws it.


class AuditFile(TypedDict):
    """audit.json."""

    version: int
    id: str  # Random; the page keeps the judgements of different folders apart by it.
    seed: int
    designs: list[Design]
    pairs: list[DrawnPair]


class Corrected(TypedDict):
    """Figures of all pairs together, corrected."""

    precision: Figure
    pooled_recall: Figure  # Of the true pairs that a post has as a tag or that a model predicts.
    f1: Figure


class ModelAudit(Corrected):
    """One model's corrected figures."""

    name: str
    by_category: dict[str, Corrected]  # Of the categories with enough judged pairs.
    without_errors: dict[str, float] | None  # The three values with the judges' errors taken out.


class PairAudit(Corrected):
    """The first model's corrected figures minus the other's."""

    a: str
    b: str


class SiteAudit(TypedDict):
    """Shares of tags."""

    missing: Figure  # Of the true pairs of the pool, those that are no tags: a lower bound.
    wrong: Figure  # Of the tags, those that are not true.


class Agreement(TypedDict):
    """How far two people who judged the same pairs agree."""

    pairs: int  # That two people answered with yes or no.
    agreed: int
    kappa: float | None  # Cohen's.
    accuracy: float  # How often each is right, if they err alike and independently.


class Audit(TypedDict):
    """metrics.json's `audit`."""

    drawn: int  # Pairs of this run's posts, tags and models that were drawn to be judged,
    judged: int  # that somebody answered with yes or no,
    cannot_say: int  # and that nobody could answer.
    judges: int
    unknown: int  # Judgements of pairs that were never drawn, which are left out;
    repeated: int  # those that the same person judged again later;
    damaged: int  # and lines that are no judgements.
    further: int | None  # Judgements until F1's intervals are ± 0.01; None: it takes more posts.
    models: list[ModelAudit]
    pairs: list[PairAudit]
    site: SiteAudit
    site_by_category: dict[str, SiteAudit]
    agreement: Agreement | None


class Pairs(NamedTuple):
    """The pool of a run, and which post and tag each pair is: rows and columns, int (pairs,).

    The pairs are in order of row, then column.
    """

    pool: Pool
    rows: np.ndarray
    columns: np.ndarray


def draw(
    data: DataFolder,
    caches: Sequence[Cache | Given],
    truth: GroundTruth,
    tags: list[str],
    count: int,
) -> list[str]:
    """Draw `count` further pairs, write audit.json and audit.html, and say so in lines.

    Raises UserError where `count` is too small for this many models, and for a damaged audit.json.
    """
    found = read(data)
    pairs = _pairs(caches, truth, tags, np.arange(len(truth.post_ids)))  # The draw knows no other.
    pool = pairs.pool
    keys = np.array([sampling.tag_key(tag, SEED) for tag in tags], np.uint64)
    number = sampling.numbers(truth.post_ids[pairs.rows], keys[pairs.columns])
    places, _ = _known(found, pairs, truth.post_ids, tags)
    drawn = np.zeros(len(pool), bool)
    drawn[places] = True
    reached = _reached(found, caches, pairs, truth.post_ids, tags)
    try:
        sample = sampling.draw(pool, number, drawn, reached, count)
    except ValueError as error:
        raise UserError(f"--audit {count}: {error}: give a larger number") from None

    probability = {(pair["post"], pair["tag"]): pair["probability"] for pair in found["pairs"]}
    for place, threshold in zip(sample.pairs.tolist(), sample.threshold.tolist(), strict=True):
        key = int(truth.post_ids[pairs.rows[place]]), tags[pairs.columns[place]]
        probability[key] = max(threshold, probability.get(key, 0.0))
    found["pairs"] = [
        {"post": post, "tag": tag, "probability": chance}
        for (post, tag), chance in probability.items()
    ]
    found["designs"].append(
        {
            "date": date.today().isoformat(),
            "models": {cache.tagger.name: _fingerprint(cache) for cache in caches},
            "post_ids": truth.post_ids.tolist(),
            "tags": tags,
            "asked": int(sample.new.sum()),
            "strata": [_named(stratum, caches) for stratum in sample.strata],
        }
    )
    files.write_text(data.audit, json.dumps(found))
    judged = _judgements(data, set(probability)).answers.keys()
    files.write_text(data.audit_page, _page(found, judged, truth, tags))
    waiting = len(probability.keys() - judged)
    return [
        f"{data.audit_page} asks about {waiting} pairs of a post and a tag,"
        f" {int(sample.new.sum())} of them drawn now: open it in a browser, then put the file that"
        f" it saves into {data} and run the same command without --audit"
    ]


def corrected(
    data: DataFolder,
    caches: Sequence[Cache | Given],
    truth: GroundTruth,
    tags: list[str],
    clusters: np.ndarray,
) -> Audit | None:
    """The figures corrected by the judgements in the data folder, None where there are too few.

    `clusters` int (posts,) numbers from 0 the posts that belong together. Raises UserError for a
    damaged audit.json.
    """
    if not data.judgements:
        return None
    if not data.audit.exists():
        warn(f"{data.judgements[0]} is left out without {data.audit}, which says what was drawn")
        return None
    found = read(data)
    said = _judgements(data, {(pair["post"], pair["tag"]) for pair in found["pairs"]})
    said.tell()
    pairs = _pairs(caches, truth, tags, clusters)
    reached = _reached(found, caches, pairs, truth.post_ids, tags)
    again = f"run validate.py --audit with these models and posts, and judge what {data.audit_page}"
    again += " asks"
    if not reached[pairs.pool.tagged].all():
        warn(f"no corrected figures: posts or tags have come in since the last audit: {again}")
        return None
    lacking = (pairs.pool.predicted & ~reached[:, None]).any(axis=0)
    for cache, lacks in zip(caches, lacking, strict=True):
        if lacks:
            warn(f"no corrected figures of {cache.tagger.label}, which no audit was of: {again}")
    if lacking.all():
        return None
    pairs = _of_models(pairs, ~lacking)
    names = [c.tagger.name for c, lacks in zip(caches, lacking, strict=True) if not lacks]
    places, probability = _known(found, pairs, truth.post_ids, tags)
    answers: list[list[float]] = []
    cannot_say = 0
    for place in places:
        key = int(truth.post_ids[pairs.rows[place]]), tags[pairs.columns[place]]
        given = said.answers.get(key, {})
        answers.append([value for value in given.values() if value is not None])
        cannot_say += bool(given) and not answers[-1]
    judged = np.array([bool(each) for each in answers], bool)
    if judged.sum() < FEWEST:
        warn(f"no corrected figures: of {len(places)} pairs {judged.sum()} are judged, too few")
        return None
    means = np.array([np.mean(each) for each in answers if each])
    sums = audit.sums(
        pairs.pool, places[judged], probability[judged], means, categories=len(CATEGORIES)
    )
    agreement = _agreement([each[:2] for each in answers if len(each) > 1])
    ratios = audit.model_ratios(sums)
    return {
        "drawn": len(places),
        "judged": int(judged.sum()),
        "cannot_say": cannot_say,
        "judges": said.judges,
        "unknown": said.unknown,
        "repeated": said.repeated,
        "damaged": said.damaged,
        "further": audit.further(ratios, int(judged.sum())),
        "models": _models(names, sums, ratios, agreement),
        "pairs": [
            cast(PairAudit, {"a": names[a], "b": names[b], **apart})
            for a, b, apart in audit.pairs_of_models(ratios)
        ],
        "site": cast(SiteAudit, audit.site(sums)),
        "site_by_category": {
            name: cast(SiteAudit, audit.site(some)) for name, some in _by_category(sums)
        },
        "agreement": agreement,
    }


def _models(
    names: list[str],
    sums: audit.Sums,
    ratios: list[dict[str, audit.Ratio]],
    agreement: Agreement | None,
) -> list[ModelAudit]:
    by_category = {name: audit.model_ratios(some) for name, some in _by_category(sums)}
    without_errors = None
    if agreement and agreement["pairs"] >= audit.ENOUGH and agreement["accuracy"] > 0.5:
        without_errors = audit.model_ratios(audit.without_errors(sums, agreement["accuracy"]))
    return [
        cast(
            ModelAudit,
            {
                "name": name,
                **_figures(ratios[model]),
                "by_category": {key: _figures(some[model]) for key, some in by_category.items()},
                "without_errors": (
                    {key: each.value for key, each in without_errors[model].items()}
                    if without_errors
                    else None
                ),
            },
        )
        for model, name in enumerate(names)
    ]


def _figures(ratios: dict[str, audit.Ratio]) -> dict[str, Figure]:
    return {name: each.figure() for name, each in ratios.items()}


def _by_category(sums: audit.Sums) -> Iterator[tuple[str, audit.Sums]]:
    """The categories of which enough pairs are judged, with the tag and without it."""
    for number, name in enumerate(CATEGORIES):
        if some := sums.of(number):
            yield name, some


def _agreement(twice: list[list[float]]) -> Agreement | None:
    """Of pairs with two answers each."""
    if not twice:
        return None
    a, b = np.array(twice, bool).T
    agreed = int((a == b).sum())
    return {
        "pairs": len(twice),
        "agreed": agreed,
        "kappa": audit.kappa(a, b),
        "accuracy": audit.accuracy(1 - agreed / len(twice)),
    }


def _pairs(
    caches: Sequence[Cache | Given], truth: GroundTruth, tags: list[str], clusters: np.ndarray
) -> Pairs:
    """The pool of a run. Reads each tagger's predictions, one tagger at a time."""
    ids = truth.post_ids
    tagged = truth.matrix(tags)
    inside, highest = tagged.copy(), np.zeros(tagged.shape, np.uint8)
    packed = []
    for cache in caches:
        columns = scores.Columns.of(cache.tagger, tags)
        cut = columns.threshold.astype(np.float32)
        bits = []
        size = rows_at_once(len(cache.tagger.tags))
        for some, block in scores.read(cache.path, ids, size):
            of_tags = columns.scores(block)
            predicted = of_tags >= cut
            predicted[:, columns.apart] = columns.predicted(block)
            inside[some] |= predicted
            levels = (255 * of_tags).astype(np.uint8)
            np.maximum(highest[some], levels, out=highest[some])
            bits.append(np.packbits(predicted, axis=1))
        packed.append(np.concatenate(bits))
    rows, places = np.nonzero(inside)
    masks = (128 >> (places & 7)).astype(np.uint8)
    predicted = np.stack([(bits[rows, places >> 3] & masks) > 0 for bits in packed], axis=1)
    number = dict(zip(truth.tags, truth.categories, strict=True))
    category = np.array([CATEGORIES.index(number[tag]) for tag in tags])
    pool = Pool(clusters[rows], category[places], tagged[inside], predicted, highest[inside])
    return Pairs(pool, rows, places)


def _of_models(pairs: Pairs, models: np.ndarray) -> Pairs:
    """The pool of some of the models, bool (models,)."""
    pool = pairs.pool
    predicted = pool.predicted[:, models]
    some = pool.tagged | predicted.any(axis=1)
    return Pairs(
        Pool(
            pool.cluster[some],
            pool.category[some],
            pool.tagged[some],
            predicted[some],
            pool.score[some],
        ),
        pairs.rows[some],
        pairs.columns[some],
    )


def _reached(
    found: AuditFile,
    caches: Sequence[Cache | Given],
    pairs: Pairs,
    post_ids: np.ndarray,
    tags: list[str],
) -> np.ndarray:
    """Which pairs of the pool an earlier design could have drawn: bool (pairs,)."""
    reached = np.zeros(len(pairs.pool), bool)
    for design in found["designs"]:
        models = [design["models"].get(c.tagger.name) == _fingerprint(c) for c in caches]
        known = set(design["tags"])
        of_tag = np.array([tag in known for tag in tags])[pairs.columns]
        of_post = np.isin(post_ids, np.array(design["post_ids"], np.int64))[pairs.rows]
        in_pool = pairs.pool.tagged | pairs.pool.predicted[:, models].any(axis=1)
        reached |= of_tag & of_post & in_pool
    return reached


def _known(
    found: AuditFile, pairs: Pairs, post_ids: np.ndarray, tags: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """(places in the pool, probabilities) of the pairs that were drawn earlier, by place."""
    row_of = {post: row for row, post in enumerate(post_ids.tolist())}
    column_of = {tag: column for column, tag in enumerate(tags)}
    flat = pairs.rows * len(tags) + pairs.columns
    here = {
        row_of[pair["post"]] * len(tags) + column_of[pair["tag"]]: pair["probability"]
        for pair in found["pairs"]
        if pair["post"] in row_of and pair["tag"] in column_of
    }
    wanted = np.array(sorted(here), np.int64)
    places = np.minimum(np.searchsorted(flat, wanted), len(flat) - 1)
    inside = flat[places] == wanted
    probabilities = np.array([here[each] for each in wanted.tolist()], float)
    return places[inside], probabilities[inside]


def _fingerprint(cache: Cache | Given) -> str:
    """A hash of all that decides which pairs a tagger predicts: its scores and its thresholds."""
    cuts = cache.tagger.thresholds().astype(np.float32).tobytes()
    return hashlib.sha256(cache.fingerprint.encode() + cuts).hexdigest()


def _named(stratum: sampling.Stratum, caches: Sequence[Cache | Given]) -> dict[str, Any]:
    named = asdict(stratum)
    if stratum.model is not None:
        named["model"] = caches[stratum.model].tagger.name
    named["categories"] = [CATEGORIES[number] for number in stratum.categories]
    return named


def _page(found: AuditFile, judged: Any, truth: GroundTruth, tags: list[str]) -> str:
    """audit.html: all pairs drawn, in an order that says nothing of them, and posts with each tag.

    The order is that of other random numbers, so that whoever stops early has judged a random part.
    """
    pairs = [(pair["post"], pair["tag"]) for pair in found["pairs"]]
    named = sorted({tag for _, tag in pairs} & set(tags))
    carried = truth.matrix(named)
    examples = {}
    for column, tag in enumerate(named):
        having = truth.post_ids[carried[:, column]]
        order = np.argsort(_shuffle(having, tag))
        examples[tag] = having[order[:EXAMPLES]].tolist()
    order = np.argsort([_shuffle(np.array([post]), tag)[0] for post, tag in pairs])
    category = dict(zip(truth.tags, truth.categories, strict=True))
    rows = [
        [*pairs[place], category.get(pairs[place][1], ""), pairs[place] in judged]
        for place in order
    ]
    return page.html(found["id"], rows, examples)


def _shuffle(post_ids: np.ndarray, tag: str) -> np.ndarray:
    """Random numbers that have nothing to do with those that pairs are drawn by."""
    key = np.full(len(post_ids), sampling.tag_key(tag, SEED + 1), np.uint64)
    return sampling.numbers(post_ids, key)


def read(data: DataFolder) -> AuditFile:
    """audit.json, or an empty one. Raises UserError for what validate.py did not write."""
    path = data.audit
    if not path.exists():
        return {
            "version": VERSION,
            "id": secrets.token_hex(8),
            "seed": SEED,
            "designs": [],
            "pairs": [],
        }
    try:
        found = jsonl.loads(path.read_bytes())
        fine = (
            (found["version"], found["seed"]) == (VERSION, SEED)
            and isinstance(found["id"], str)
            and all(_is_design(design) for design in found["designs"])
            and all(
                jsonl.post_id(pair["post"]) is not None
                and isinstance(pair["tag"], str)
                and isinstance(pair["probability"], float)
                and 0 < pair["probability"] <= 1
                for pair in found["pairs"]
            )
        )
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        fine = False
    if not fine:
        raise UserError(
            f"{path} is not an audit that validate.py wrote: put the whole file back, or move it"
            " elsewhere, with the judgements, to begin a new one"
        )
    return cast(AuditFile, found)


def _is_design(design: Any) -> bool:
    return (
        all(isinstance(tag, str) for tag in design["tags"])
        and all(jsonl.post_id(post) is not None for post in design["post_ids"])
        and all(isinstance(value, str) for value in design["models"].values())
    )


@dataclass
class Judgements:
    """What people said: for each drawn pair each judge's answer, 1, 0 or None for `cannot say`.

    The rest counts lines that are left out, and the first reasons for it.
    """

    answers: dict[PairKey, dict[str, float | None]]
    judges: int = 0
    unknown: int = 0
    repeated: int = 0
    damaged: int = 0
    first: str = ""

    def tell(self) -> None:
        """Warn once of what is left out."""
        if self.damaged:
            warn(f"left out {self.damaged} lines that are no judgements, the first: {self.first}")
        if self.unknown:
            warn(f"left out {self.unknown} judgements of pairs that audit.json has not drawn")


class _Line(NamedTuple):
    key: PairKey
    judge: str
    time: float
    answer: float | None


def _judgements(data: DataFolder, drawn: set[PairKey]) -> Judgements:
    """All files of judgements together. Of one person's answers about a pair the latest counts."""
    said = Judgements({})
    latest: dict[tuple[PairKey, str], float] = {}
    for path in data.judgements:
        for number, text in _lines(path):
            line = _judgement(text)
            if line is None:
                said.damaged += 1
                said.first = said.first or f"{path} line {number}"
            elif line.key not in drawn:
                said.unknown += 1
            else:
                before = latest.get((line.key, line.judge))
                said.repeated += before is not None
                if before is None or line.time >= before:
                    latest[line.key, line.judge] = line.time
                    said.answers.setdefault(line.key, {})[line.judge] = line.answer
    said.judges = len({judge for _, judge in latest})
    # In the judges' order, so that which two are compared does not hang on the order of lines.
    said.answers = {key: dict(sorted(given.items())) for key, given in said.answers.items()}
    return said


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers; of one that is too long, only its beginning."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            text = line
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
            if text := (text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text).strip():
                yield number, text


def _judgement(text: bytes) -> _Line | None:
    """A line of judgements.jsonl, None for what is none."""
    try:
        found = jsonl.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    post, tag, answer = jsonl.post_id(found.get("post")), found.get("tag"), found.get("judgement")
    judge, time = found.get("judge"), found.get("time")
    if post is None or not isinstance(tag, str) or not isinstance(answer, str):
        return None
    if answer not in ANSWERS or isinstance(time, bool) or not isinstance(time, int | float):
        return None
    if not isinstance(judge, str) or not 0 < len(judge) <= MAX_NAME:
        return None
    return _Line((post, tag), judge, time, ANSWERS[answer])
