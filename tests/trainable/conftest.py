"""A file that all tests of slow decoding share."""

from tests.trainable.images import encoded, smooth

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def slow() -> bytes:
    """A progressive JPEG whose scans take minutes to decode."""
    data = encoded(Image.fromarray(smooth(6000, 6000)), "JPEG", progressive=True, quality=90)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 400 + b"\xff\xd9"
