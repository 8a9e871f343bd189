"""Whether a tagger is fed as its card says it should be: its settings against their neighbours.

Authors and loaders disagree about some models, and a wrong setting does not stop a network: it only
makes it worse. Labelled posts can tell.
"""

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from arena.cli import UserError, progress, say
from arena.data_folder import DataFolder
from arena.metrics import per_tag
from arena.post_ids import PostIds
from arena.tagger import ImageSettings, Network, Tagger
from arena.validate import distributed, ground_truth
from arena.validate.ground_truth import GroundTruth
from arena.validate.preprocess import geometry, normalise, preprocess
from danbooru_metadata import TagMappings

import numpy as np
import torch

POSTS = 300
MIN_COUNT = 3  # Of those posts that a tag must be on.
# A setting is called wrong where another is better by so much, and by so many standard errors.
BETTER, ERRORS = 0.01, 3.0
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
NUMBERS = {  # Scale, mean and standard deviation.
    "pixels from 0 to 255": (1.0, 0.0, 1.0),
    "pixels from 0 to 1": (1 / 255, 0.0, 1.0),
    "pixels from -1 to 1": (1 / 255, 0.5, 0.5),
}


@dataclass(frozen=True)
class Outcome:
    """What one way of feeding a tagger comes to: the average precision of each tag, (tags,)."""

    name: str
    ap: np.ndarray


def variants(settings: ImageSettings) -> dict[str, ImageSettings]:
    """The card's own settings, named `as the card says`, and each with one thing changed."""
    found = {"as the card says": settings}
    other = "rgb" if settings.channels == "bgr" else "bgr"
    found[f'channels = "{other}"'] = replace(settings, channels=other)
    if settings.pad == "stretch" and not settings.first:
        found['pad = "square"'] = replace(settings, pad="square")
    else:
        found['pad = "stretch"'] = replace(settings, pad="stretch", first=None)
        color = WHITE if settings.color == BLACK else BLACK
        found[f"color = {list(color)}"] = replace(settings, color=color)
    for name, (scale, mean, std) in NUMBERS.items():
        changed = replace(settings, scale=scale, mean=(mean,) * 3, std=(std,) * 3)
        if changed != settings:
            found[name] = changed
    return found


def check(
    data: DataFolder,
    tagger: Tagger,
    mappings: TagMappings,
    device: torch.device,
    batch_size: int,
    workers: int,
) -> list[Outcome]:
    """The average precision of a tagger under every variant, over POSTS posts spread over all.

    Raises UserError where the posts carry too few of its tags.
    """
    usable = array("q", ground_truth.usable_posts(data))
    spread = np.linspace(0, len(usable) - 1, min(POSTS, len(usable))).astype(int)
    wanted = PostIds(usable[place] for place in spread)
    # Of few posts: it asks only, and needs no folder that it may write to.
    scratch = Path(tempfile.gettempdir())
    truth = ground_truth.read(data, wanted, POSTS, mappings, scratch=scratch)
    columns, matrix = _known(tagger, truth)
    with distributed.explain_gpu_errors(), distributed.stream(device):
        network = tagger.open(device, tagger.precision(device, "auto"))
        batch = network.batch or batch_size
        chosen = variants(tagger.image)
        scores = run(data, network, batch, truth.post_ids, chosen, device, workers)
    _say_range(tagger, scores["as the card says"])
    found = [Outcome(name, _ap(each[:, columns], matrix)) for name, each in scores.items()]
    own = scores["as the card says"]
    for name, shift in (("tags one line earlier", 1), ("tags one line later", -1)):
        found.append(Outcome(name, _ap(np.roll(own, shift, axis=1)[:, columns], matrix)))
    return found


