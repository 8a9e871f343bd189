"""What is compressed comes out whole, however it is cut up, and never more than a chunk at once."""

import gzip
import random
import zlib

from arena.download import answer
from arena.download.errors import TransientError

import pytest
from hypothesis import given
from hypothesis import strategies as st

CONTENT = st.one_of(st.binary(max_size=300), st.integers(0, 300_000).map(bytes))


def cut(data: bytes, seed: int) -> list[bytes]:
    """`data` in pieces of random lengths."""
    dice, pieces = random.Random(seed), []
    while data:
        size = dice.choice([1, 2, 7, 1000, 65536])
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@given(st.lists(CONTENT, min_size=1, max_size=4), st.integers())
def test_members_come_out_whole(members: list[bytes], seed: int) -> None:
    packed = b"".join(gzip.compress(member, mtime=0) for member in members)
    pieces = list(answer._gunzip(iter(cut(packed, seed))))
    assert b"".join(pieces) == b"".join(members)
    assert max(map(len, pieces)) <= answer.CHUNK_BYTES


@given(CONTENT, st.integers(), st.data())
def test_what_is_cut_short_is_noticed(content: bytes, seed: int, data: st.DataObject) -> None:
    packed = gzip.compress(content, mtime=0)
    packed = packed[: data.draw(st.integers(0, len(packed) - 1))]
    with pytest.raises(TransientError, match="not whole gzip"):
        list(answer._gunzip(iter(cut(packed, seed))))


@given(st.binary(min_size=1, max_size=40), st.integers())
def test_what_is_no_gzip_is_noticed(content: bytes, seed: int) -> None:
    for packed in (content, gzip.compress(b"x") + content, zlib.compress(content)):
        if not content.startswith(b"\x1f\x8b"):
            with pytest.raises(TransientError, match="not whole gzip"):
                list(answer._gunzip(iter(cut(packed, seed))))
