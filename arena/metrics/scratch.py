"""A scratch file without a name: it goes with the process that made it, however that ends.

Pieces are read into arrays, not mapped, as mapped pages would count as memory.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


class ScratchFile:
    """A new file in a folder, which nobody else sees; closed when nothing needs it any longer.

    Whatever makes, reads or writes it raises the OSError of the file system, with the folder's name
    in it.
    """

    def __init__(self, folder: Path, size: int = 0) -> None:
        """`size` bytes, all 0."""
        self.folder = folder
        with self._telling(), tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(size)
            self._number = os.dup(file.fileno())

    def __del__(self) -> None:
        if hasattr(self, "_number"):  # Else the folder takes no file.
            os.close(self._number)

    def read(self, offset: int, into: np.ndarray) -> None:
        """Fill a contiguous array with the bytes from `offset` on."""
        self._move(os.preadv, offset, into)

    def write(self, offset: int, values: np.ndarray) -> None:
        """Put a contiguous array's bytes in the place of those from `offset` on."""
        self._move(os.pwritev, offset, values)

    def _move(self, call: Any, offset: int, values: np.ndarray) -> None:
        """Read or write all of an array: a call may move less than it is asked to."""
        rest = memoryview(values.reshape(-1).view(np.uint8).data)
        with self._telling():
            while len(rest):
                moved = call(self._number, [rest], offset)
                if not moved:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                rest, offset = rest[moved:], offset + moved

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Name the folder in an OSError: the file has no name, or one that nobody knows."""
        try:
            yield
        except OSError as error:
            error.filename = str(self.folder)
            raise
