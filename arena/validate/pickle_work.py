"""How much work a pickle is to load, from its opcodes alone.

torch's own reader of untrusted pickles (weights_only) takes microseconds for an opcode, and a file
may have as many opcodes as bytes. What is worse, a value can be used again by its number: a tuple
of a tuple twice, which is that of another twice, and so on, is a few bytes a level, and twice the
work a level where Python hashes it. So what is used again counts with all that is in it.

That reader also calls functions that make arrays of any size from a number or two, or whose numbers
are in no file. torch.save needs but these few for tensors and bytes, so all others are refused.
"""

import pickletools
import re
from typing import Any

MAKES = re.compile(
    r"torch\._utils _rebuild_tensor_v2|torch \w+Storage|collections OrderedDict|_codecs encode"
)

PUSHES = {
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINSTRING", "GLOBAL"),
    *("EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"),
}
# How many values become one, and how many are added to the one before; None: those since the mark.
JOINS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None, "BINPERSID": 1}
CALLS = {"REDUCE": 2, "NEWOBJ": 2}
ADDS = {"APPEND": 1, "SETITEM": 2, "BUILD": 1, "APPENDS": None, "SETITEMS": None}
TAKES = {**JOINS, **CALLS, **ADDS}
TEXT = 64  # As many letters of a text are as much work as one value.


def work(pickled: bytes, most: int) -> int:
    """The opcodes of a pickle, and for values that are used again or given to a function all that
    is in them. It is not counted on above `most`, nor after what torch does not read.

    Raises ValueError for what is no pickle, and for one of more than tensors and plain values.
    """
    done = 0
    stack: list[list[int]] = []  # How much is in each value; a list, as values grow.
    memo: dict[Any, list[int]] = {}
    marks: list[int] = []
    for opcode, argument, _ in pickletools.genops(pickled):
        done += 1
        name = opcode.name
        if name == "GLOBAL" and not MAKES.fullmatch(str(argument)):
            raise ValueError("a pickle of more than tensors")
        try:
            if name in PUSHES:
                stack.append([1 + len(argument) // TEXT if isinstance(argument, str) else 1])
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
                done += stack[-1][0]
            elif name == "MARK":
                marks.append(len(stack))
            elif name in TAKES:
                count = TAKES[name]
                start = marks.pop() if count is None else len(stack) - count
                inside = sum(value[0] for value in stack[start:])
                del stack[start:]
                if name in ADDS:
                    stack[-1][0] += inside
                else:
                    stack.append([1 + inside])
                if name in CALLS:
                    done += inside
            elif name != "PROTO":
                break
        except (IndexError, KeyError):  # Where torch ends as well.
            break
        if done > most:
            break
    return done
