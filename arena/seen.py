"""Which posts a model may have been trained on."""

from typing import Any, NamedTuple


class Training(NamedTuple):
    """The newest post that a model may have been trained on, and the first and last id % 1000 that
    it was not trained on, whatever their age."""

    last_post_id: int
    held_out: tuple[int, int] | None = None

    def may_have_seen(self, post_ids: Any) -> Any:
        """Whether the post of an id, or each of an array of ids, may have been trained on."""
        if self.held_out is None:
            return post_ids <= self.last_post_id
        (first, last), rest = self.held_out, post_ids % 1000
        return (post_ids <= self.last_post_id) & ((rest < first) | (rest > last))
