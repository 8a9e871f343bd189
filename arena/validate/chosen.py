"""The models that --models names: those of cards, and predictions files in place of models.

A predictions file is named by its path, as `datasets/org/name/a_predictions.pt[@revision]` on the
hub, or with all others of a folder or of a data set by the name of that. Where a card's files are
not to be had, its model is scored with what its predictions file in the data folder has.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from arena.cli import UserError, warn
from arena.data_folder import DataFolder
from arena.files import AbsentError
from arena.tagger import Tagger
from arena.validate import given, predictions
from arena.validate.given import SUFFIX, Given, Predicted, stem
from arena.validate.predictions import Cache
from danbooru_metadata import TagMappings

import numpy as np
import torch

DATASET = re.compile(
    rf"(datasets/[\w.-]+/[\w.-]+)(?:/(.+{re.escape(SUFFIX)}))?(?:@([\w./-]+))?", re.ASCII
)
NETWORKS = (".onnx", ".safetensors")
OfCard = Callable[[str, DataFolder, TagMappings], Tagger]


def expanded(names: Sequence[str]) -> list[str]:
    """The names with those of predictions files in place of folders and data sets of them.

    A folder with a network in it is a model's. Raises UserError for a data set without such files.
    """
    found: list[str] = []
    for name in names:
        folder = Path(name)
        if "/" in name and folder.is_dir():
            inside = sorted(path for path in folder.iterdir() if path.is_file())
            files = [str(path) for path in inside if path.name.endswith(SUFFIX)]
            model = any(path.name.endswith(NETWORKS) for path in inside)
            found += files if files and not model else [name]
        elif (match := DATASET.fullmatch(name)) and not match[2]:
            found += _listed(match[1], match[3])
        else:
            found.append(name)
    return found


def _listed(repo: str, revision: str | None) -> list[str]:
    """The names of the predictions files in a data set of the hub."""
    from arena import hub  # Here, as it takes half a second that files and folders never need.

    _, files = hub.listing(repo, revision or "main")
    at = f"@{revision}" if revision else ""
    found = [f"{repo}/{file}{at}" for file in files if file.endswith(SUFFIX)]
    if not found:
        raise UserError(f"{repo} has no file whose name ends in {SUFFIX}: see its page on the hub")
    return found


def taggers(
    names: Sequence[str], data: DataFolder, mappings: TagMappings, of_card: OfCard
) -> list[Tagger]:
    """The tagger of each name; `of_card` makes those of cards.

    Where several have one name, the first keeps it, a card before a file, and the others get the
    first letters of their fingerprint added: two checkpoints of one model are two rows. That is the
    name of the file that scores of other weights are put aside in, so such a card finds its own.
    Raises UserError where two are the same.
    """
    found = [_tagger(name, data, mappings, of_card) for name in names]
    named: dict[str, int] = {}
    for place in sorted(range(len(found)), key=lambda each: isinstance(found[each], Predicted)):
        tagger = found[place]
        other = named.get(tagger.name, place)
        if other != place and names[place] != names[other]:
            scores = _scores_of(tagger)
            if scores != _scores_of(found[other]):
                tagger = tagger.renamed(f"{tagger.name}-{scores[:16]}")
                other = named.get(tagger.name, place)
        if other != place:
            raise UserError(
                f"--models names {tagger.name} twice, as {names[other]} and as {names[place]}: name"
                " it once"
            )
        named[tagger.name], found[place] = place, tagger
    _check_apart(found, data)
    return found


def run_over(
    asked: Sequence[str], names: Sequence[str], taggers: Sequence[Tagger]
) -> list[tuple[int, str]]:
    """Of each of the taggers that are run over images its place in --models, as `asked`, and the
    name that its files have. `names` are what `expanded` made of --models."""
    pairs = zip(names, taggers, strict=True)
    return [
        (asked.index(name), tagger.name)
        for name, tagger in pairs
        if not isinstance(tagger, Predicted)
    ]


def same(
    named: Sequence[tuple[int, str]],
    asked: Sequence[str],
    data: DataFolder,
    mappings: TagMappings,
    of_card: OfCard,
) -> list[Tagger]:
    """The taggers of what `run_over` gives, from this machine's own files, whose paths may be
    others. Raises UserError where this process is asked for fewer models."""
    if any(place >= len(asked) for place, _ in named):
        raise UserError("--models names fewer models here than for process 0: name the same")
    return [of_card(asked[place], data, mappings).renamed(name) for place, name in named]


def _scores_of(tagger: Tagger) -> str:
    """The fingerprint of a file, or of a card in its first precision. Reads its weights."""
    return tagger.fingerprint(tagger.precisions[0])


def _tagger(name: str, data: DataFolder, mappings: TagMappings, of_card: OfCard) -> Tagger:
    match = None if Path(name).exists() else DATASET.fullmatch(name)
    if match:
        from arena import hub

        return given.read(hub.fetch(match[1], match[3] or "main", match[2]), mappings)
    if name.endswith(SUFFIX):
        return given.read(Path(name), mappings)
    path = data.predictions(stem(name))
    try:
        tagger = of_card(name, data, mappings)
        if path.is_file():
            _scores_of(tagger)
    except AbsentError as error:
        if not path.is_file():
            raise
        found = given.read(path, mappings)
        warn(f"{found.label} is scored with the {len(found.posts)} posts of {path}: {error}")
        return found
    return tagger


def _check_apart(found: Sequence[Tagger], data: DataFolder) -> None:
    """Raise UserError for a predictions file in which a run keeps the scores of another model."""
    cards = [tagger for tagger in found if not isinstance(tagger, Predicted)]
    for tagger in found:
        if not isinstance(tagger, Predicted):
            continue
        path = tagger.path.resolve()
        for card in cards:
            if path == data.predictions(card.name).resolve():
                raise UserError(
                    f"{tagger.path} is the file that {card.name}'s scores are kept in, which"
                    f" --models names as well: leave it out. Scores of {card.name}'s former weights"
                    f" are put aside as {card.name}-…{SUFFIX}, which can be a row of its own"
                )
            # Reads its weights, so only where it may be.
            if path.parent == data.root.resolve() and path.name.startswith(f"{card.name}-"):
                prints = [card.fingerprint(precision) for precision in card.precisions]
                if path in [data.predictions_aside(card.name, each).resolve() for each in prints]:
                    raise UserError(
                        f"{tagger.path} has scores of {card.name}'s present weights, which --models"
                        " names as well: leave it out"
                    )


def caches(
    taggers: Sequence[Tagger],
    data: DataFolder,
    device: torch.device,
    precision: str,
    post_ids: np.ndarray,
    *,
    fresh: bool = False,
    half: bool = False,
) -> list[Cache | Given]:
    """What has each tagger's scores: a cache as predictions.caches says, or the file given."""
    cards = [tagger for tagger in taggers if not isinstance(tagger, Predicted)]
    asked = data, device, precision, post_ids
    own = iter(predictions.caches(cards, *asked, fresh=fresh, half=half))
    return [Given(each) if isinstance(each, Predicted) else next(own) for each in taggers]
