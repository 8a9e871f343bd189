"""One machine's part of the posts, where several machines share the work."""

import argparse
import re
from typing import NamedTuple


class Shard(NamedTuple):
    """The posts with id % `of` == `number`; by default, all."""

    number: int = 0
    of: int = 1

    def has(self, post_id: int) -> bool:
        """Whether the post is one of the shard's."""
        return post_id % self.of == self.number


ALL = Shard()
HELP = (  # Of --shard.
    "only posts with id %% N == I, of one machine of N with a data folder each; 0 <= I < N"
    " (default: all)"
)


def shard(text: str) -> Shard:
    """An argparse type: `I/N`, with 0 <= I < N."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    chosen = Shard(int(found[1]), int(found[2])) if found else None
    if chosen is None or chosen.number >= chosen.of:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not I/N with I from 0 to N - 1, such as 0/4, 1/4, 2/4 and 3/4"
        )
    return chosen
