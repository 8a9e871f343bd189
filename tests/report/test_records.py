"""What the page is given of posts: packed numbers and records, read by a second decoder."""

import base64
import hashlib
import json
import re

from arena.report import posts
from arena.report.packing import packed

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st


def unpacked(text: str) -> list[int]:
    """The numbers of a text: LEB128, as its definition has it."""
    found, number, shift = [], 0, 0
    for byte in base64.b64decode(text, validate=True):
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            found.append(number)
            number = shift = 0
    assert not shift
    return found


@given(st.lists(st.integers(0, 2**53) | st.integers(0, 300)))
def test_numbers_are_packed(numbers: list[int]) -> None:
    text = packed(np.array(numbers, np.int64))
    assert unpacked(text) == numbers
    assert len(base64.b64decode(text)) == sum(max(1, -(-n.bit_length() // 7)) for n in numbers)


@settings(deadline=None)
@given(
    ids=st.sets(st.integers(1, 10**12 + 10**7), max_size=12),
    tags=st.integers(1, 700),
    models=st.integers(1, 4),
    share=st.sampled_from([0, 0.01, 0.3, 1]),
    seed=st.integers(0, 2**32),
)
def test_records_hold_what_they_are_made_of(
    ids: set[int], tags: int, models: int, share: float, seed: int
) -> None:
    shape = (1 + models, len(ids), tags)
    marks = np.random.default_rng(seed).random(shape) < share
    bits = np.packbits(marks, axis=2)
    post_ids = np.array(sorted(ids), np.int64)
    numbers = iter(unpacked(posts.records(post_ids, bits[0], list(bits[1:]))))
    before = 0
    for row, post_id in enumerate(post_ids):
        before += next(numbers)
        assert before == post_id
        for each in marks:
            steps = [next(numbers) for _ in range(next(numbers))]
            assert np.cumsum(steps).tolist() == np.flatnonzero(each[row]).tolist()
    assert next(numbers, None) is None


def test_a_file_of_records_is_named_by_what_is_in_it() -> None:
    made = posts.script(6734042, "AAECAw==")
    assert made.name == f"6734042-{hashlib.sha256(b'AAECAw==').hexdigest()[:16]}.js"
    assert posts.NAME.fullmatch(made.name)
    assert made.first == 6734042
    (arguments,) = re.findall(r"^reportPosts\((.*)\);\n$", made.text)
    assert json.loads(f"[{arguments}]") == [made.name, "AAECAw=="]
    assert made.name != posts.script(6734042, "AAECBA==").name
