"""A model's figures at its own threshold, added up over groups of tags in every sample.

A mean over any set of tags that is made of whole groups comes from these sums, so that the sets of
many pairs of models are counted once, and no figure of each tag in each sample is kept.
"""

from dataclasses import dataclass

from arena.metrics.blocks import Array
from arena.metrics.bootstrap import Predicted
from arena.metrics.formulas import f1, safe_divide

import numpy as np

FIGURES = ("precision", "recall", "f1", "ap")


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of one model.

    `groups` int (groups,) are the groups' numbers, `sizes` (groups,) how many tags each has, and
    `figures` float64 (4, groups, samples) are FIGURES added up over those tags; sample 0 is all
    posts. `group` (tags,) gives each tag's group, and `predicted` what is predicted of each.
    Figures spread `wider` by these factors than their resamples (influence.py).
    """

    groups: Array
    sizes: Array
    figures: Array
    group: Array
    predicted: Predicted
    wider: dict[str, float]

    @classmethod
    def of(
        cls,
        group: Array,
        support: Array,
        tp: Array,
        predicted: Array,
        ap: Array,
        once: Predicted,
        wider: dict[str, float],
    ) -> "Sums":
        """From what was counted of every tag in every sample: (tags, samples), and `group` (tags,).

        `once` is what is predicted of each tag. AP is added up as it is given: zeros where it is
        not asked for.
        """
        order = np.argsort(group, kind="stable")
        groups, starts, sizes = np.unique(group[order], return_index=True, return_counts=True)
        each = safe_divide(tp, predicted), safe_divide(tp, support), f1(tp, predicted, support), ap
        figures = np.zeros((len(FIGURES), len(groups), support.shape[1]))
        if len(group):
            for sums, values in zip(figures, each, strict=True):
                np.add.reduceat(values[order], starts, axis=0, out=sums)
        return cls(groups, sizes, figures, group, once, wider)

    def plus(self, other: "Sums") -> "Sums":
        """The sums of the same model over the tags of both."""
        return Sums(
            np.concatenate([self.groups, other.groups]),
            np.concatenate([self.sizes, other.sizes]),
            np.concatenate([self.figures, other.figures], axis=1),
            np.concatenate([self.group, other.group]),
            Predicted(*map(np.concatenate, zip(self.predicted, other.predicted, strict=True))),
            self.wider,
        )
