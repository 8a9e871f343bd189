"""Whole numbers as text in as few bytes as they need, which the page unpacks (page/format.js)."""

import base64
from typing import Any

import numpy as np


def packed(numbers: "np.ndarray[Any, Any]") -> str:
    """Numbers from 0 to 2^53 (n,), seven bits a byte, the lowest first (LEB128), as base64."""
    rest = numbers.astype(np.int64)
    digits = []
    while True:
        more = rest > 127
        digits.append(np.where(more, rest & 127 | 128, rest))
        if not more.any():
            break
        rest = np.where(more, rest >> 7, -1)
    table = np.stack(digits, axis=1)
    return base64.b64encode(table[table >= 0].astype(np.uint8).tobytes()).decode()