def run(
    data: DataFolder,
    network: Network,
    batch: int,
    post_ids: np.ndarray,
    chosen: dict[str, ImageSettings],
    device: torch.device,
    workers: int,
) -> dict[str, np.ndarray]:
    """A network's raw outputs, float32 (posts, outputs), under every one of the settings."""
    if network.wants_padding:
        raise UserError("--check cannot vary how a network with a mask of the padding is fed")
    wanted = {geometry(settings) for settings in chosen.values()}
    found: dict[str, list[torch.Tensor]] = {name: [] for name in chosen}
    start = distributed.start_thread
    with ThreadPoolExecutor(workers, initializer=start, initargs=(device,)) as pool:
        for some in progress(list(_batches(post_ids.tolist(), batch)), desc="check", unit="batch"):
            paths = [data.resized_image(post_id) for post_id in some]
            made = list(pool.map(lambda path: preprocess(path, wanted, device), paths))
            for each in made:
                if each.ready:
                    each.ready.synchronize()
            for name, settings in chosen.items():
                squares = [each.squares[geometry(settings)] for each in made]
                squares += squares[-1:] * (batch - len(squares))
                outputs = network.outputs(normalise(torch.stack(squares), settings))
                found[name].append(outputs[: len(some)].cpu())
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def _batches(post_ids: Sequence[int], batch: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(post_ids), batch):
        yield post_ids[start : start + batch]


def _known(tagger: Tagger, truth: GroundTruth) -> tuple[np.ndarray, np.ndarray]:
    """The outputs whose tags are on enough of the posts, and which posts those are: bool."""
    counts = dict(zip(truth.tags, truth.counts().tolist(), strict=True))
    columns = [
        place
        for place, (tag, category) in enumerate(zip(tagger.tags, tagger.categories, strict=True))
        if category != "rating" and counts.get(tag, 0) >= MIN_COUNT
    ]
    if len(columns) < 2:
        raise UserError(
            f"{len(columns)} of {tagger.name}'s tags are on {MIN_COUNT} of the"
            f" {len(truth.post_ids)} posts: download more, or see to 'tags' in its card"
        )
    return np.array(columns), truth.matrix([tagger.tags[column] for column in columns])


def _ap(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    # A setting far off may give what is no number: no order of the posts at all.
    clean = np.nan_to_num(scores, nan=0.0, posinf=1e30, neginf=-1e30).astype(np.float32)
    found: np.ndarray = per_tag(clean, truth, 0.5)["ap"]
    return found


def _say_range(tagger: Tagger, raw: np.ndarray) -> None:
    """Say where the outputs do not fit the activation, which changes no order of posts."""
    low, high = float(np.nanmin(raw)), float(np.nanmax(raw))
    inside = low >= 0 and high <= 1
    right = "none" if inside else "sigmoid"
    if right != tagger.activation:
        say(
            f'activation = "{tagger.activation}" looks wrong: the outputs are from {low:.3g} to'
            f' {high:.3g}, as of activation = "{right}"'
        )


def told(tagger: Tagger, outcomes: Sequence[Outcome]) -> list[str]:
    """A table of the variants, and which setting looks wrong."""
    own = outcomes[0]
    widest = max(len(each.name) for each in outcomes)
    lines = [f"| {'Setting'.ljust(widest)} | AP     | To the card's |"]
    lines.append(f"|{'-' * (widest + 2)}|--------|---------------|")
    for each in outcomes:
        apart = f"{each.ap.mean() - own.ap.mean():+.4f}" if each is not own else ""
        lines.append(f"| {each.name.ljust(widest)} | {each.ap.mean():.4f} | {apart.ljust(13)} |")
    best = max(outcomes, key=lambda each: each.ap.mean())
    lines.append("")
    if _is_better(best, own):
        lines.append(
            f"{tagger.name} looks wrongly fed: with {best.name} its average precision is"
            f" {best.ap.mean():.4f}, as the card says it is {own.ap.mean():.4f}"
        )
    else:
        lines.append(f"{tagger.name} is fed as well as by any of these")
    return lines


def _is_better(best: Outcome, own: Outcome) -> bool:
    """Whether an outcome is better by more than the tags' differences leave to chance."""
    apart = best.ap - own.ap
    error = apart.std(ddof=1) / np.sqrt(len(apart))
    return bool(apart.mean() > max(BETTER, ERRORS * error))
