"""Where, on the way down the site, there are posts that none of some models may have seen."""

from collections.abc import Sequence

from arena.seen import Training


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
