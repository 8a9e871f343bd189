"""Where, on the way down the site, there are posts that none of some models may have seen."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from arena import posts
from arena.seen import Training


@dataclass
class Relatives:
    """The families of the posts looked at so far, and which of them a model may have seen.

    A post names its parent, but not its children. So one is kept although its child, or its sibling
    of an unseen parent, may have been seen, where those stand further down the site than its page,
    or on a page that is not asked for as no post on it can be kept.
    """

    models: Sequence[Training]
    _up: dict[int, int] = field(default_factory=dict)  # To another of the family; itself: its head.
    _seen: set[int] = field(default_factory=set)  # The heads of families that may have been seen.

    def look_at(self, post: dict[str, Any]) -> None:
        """Note a post's parent, if there is one."""
        parent = posts.parent_id(post)
        if not self.models or parent is None:
            return
        heads = {self._head(post["id"]), self._head(parent)}
        seen = self._alone(post["id"]) or self._alone(parent)
        if seen or heads & self._seen:
            self._seen |= heads
        self._up |= dict.fromkeys(heads, max(heads))

    def may_be_seen(self, post_id: int) -> bool:
        """Whether a model may have been trained on the post, or on one of its family."""
        if self._alone(post_id):
            return True
        return post_id in self._up and self._head(post_id) in self._seen

    def _alone(self, post_id: int) -> bool:
        return any(model.may_have_seen(post_id) for model in self.models)

    def _head(self, post_id: int) -> int:
        """The member that stands for a post's family; chains to it are halved on the way."""
        while (up := self._up.get(post_id, post_id)) != post_id:
            self._up[post_id] = post_id = self._up.get(up, up)
        return post_id


def lowest(models: Sequence[Training]) -> int:
    """The id below which every post may have been seen by one of the models.

    1 where posts of any age can be unseen: those that all models held out.
    """
    first, last = 0, 999
    for model in sorted(models, key=lambda model: -model.last_post_id):
        # From here down this model, too, leaves only what it held out.
        low, high = model.held_out or (1000, 0)
        first, last = max(first, low), min(last, high)
        if first > last:
            return model.last_post_id + 1
    return 1


def next_below(models: Sequence[Training], below: int) -> int:
    """An id just above the highest post under `below` that none of the models may have seen.

    `lowest` or less where there is none.
    """
    end, post_id = lowest(models), below - 1
    while post_id >= end:
        lower = min((_highest_unseen(model, post_id) for model in models), default=post_id)
        if lower == post_id:
            break
        post_id = lower
    return post_id + 1


def _highest_unseen(model: Training, post_id: int) -> int:
    """The highest id up to `post_id` that the model cannot have seen; less than 1 for none."""
    if not model.may_have_seen(post_id):
        return post_id
    if model.held_out is None:
        return 0
    return post_id - (post_id - model.held_out[1]) % 1000
