"""Figures beyond the tags that all models know: of two models on the tags that both know, and of
one model against all tags of the posts. All are at the models' own thresholds.

A tag that a model does not know is one that it never predicts: its precision, recall and F1 are 0.
"""

from collections.abc import Sequence
from typing import Any

from arena.metrics import bootstrap
from arena.metrics.blocks import Array, Matrix, by_tags
from arena.metrics.bootstrap import Samples
from arena.metrics.figures import Figure, figure, has_interval
from arena.metrics.formulas import f1, safe_divide
from arena.metrics.tag_groups import FIGURES, Sums

import numpy as np
import torch

MACRO = ("own", "macro")  # Where the means over tags stand in a model's figures.


def count(
    group: Array, predicted: Matrix, truth: Matrix, samples: Samples, clusters: Array, ap: Array
) -> Sums:
    """Sums over tags that are not common, from where they are predicted and where they are.

    `predicted` and `truth` are bool (posts, tags), `group` int (tags,), `clusters` (posts,) those
    that the `samples` draw, and `ap` float64 (tags, samples).
    """
    tags, width = len(group), samples.count
    weights = torch.from_numpy(samples.weights.astype(np.float32))  # Counts every post exactly.
    support, tp, all_predicted = np.zeros((3, tags, width))

    def block(part: slice, predicted: Array, truth: Array) -> bootstrap.Predicted:
        given = predicted > 0
        support[part] = _weighed(truth, samples.unit, weights)
        tp[part] = _weighed(given & truth, samples.unit, weights)
        all_predicted[part] = _weighed(given, samples.unit, weights)
        return bootstrap.Predicted.of(given, truth, clusters)

    once = bootstrap.Predicted.joined([found for _, found in by_tags(predicted, truth, block)])
    return Sums.of(group, support, tp, all_predicted, ap, once, {})


def _weighed(where: Array, unit: Array, weights: torch.Tensor) -> Array:
    """The weights (units, samples) added up over the posts of each row of `where` (tags, posts)."""
    rows, posts = np.nonzero(where)
    starts = torch.from_numpy(np.searchsorted(rows, np.arange(len(where))).astype(np.int32))
    found: Array = torch.nn.functional.embedding_bag(
        torch.from_numpy(unit[posts]), weights, starts, mode="sum"
    ).numpy()
    return found


def macro(sums: Sums, wanted: Array, tags: int) -> dict[str, Array]:
    """FIGURES as means over `tags` tags, (samples,) each, of which those in the groups numbered
    `wanted` have figures and all others 0. 0 for no tags.

    The resamples are widened as those of the common tags are: of precision by what these tags miss,
    of the others as the sums say.
    """
    chosen = np.isin(sums.groups, wanted)
    found = dict(zip(FIGURES, sums.figures[:, chosen].sum(axis=1) / max(1, tags), strict=True))
    for name, factor in sums.wider.items():
        found[name][1:] = bootstrap.scaled(found[name][1:], factor)
    precision = found["precision"]
    if len(precision) > 2 and has_interval((*MACRO, "precision"), tags):
        inside = np.isin(sums.group, wanted)
        # The tags without figures are predicted nowhere.
        nowhere = np.zeros(tags - int(inside.sum()), np.int64)
        every = (np.concatenate([each[inside], nowhere]) for each in sums.predicted)
        missed = bootstrap.missed_variance(bootstrap.Predicted(*every))
        found["precision"] = np.append(precision[0], bootstrap.widened(precision[1:], missed))
    return found


def _figures(found: dict[str, Array], tags: int, names: Sequence[str]) -> dict[str, Figure]:
    return {
        name: figure(
            found[name][0], found[name][1:] if has_interval((*MACRO, name), tags) else None
        )
        for name in names
    }


def shared(a: Sums, b: Sums, wanted: Array) -> dict[str, Any]:
    """Two models on the tags of the groups numbered `wanted`, which both know.

    `tags` is how many; `a`, `b` and `difference`, a's minus b's, have FIGURES with intervals.
    """
    tags = int(a.sizes[np.isin(a.groups, wanted)].sum())
    of_a, of_b = macro(a, wanted, tags), macro(b, wanted, tags)
    difference = {name: of_a[name] - of_b[name] for name in FIGURES}
    entries = {"a": of_a, "b": of_b, "difference": difference}
    return {
        "tags": tags,
        **{name: {"macro": _figures(found, tags, FIGURES)} for name, found in entries.items()},
    }


def all_tags(sums: Sums, wanted: Array, tags: int) -> dict[str, Any]:
    """One model over `tags` tags of the posts, of which it knows those in the groups `wanted`.

    `known` is how many it knows. What it does not know counts as missed. AP is none of the figures,
    as such a tag has no scores to rank.
    """
    found = macro(sums, wanted, tags)
    known = int(sums.sizes[np.isin(sums.groups, wanted)].sum())
    return {"tags": tags, "known": known, "macro": _figures(found, tags, FIGURES[:3])}


def micro(tp: Array, predicted: Array, support: Array, samples: Samples) -> dict[str, Figure]:
    """Precision, recall and F1 of all (post, tag) pairs counted together.

    `tp`, `predicted` and `support` int (posts,) are each post's right predictions, all predictions
    and tags.
    """
    right, given, true = samples.sums(np.stack([tp, predicted, support]))
    found = {
        "precision": safe_divide(right, given),
        "recall": safe_divide(right, true),
        "f1": f1(right, given, true),
    }
    return {name: figure(values[0], values[1:]) for name, values in found.items()}
